"""Tables and folders that nobody expects are read, or refused in sentences that can be printed."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from product_cls.data.incoming import list_images
from product_cls.data.label_table import read_label_table
from product_cls.data.people import read_people
from product_cls.data.readers import read_competition, read_csv, read_folder
from product_cls.data.suspicions import suspicions

CELLS = st.one_of(
    st.sampled_from(["", "0.jpg", "1", "a", " a", "é", "e\u0301", "..", "/", '"', "\0", "x" * 300]),
    st.text(max_size=6),
)
HEADERS = st.sampled_from(["path,label", "filename,prediction", "index,a,b", "label,label", ""])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp949", "latin-1"])
NAMES = st.lists(
    st.one_of(CELLS, st.binary(min_size=1, max_size=4).map(os.fsdecode)), min_size=1, max_size=3
)


def answers_or_refuses(read: Callable[[], object]) -> None:
    try:
        read()
    except ValueError as error:
        str(error).encode()


@fuzz(2)
@given(
    HEADERS, st.lists(st.lists(CELLS, max_size=4), max_size=5), st.sampled_from(",;\t|"), ENCODINGS
)
def test_tables(header: str, rows: list[list[str]], mark: str, encoding: str) -> None:
    text = header.replace(",", mark) + "\n" + "".join(mark.join(row) + "\n" for row in rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a" / "0").mkdir(parents=True)
        (folder / "a" / "0" / "0.jpg").touch(), (folder / "1.png").touch()
        for file in ("train.csv", "sample.csv", "info.csv"):
            (folder / file).write_bytes(text.encode(encoding, "replace"))
        for column in ("path", "filename"):
            answers_or_refuses(lambda: read_csv(folder / "train.csv", path_column=column))  # noqa: B023
        answers_or_refuses(lambda: list_images(folder / "train.csv"))
        answers_or_refuses(lambda: read_competition(folder))
        answers_or_refuses(lambda: read_people(folder, test=folder))
        answers_or_refuses(
            lambda: read_label_table(folder, train_pictures=".", suffix=None, test_pictures=".")
        )


@fuzz(2)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["file", "pipe", "link", "up"])), max_size=6))
def test_folders(entries: list[tuple[list[str], str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for parts, kind in entries:
            names = [part.replace("/", "").replace("\0", "")[:60] for part in parts]
            names = [part for part in names if part not in ("", ".", "..")]
            if not names:
                continue
            path = folder.joinpath(*names).with_name(f"{names[-1]}.jpg")
            if os.path.lexists(path):  # writing to a pipe of an earlier entry would wait forever
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    path.write_bytes(b"x")
                elif kind == "pipe":
                    os.mkfifo(path)
                else:
                    path.symlink_to(folder if kind == "up" else "x" * 300)
            except OSError:  # a name too long, or taken by another entry
                continue
        answers_or_refuses(lambda: list_images(folder))
        answers_or_refuses(lambda: suspicions(read_folder(folder, on_empty="drop"), "label"))
        answers_or_refuses(lambda: read_people(folder))
