"""Tables that people drop into a folder: read, or refused with one line."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, mutated, refusing
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from product_cls.data.folds_file import load_or_make_folds
from product_cls.data.incoming import list_images
from product_cls.data.label_table import read_label_table
from product_cls.data.readers import read_competition, read_csv, read_grocery

pytestmark = pytest.mark.usefixtures("nothing_outside")

NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png", "f.png", "00001.png", "00002.png")
VALID = "path,label,split,view,group\n" + "".join(
    f"{name},{'xy'[k % 2]},{('train', 'val')[k // 6]},{30 * (k % 2)},g{k % 3}\n"
    for k, name in enumerate(NAMES)
)
HEADERS = st.sampled_from(
    [
        *("path", "label", "id", "split", "view", "group", "index", "number", "filename", "fold"),
        *("", " ", "path ", "target", "label\0", "\ufeffpath", "라벨", "PATH", "0", "=1+1", "a,b"),
        "Unnamed: 0",
    ]
)
CELLS = st.sampled_from(
    [
        *NAMES,
        *("x", "y", "x ", " x", "X", "train", "val", "test", "0", "1", "1.0", "01", "-1", "1e400"),
        *("", "nan", "NA", "None", "true", "가", "\u1100\u1161", "é", "e\u0301", "../here/a.png"),
        *("/etc/passwd", "a\0b", "q\rq", "x\ny", '"', "'", "=cmd()", "🛒", "~", "C:\\x", "."),
        *("x" * 300, "http://host/a.png", "${oc.env:HOME}", "*", "9" * 25, "inf", "1_000", "²"),
    ]
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=9)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp949", "latin-1")


@st.composite
def tables(draw: st.DrawFn, *required: str) -> bytes:
    """A table: a valid one with odd cells, one of odd headers, or bytes."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(mutated(VALID.encode()))
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t", "|", " "]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    header = [*required, *draw(st.lists(HEADERS, max_size=4))]
    if kind == 2:
        header = draw(st.permutations(header)) or [""]
    rows = draw(ROWS)
    if kind >= 4:  # rows of the header's width, with pictures in the first column
        rows = [
            [NAMES[k], *(row * len(header))[: len(header) - 1]] for k, row in enumerate(rows[:8])
        ]
    quote = draw(st.booleans())
    cell = (lambda text: '"' + text.replace('"', '""') + '"') if quote else str
    text = "".join(separator.join(map(cell, row)) + end for row in [header, *rows])
    return text.encode(draw(st.sampled_from(ENCODINGS)), errors="replace")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures, to which each input writes its tables."""
    folder = tmp_path / "data"
    for part in ("", "train", "test", "train/x", "train/y"):
        (folder / part).mkdir(exist_ok=True, parents=True)
        for name in NAMES:
            Image.new("RGB", (8, 8)).save(folder / part / name)
    return folder


def check(table: pd.DataFrame, folder: Path) -> None:
    """What every sample table promises; then its folds are made, written and read."""
    assert len(table) and table["id"].is_unique
    assert all(Path(path).is_file() for path in table["path"])
    assert set(table["split"]) <= {"train", "val", "test"}
    file = folder.parent / "cache" / "folds.csv"
    shutil.rmtree(file.parent, ignore_errors=True)
    if "label" not in table:
        return
    with refusing():
        first = load_or_make_folds(file, table, "stratified", n_splits=2)
        again = load_or_make_folds(file, table, "stratified", n_splits=2)
        assert first.equals(again)
        assert set(first.index) == set(table["id"][table["split"] != "test"])


COLUMNS = st.sampled_from([None, "label", "split", "view", "group", "path", "id", "", "라벨"])


@fuzz()
@given(
    tables("path", "label"),
    st.sampled_from(["path", "filename", "id"]),
    st.tuples(*[COLUMNS] * 4),
)
def test_csv(pictures: Path, content: bytes, path: str, columns: tuple[str | None, ...]) -> None:
    (pictures / "table.csv").write_bytes(content)
    roles = ("label_column", "split_column", "view_column", "group_column")
    options: dict[str, Any] = {"path_column": path, **dict(zip(roles, columns, strict=True))}
    for chosen in (options, {}):
        with refusing():
            check(read_csv(pictures / "table.csv", **chosen), pictures)


@fuzz()
@given(tables("index", "x", "y"), tables("index", "x", "y"), st.sampled_from([None, "number", "x"]))
def test_label_table(pictures: Path, train: bytes, test: bytes, number: str | None) -> None:
    (pictures / "train.csv").write_bytes(train)
    (pictures / "test.csv").write_bytes(test)
    for options in (
        {"test_file": "test.csv"},
        {"test_file": "test.csv", "answers_file": "test.csv"},
    ):
        with refusing():
            table = read_label_table(pictures, number_column=number, **options)
            assert table["id"].is_unique


@fuzz(0.5)
@given(tables("filename"), tables("id", "label", "pitch"), tables("label"))
def test_competition(pictures: Path, sample: bytes, views: bytes, catalogue: bytes) -> None:
    (pictures / "sample.csv").write_bytes(sample)
    (pictures / "views.csv").unlink(missing_ok=True)
    (pictures / "catalogue.csv").unlink(missing_ok=True)
    with refusing():
        check(read_competition(pictures), pictures)
    (pictures / "sample.csv").write_text("filename\na.png\nb.png\n")
    (pictures / "catalogue.csv").write_bytes(catalogue)
    with refusing():
        check(read_competition(pictures), pictures)
    (pictures / "views.csv").write_bytes(views)
    with refusing():
        check(read_competition(pictures), pictures)


@fuzz(0.5)
@given(tables("a.png"), tables("x", "0", "y", "1"))
def test_grocery(pictures: Path, train: bytes, classes: bytes) -> None:
    (pictures / "train.txt").write_bytes(train)
    (pictures / "classes.csv").write_bytes(classes)
    with refusing():
        check(read_grocery(pictures), pictures)


@fuzz()
@given(tables("path"))
def test_pictures_to_predict(pictures: Path, content: bytes) -> None:
    (pictures / "new.csv").write_bytes(content)
    with refusing():
        assert all(name for name, _ in list_images(pictures / "new.csv"))


@fuzz()
@given(tables("id", "fold") | mutated(b"id,fold\na.png,0\nb.png,1\nc.png,0\nd.png,1\n"))
def test_own_folds(pictures: Path, content: bytes) -> None:
    names = list(NAMES[:4])
    samples = pd.DataFrame({"id": names, "path": names, "split": "train", "label": list("xyxy")})
    (pictures / "folds.csv").write_bytes(content)
    with refusing():
        folds = load_or_make_folds(pictures / "folds.csv", samples, "stratified", n_splits=2)
        assert folds.index.tolist() == names and folds.dtype == np.int64 and (folds >= -1).all()
    assert (pictures / "folds.csv").read_bytes() == content
