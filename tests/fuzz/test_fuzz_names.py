"""Names of folders and files as other systems write them, and as nobody should."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fuzzing import fuzz, refusing
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from product_cls.core.files import digest
from product_cls.core.tables import read_csv_rows, write_csv
from product_cls.data.folds_file import load_or_make_folds
from product_cls.data.incoming import list_images
from product_cls.data.people import read_people
from product_cls.data.readers import read_folder
from product_cls.data.store import build_store

pytestmark = pytest.mark.usefixtures("nothing_outside")

ODD = [
    *(
        b".",
        b"..",
        b" ",
        b"a ",
        b" a",
        b"a",
        b"A",
        b"a.",
        b"a\r",
        b"a\nb",
        b"a\tb",
        b"\x1b[31m",
        b"\x7f",
    ),
    *(
        "가".encode(),
        "\u1100\u1161".encode(),
        "가".encode("cp949"),
        b"\xff\xfe",
        "é".encode(),
        "e\u0301".encode(),
    ),
    *(
        b"test",
        b"train",
        b"val",
        b"status.json",
        b".lock",
        b"folds.csv",
        b"store-16x16-squash",
        b"index.json",
    ),
    *(
        b"__MACOSX",
        b"@eaDir",
        b".DS_Store",
        b"Thumbs.db",
        b".ipynb_checkpoints",
        b"._a",
        b"~",
        b"-rf",
        b"null",
    ),
    *(
        b"x" * 255,
        "가".encode() * 80,
        b"1e10",
        b"0012",
        b"2024",
        b"a,b",
        b'"',
        b"'",
        b"=1+1",
        b"#",
        b"%s",
        b"{0}",
    ),
    *(
        b"${oc.env:HOME}",
        b"a\\b",
        b"C:",
        b"*",
        b"[1-3]",
        b"\xe2\x80\xae",
        "🛒".encode(),
        b"a.tar",
        b"\xc2\xb2",
    ),
]
PART = st.sampled_from(ODD) | st.binary(min_size=1, max_size=12)
SUFFIX = st.sampled_from(
    [b".jpg", b".JPG", b".png", b".jpeg", b".jfif", b".webp", b"", b".txt", b".jpg "]
)


def usable(name: bytes) -> bool:
    """Whether a file system takes the name."""
    return (
        0 < len(name) < 256 and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    )


NAME = PART.filter(usable)
FILE = st.builds(lambda stem, suffix: stem + suffix, PART, SUFFIX).filter(usable)
TREES = st.dictionaries(NAME, st.lists(FILE, max_size=4), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("picture") / "a.png"
    Image.new("RGB", (9, 9), (200, 30, 30)).save(file)
    return file


def grown(root: Path, tree: dict[bytes, list[bytes]], picture: Path) -> Path:
    """A new folder with the tree's folders, whose files are pictures."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for folder, files in tree.items():
        place = root / os.fsdecode(folder)
        place.mkdir(exist_ok=True)
        for name in ("1.png", "2.png", *map(os.fsdecode, files)):
            if not os.path.lexists(place / name):
                (place / name).hardlink_to(picture)
    return root


def carried(table: pd.DataFrame, cache: Path) -> None:
    """A sample table on its way: folds, image store, and a CSV for people."""
    folds = load_or_make_folds(cache / "folds.csv", table, "stratified", n_splits=2)
    assert folds.equals(load_or_make_folds(cache / "folds.csv", table, "stratified", n_splits=2))
    store = build_store(table, cache / "store", (16, 16), on_unreadable="drop", threads=1, warn=str)
    assert store.ids == table["id"].tolist()
    assert digest(store.ids)
    write_csv(cache / "table.csv", table[["id", "label"]])
    rows = read_csv_rows((cache / "table.csv").read_bytes().decode())
    assert rows[1:] == [
        [row.id, row.label] for row in table[["id", "label"]].fillna("").itertuples()
    ]


@fuzz()
@given(TREES, st.none() | TREES)
def test_class_folders(
    tmp_path: Path,
    picture: Path,
    tree: dict[bytes, list[bytes]],
    test: dict[bytes, list[bytes]] | None,
) -> None:
    root = grown(tmp_path / "root", tree, picture)
    test_root = None if test is None else grown(tmp_path / "new", test, picture)
    cache = tmp_path / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    with refusing():
        table = read_folder(root, test=test_root)
        assert table["id"].is_unique and all(Path(path).is_file() for path in table["path"])
        carried(table, cache)


@fuzz()
@given(st.lists(FILE, max_size=6))
def test_pictures_to_predict(tmp_path: Path, picture: Path, files: list[bytes]) -> None:
    root = grown(tmp_path / "new", {b"sub": files}, picture)
    with refusing():
        images = list_images(root)
        assert len({name for name, _ in images}) == len(images)
        assert all(path.is_file() for _, path in images)


@fuzz(0.5)
@given(
    st.lists(st.builds(lambda a, b: a + b"_male_Asian_" + b, PART, PART).filter(usable), max_size=3)
)
def test_people(tmp_path: Path, picture: Path, names: list[bytes]) -> None:
    files = [b"mask1.jpg", b"normal.jpg"]
    root = grown(
        tmp_path / "people", {b"1_female_Asian_30": files, **dict.fromkeys(names, files)}, picture
    )
    for file in root.glob("*/?.png"):
        file.unlink()
    with refusing():
        assert read_people(root)["id"].is_unique
