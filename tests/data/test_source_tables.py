"""Tables that users bring: encodings, separators, and names in other forms."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from product_cls.data.incoming import list_images
from product_cls.data.readers import read_competition, read_csv
from product_cls.data.source_files import FileFinder
from product_cls.data.source_tables import read_table, read_text

ROWS = [
    ("path", "label", "note"),
    *((f"{n}.jpg", "콜라" if n % 2 else "우유", "") for n in range(6)),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for n in range(6):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{n}.jpg")
    return tmp_path


def text(mark: str = ",") -> str:
    return "".join(mark.join(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp949"]
)
def test_encodings_and_separators_are_recognised(root: Path, mark: str, encoding: str) -> None:
    (root / "t.csv").write_bytes(text(mark).replace("\n", "\r\n").encode(encoding))
    table = read_csv(root / "t.csv")
    assert table["label"].tolist() == ["우유", "콜라"] * 3
    assert [name for name, _ in list_images(root / "t.csv")] == [f"{n}.jpg" for n in range(6)]


def test_a_guess_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "t.csv").write_bytes(text().encode())
    read_csv(root / "t.csv")
    assert not caplog.records
    (root / "t.csv").write_bytes(text().encode("cp949"))
    read_csv(root / "t.csv")
    assert "is read as CP949" in caplog.text


@pytest.mark.parametrize(
    ("label", "encoding"),
    [("Äpfel", "cp1252"), ("crème brûlée", "cp1252"), ("りんごジュース", "shift_jis")],
)
def test_other_encodings_are_asked_for(root: Path, refused: Any, label: str, encoding: str) -> None:
    file = root / "t.csv"
    file.write_bytes(text().replace("콜라", label).replace("우유", "b").encode(encoding))
    with refused("encoding=null", "neither UTF-8 nor UTF-16 nor clearly CP949", "set its encoding"):
        read_csv(file)
    with refused("neither UTF-8", "save it as UTF-8"):
        list_images(file)
    assert set(read_csv(file, encoding=encoding)["label"]) == {label, "b"}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"encoding": "klingon"}, ["encoding=klingon", "cp949"]),
        ({"encoding": "ascii"}, ["encoding=ascii", "t.csv cannot be read with it"]),
        ({"encoding": "base64"}, ["encoding=base64"]),
        ({"separator": "ab"}, ["separator=ab", "semicolon"]),
        ({"separator": '"'}, ['separator="', "one ASCII character"]),
        ({"separator": "é"}, ["separator=é", "one ASCII character"]),
        ({"separator": ";"}, ["has no column 'path'", "it has path,label,note"]),
    ],
)
def test_wrong_settings(
    root: Path, refused: Any, settings: dict[str, str], parts: list[str]
) -> None:
    (root / "t.csv").write_bytes(text().encode())
    with refused(*parts):
        read_csv(root / "t.csv", **settings)


def test_separators_in_cells(root: Path) -> None:
    rows = "path;label;price\n" + "".join(f'{n}.jpg;"a,b|{n % 2}";1,5\n' for n in range(6))
    (root / "t.csv").write_text(rows)
    assert read_csv(root / "t.csv")["label"].tolist() == ["a,b|0", "a,b|1"] * 3
    (root / "t.csv").write_text("sep=;\n" + rows)  # the first line that Excel writes
    assert read_csv(root / "t.csv", separator="semicolon")["price"].unique().tolist() == ["1,5"]
    (root / "t.csv").write_text(rows.replace("path;label", " path ; label "))
    assert len(read_csv(root / "t.csv")) == 6


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"PK\x03\x04 a workbook", "is a workbook or an archive; save it as CSV"),
        (b"path,label\n0.jpg,a\x00\n" * 3, "neither UTF-8"),
        (b"\xff\xfe\x00", "neither UTF-8"),
        (b"", "cannot be read as a CSV"),
        (b"," * 200_000, "more than 100000 columns"),
        (b"path,label,sku, sku\n0.jpg,a,b,c\n1.jpg,a,b,c\n", "has several columns 'sku'"),
        (b"path,label, label\n0.jpg,a,b\n1.jpg,a,b\n", "has several columns 'label'"),
        (b'path,label\n"0.jpg', "cannot be read as a CSV"),
    ],
)
def test_what_is_no_table(root: Path, refused: Any, content: bytes, part: str) -> None:
    (root / "t.csv").write_bytes(content)
    with refused("t.csv", part):
        read_csv(root / "t.csv")


def test_names_are_composed(root: Path) -> None:
    decomposed = unicodedata.normalize("NFD", text().replace("note", "메모"))
    (root / "t.csv").write_text(decomposed)
    table = read_table(root / "t.csv", ["path", "메모"])
    assert table["label"].unique().tolist() == ["우유", "콜라"]
    assert read_text(root / "t.csv") == decomposed


@pytest.mark.parametrize("on_disk", ["NFC", "NFD", "mixed"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD", "mixed"])
def test_pictures_in_another_unicode_form(tmp_path: Path, on_disk: str, in_table: str) -> None:
    def form(which: str, *parts: str) -> str:
        forms = ("NFC", "NFD") if which == "mixed" else (which, which)
        return "/".join(map(unicodedata.normalize, forms, parts))

    for k, label in enumerate(("딸기", "초코")):
        for n in range(2):
            path = tmp_path / form(on_disk, label, f"그림 {n}.jpg")
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (k, n, 0)).save(path)
    names = [form(in_table, label, f"그림 {n}.jpg") for label in ("딸기", "초코") for n in (0, 1)]
    rows = [f"{name},{form(in_table, name.partition('/')[0])}\n" for name in names]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows))
    table = read_csv(tmp_path / "t.csv")
    assert table["label"].tolist() == ["딸기", "딸기", "초코", "초코"]
    assert all(unicodedata.is_normalized("NFC", name) for name in table["id"])
    assert all(Path(path).is_file() for path in table["path"])
    assert all(path.is_file() for _, path in list_images(tmp_path / "t.csv"))


def test_paths_without_a_suffix(root: Path, refused: Any) -> None:
    file = root / "t.csv"
    file.write_text("id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(6)))
    for suffix in (None, ".jpg", "jpg"):
        table = read_csv(file, path_column="id", suffix=suffix)
        assert table["id"].tolist() == list("012345")
        assert Path(table["path"].iloc[3]) == root / "3.jpg"
    with refused("names 6 pictures that do not exist", "0.png", "others are 1, 2, 3, 4, 5"):
        read_csv(file, path_column="id", suffix=".png")
    Image.new("RGB", (8, 8)).save(root / "3.png")
    with refused("suffix=null", "1 pictures", "the first is 3: 3.jpg, 3.png", "set the suffix"):
        read_csv(file, path_column="id")
    assert read_csv(file, path_column="id", suffix=".jpg")["path"].is_unique


def test_the_sample_file_in_another_form(tiny_root: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).symlink_to(tiny_root / part)
    names = (tiny_root / "sample.csv").read_text()
    (tmp_path / "sample.csv").write_bytes(
        names.replace(",", ";").replace("prediction", "예측").encode("utf-16")
    )
    table, given = read_competition(tmp_path), read_competition(tiny_root)
    assert table["id"].tolist() == given["id"].tolist()
    (tmp_path / "sample.csv").write_text(names.replace(".jpg", ""))
    found = read_competition(tmp_path)
    assert [Path(path).name for path in found["path"]] == [Path(p).name for p in given["path"]]


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0b.jpg", "..", "/", "", "pipe", "no/1"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert FileFinder(tmp_path).find(name) is None


def test_columns_that_a_spreadsheet_leaves_are_no_labels(root: Path) -> None:
    (root / "t.csv").write_text(text().replace("\n", ",,\n"))
    assert not [name for name in read_csv(root / "t.csv") if str(name).startswith("Unnamed")]


def test_a_broken_table_makes_no_message_of_megabytes(root: Path) -> None:
    (root / "t.csv").write_text(text() + f"\x1b[2J{'x' * 10**6},a\n")
    with pytest.raises(ValueError) as caught:
        read_csv(root / "t.csv")
    assert len(str(caught.value)) < 5000 and "\x1b" not in str(caught.value)
