"""Which files count as pictures, and what is said about the others."""

import logging
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from product_cls.data import listing
from product_cls.data.incoming import list_images
from product_cls.data.listing import SUFFIXES, class_folders, list_pictures, scan
from product_cls.data.readers import read_folder
from product_cls.retrieval.index.add import list_products


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in list_pictures(folder)]


def test_every_suffix_in_any_case_and_order(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        touch(tmp_path / f"a{suffix}")
        touch(tmp_path / f"b{suffix.upper()}")
    assert len(names(tmp_path)) == 2 * len(SUFFIXES)
    assert {".jfif", ".avif", ".heic", ".heif"} < set(SUFFIXES)


def test_other_files_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "1.TXT", "2.txt", "x/3.txt", "x/4.psd", "README", "x/.hidden.txt"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["a.jpg"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "left out as no pictures: 3 .txt, 1 .psd, 1 files without a suffix." in caplog.text


@pytest.mark.parametrize(
    "junk",
    ["@eaDir", "__MACOSX", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN", ".Trash", "@EADIR"],
)
def test_what_systems_and_tools_leave(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, junk: str
) -> None:
    touch(tmp_path / "a" / "1.jpg"), touch(tmp_path / "b" / "1.jpg")
    touch(tmp_path / "a" / "2.jpg"), touch(tmp_path / "b" / "2.jpg")
    touch(tmp_path / "a" / junk / "1.jpg")
    touch(tmp_path / junk / "b" / "1.jpg")
    touch(tmp_path / "a" / "Thumbs.db"), touch(tmp_path / "a" / "._1.jpg")
    assert read_folder(tmp_path)["id"].tolist() == ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    assert len(list_pictures(tmp_path)) == 4 and not caplog.records


def test_links_are_read_and_circles_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, aside = tmp_path / "root", tmp_path / "aside"
    touch(root / "a" / "1.jpg"), touch(root / "b" / "1.jpg"), touch(aside / "deep" / "3.jpg")
    (root / "a" / "2.jpg").symlink_to(root / "b" / "1.jpg")
    (root / "a" / "more").symlink_to(aside)
    (root / "c").symlink_to(aside)
    assert names(root / "a") == ["1.jpg", "2.jpg", "more/deep/3.jpg"]
    assert not caplog.records
    (root / "a" / "up").symlink_to(root)  # would bring the pictures of other classes
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "a" / "gone.jpg").symlink_to(root / "gone.jpg")
    (root / "a" / "again").symlink_to(aside)
    (aside / "back").symlink_to(root / "a")
    (root / "long").symlink_to("x" * 300)
    assert [path.name for path in class_folders(root)] == ["a", "b", "c"]
    assert names(root / "a") == ["1.jpg", "2.jpg", "again/deep/3.jpg"]
    assert scan(root / "a").left_out == {
        "links to folders that are listed already": 3,
        "links to no file": 2,
    }
    # A picture has its own path, not that of a link that is listed before.
    assert "b/1.jpg" in names(root) and "a/up/b/1.jpg" not in names(root)


def test_a_pipe_is_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a" / "1.jpg")
    os.mkfifo(tmp_path / "a" / "2.jpg")
    assert names(tmp_path) == ["a/1.jpg"]
    assert "1 pipes, sockets or devices" in caplog.text


def test_pictures_that_need_another_package(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    for name in ("a/1.jpg", "a/2.heic", "b/1.HEIF", "b/2.heic"):
        touch(tmp_path / name)
    assert len(names(tmp_path)) == 4
    monkeypatch.setattr(listing.importlib.util, "find_spec", lambda name: None)
    assert names(tmp_path) == ["a/1.jpg"]
    assert '2 .heic (pip install "product-cls[heif]" reads them)' in caplog.text
    with refused("on_empty=stop", "b holds no picture, only other files", "product-cls[heif]"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", [b"\xbb\xe7.jpg", b"\xb0\xa1/1.jpg"])
def test_names_that_are_not_utf8(tmp_path: Path, refused: Any, name: bytes) -> None:
    touch(tmp_path / "a" / "1.jpg"), touch(tmp_path / "b" / "1.jpg")
    touch(Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/" + name)))
    for read in (list_pictures, list_images, list_products):
        with refused("not UTF-8", "\\udcb", "convmv", "unzip -O cp949"):
            read(tmp_path)
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        read_folder(tmp_path)
    str(caught.value).encode()  # can be printed


def test_a_class_whose_name_is_not_utf8(tmp_path: Path, refused: Any) -> None:
    for name in (b"a", b"b", b"\xb0\xa1"):
        for n in range(2):
            touch(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)) / f"{n}.jpg")
    with refused("1 files or folders have names that are not UTF-8", "/\\udcb0\\udca1;"):
        read_folder(tmp_path)


def test_order_and_names_do_not_depend_on_the_unicode_form(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        for name in ("é", "f", "e", "가", "까"):
            touch(tmp_path / form / (unicodedata.normalize(form, name) + ".png"))
    composed, decomposed = (list_images(tmp_path / form) for form in ("NFC", "NFD"))
    assert [name for name, _ in composed] == [name for name, _ in decomposed]
    assert all(path.is_file() for _, path in decomposed)


def test_two_forms_of_one_name_in_a_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for form in ("NFC", "NFD"):
        for n in range(2):
            file = tmp_path / unicodedata.normalize(form, "café") / f"{n}.jpg"
            touch(file)
    Image.new("RGB", (8, 8)).save(touch(tmp_path / "tea" / "0.jpg"))
    touch(tmp_path / "tea" / "1.jpg")
    table = read_folder(tmp_path)
    assert table["label"].value_counts().to_dict() == {"café": 4, "tea": 2}
    assert table["id"].tolist()[:4] == ["café/0.jpg", "café/1.jpg", "café/0.jpg~2", "café/1.jpg~2"]
    assert table["path"].nunique() == 6
    assert "2 pictures have the name of another in a second Unicode form" in caplog.text
