"""The index on disk."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Refused
from made_index import forge, made_index

from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.store import GalleryIndex, Rejection
from product_cls.retrieval.index.writing import lock_index, write_index


def test_round_trip(tmp_path: Path) -> None:
    index = replace(made_index(7, 4), vote=Vote("nearest", 2), rejection=Rejection(0.7, 0.9, 0.8))
    write_index(index, tmp_path / "products", extras={"note.txt": b"read me"})
    opened = GalleryIndex.open(tmp_path / "products")
    for name in ("id", "path", "target", "embedding"):
        assert (getattr(opened, name) == getattr(index, name)).all()
    for name in ("sources", "classes", "kind", "vote", "rejection"):
        assert getattr(opened, name) == getattr(index, name)
    assert (tmp_path / "products" / "note.txt").read_bytes() == b"read me"


def test_similarities_of_ivfpq_are_cosines(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = made_index(300, 16, kind="ivfpq")
    write_index(index, tmp_path / "products")
    opened = GalleryIndex.open(tmp_path / "products")
    queries = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    neighbours = opened.search(queries, 4)
    cosine = np.take_along_axis(queries @ index.embedding.T, neighbours.position, axis=1)
    assert neighbours.similarity == pytest.approx(cosine, abs=1e-6)
    assert (np.diff(neighbours.similarity, axis=1) <= 0).all()


def test_added_rows_are_appended(refused: Refused) -> None:
    index = made_index(4, 2)
    new = np.array([[0.6, 0.8], [1.0, 0.0]])
    grown = index.with_added(
        ["n/d/1.jpg", "n/a/1.jpg"], ["/n/d/1.jpg", "/n/a/1.jpg"], ["d", "a"], new
    )
    assert grown.classes == ["a", "b", "c", "d"]
    assert grown.target.tolist() == [0, 1, 2, 0, 3, 0]
    assert grown.embedding[4:] == pytest.approx(new) and grown.embedding.dtype == np.float32
    with refused("other pictures with 1 of these ids", "'2.jpg'", "rename the folder"):
        index.with_added(["2.jpg"], ["/elsewhere/2.jpg"], ["a"], new[:1])


def test_failed_write_keeps_the_old_index(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "products"
    write_index(made_index(9, 4), folder)
    with refused("cannot be written", "No such file or directory"):
        write_index(made_index(5, 4), folder, extras={"no/folder.csv": b""})
    assert len(GalleryIndex.open(folder).id) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["products"]


def test_damaged_indexes(tmp_path: Path, refused: Refused) -> None:
    built = tmp_path / "products"
    index = replace(made_index(40, 4), rejection=Rejection(0.7, 0.9, 0.8))
    write_index(index, built)
    meta = json.loads((built / "index.json").read_text())
    source, rejection = meta["sources"][0], meta["rejection"]
    nan, inf = float("nan"), float("inf")
    for changed, words in (
        ({"format": 0}, "is an index of format 0, and this version reads format 3"),
        ({"count": 39}, "is a damaged index (embeddings.npy is float32 [40, 4]); build it again"),
        ({"count": True}, "(count=True; allowed: a whole number, 1 or more)"),
        ({"count": 1e300}, "(count=1e+300; allowed"),
        ({"dimension": -1}, "(dimension=-1; allowed"),
        ({"added": 41}, "(added=41; allowed"),
        ({"kind": "tree"}, "is a damaged index (kind=tree; allowed: exact"),
        ({"kind": "flat"}, "names other files than kind=flat needs"),
        ({"classes": ["0"]}, "is a damaged index"),
        ({"classes": ["a", "b", "b"]}, "two products have the name 'b'"),
        ({"classes": ["a", "b", 3]}, "the name of a product is no text"),
        ({"sources": [{}]}, "is a damaged index"),
        ({"sources": []}, "it names no network"),
        ({"sources": [source | {"weight": nan}]}, "(weight=nan; allowed: a finite number"),
        ({"sources": [source | {"weight": inf}]}, "(weight=inf; allowed: a finite number"),
        ({"sources": [source | {"tta": ["spin"]}]}, "is a damaged index (tta names 'spin'"),
        ({"sources": [source | {"checkpoint": 3}]}, "checkpoint of a network is no text"),
        ({"vote": {"kind": "weighted", "k": 0}}, "(k=0; allowed: a whole number"),
        ({"vote": {"kind": "weighted", "k": 5, "x": 1}}, "is a damaged index"),
        ({"rejection": rejection | {"threshold": nan}}, "(threshold=nan; allowed: a finite"),
        ({"rejection": rejection | {"threshold": 3}}, "(threshold=3; allowed: a finite"),
        ({"rejection": rejection | {"recall": "1"}}, "(recall=1; allowed: a finite"),
        ({"other_rejections": {"best": rejection}}, "(vote=best; allowed: nearest"),
        ({"surplus": 1}, "index.json has an unknown field 'surplus'"),
        ({"files": {"../x": "0"}}, "is a damaged index"),
    ):
        (built / "index.json").write_text(json.dumps(meta))
        forge(built, meta | changed)
        with refused(words):
            GalleryIndex.open(built)
    (built / "index.json").write_text(json.dumps(meta | {"k": 3}))
    with refused("is a damaged index (index.json is not as it was written)"):
        GalleryIndex.open(built)
    (built / "index.json").write_text("[]")
    with refused("is a damaged index"):
        GalleryIndex.open(built)
    (built / "index.json").write_text(json.dumps(meta))
    (built / "embeddings.npy").unlink()
    with refused("is a damaged index (embeddings.npy is missing)"):
        GalleryIndex.open(built)


@pytest.mark.parametrize("kind", ["exact", "flat"])
def test_a_flipped_bit_is_not_believed(tmp_path: Path, refused: Refused, kind: str) -> None:
    if kind == "flat":
        pytest.importorskip("faiss")
    built = tmp_path / "products"
    write_index(made_index(9, 4, kind=kind), built)
    for file in sorted(built.iterdir()):
        content = file.read_bytes()
        for place in (len(content) // 2, len(content) - 3):
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            with refused("is a damaged index", "build it again"):
                GalleryIndex.open(built)
        file.write_bytes(content)
    GalleryIndex.open(built)


def test_odd_names_survive(tmp_path: Path) -> None:
    names = ["a\rb", "a\nb", 'a"b', "a,b", " a ", "=1+1", "NA", "007"]
    index = replace(
        made_index(8, 4),
        classes=names,
        target=np.arange(8),
        id=np.array([f"{name}/1.jpg" for name in names]),
    )
    write_index(index, tmp_path / "products")
    opened = GalleryIndex.open(tmp_path / "products")
    assert opened.classes == names and opened.id.tolist() == index.id.tolist()
    assert opened.target.tolist() == index.target.tolist()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"embedding": np.full((9, 4), np.nan, np.float32)},
            "the embedding of 0.jpg has the length nan",
        ),
        ({"id": np.array(["x"] * 9)}, "two pictures have the same id"),
        ({"path": np.array(["/a\udcb0"] * 9)}, "the name '/a\\udcb0' is not UTF-8; rename it"),
        ({"classes": ["\uac00", "\u1100\u1161", "c"]}, "two products have the name"),
        ({"rejection": Rejection(float("nan"), 0.5, 0.5)}, "threshold=nan; allowed: a finite"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, refused: Refused, changed: dict[str, Any], words: str
) -> None:
    folder = tmp_path / "products"
    write_index(made_index(9, 4), folder)
    with refused("is not written", words):
        write_index(replace(made_index(9, 4), **changed), folder)
    assert len(GalleryIndex.open(folder).id) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["products"]


def test_a_new_index_is_read_back_before_the_old_one_goes(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "products"
    write_index(made_index(9, 4), folder)

    def bad_disk(file: Path, array: np.ndarray) -> None:
        changed = array.copy()
        changed[0] = -changed[0]
        with file.open("wb") as stream:
            np.lib.format.write_array(stream, changed)

    monkeypatch.setattr("product_cls.retrieval.index.writing.np.save", bad_disk)
    with refused("is not written, because what is read back differs"):
        write_index(made_index(5, 4), folder)
    assert len(GalleryIndex.open(folder).id) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["products"]


def test_a_killed_writer_loses_no_index(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "products"
    write_index(made_index(9, 4), folder)
    (tmp_path / ".products.partial-1").mkdir()
    folder.rename(tmp_path / ".products.earlier-1")
    with refused("a command was killed while it replaced it", ".products.earlier-1; rename it"):
        GalleryIndex.open(folder)
    with lock_index(folder):
        assert len(GalleryIndex.open(folder).id) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"products", ".products.lock"}


def test_a_full_disk_and_missing_permissions_are_one_sentence(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "products"
    write_index(made_index(9, 4), folder)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("product_cls.retrieval.index.writing.np.save", full)
        with refused("products cannot be written: No space left on device"):
            write_index(made_index(5, 4), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["products"]
    with monkeypatch.context() as patched:
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        patched.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(error))
        with refused("products cannot be read: Permission denied"):
            GalleryIndex.open(folder)
    with refused("cannot be opened: File name too long"):
        GalleryIndex.open(tmp_path / ("x" * 300))


def test_labels_are_compared_in_one_unicode_form() -> None:
    index = replace(made_index(3, 2), classes=["\uac00", "b", "c"])
    grown = index.with_added(["1", "2"], ["/1", "/2"], ["\u1100\u1161", "d"], np.eye(2))
    assert grown.classes == ["\uac00", "b", "c", "d"] and grown.target[3:].tolist() == [0, 3]
    assert grown.added == 2


def test_a_faiss_file_of_another_gallery(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("faiss")
    for count in (9, 12):
        write_index(made_index(count, 4, kind="flat"), tmp_path / str(count))
    (tmp_path / "9" / "gallery.faiss").replace(tmp_path / "12" / "gallery.faiss")
    forge(tmp_path / "12", json.loads((tmp_path / "12" / "index.json").read_text()))
    index = GalleryIndex.open(tmp_path / "12")
    with refused("gallery.faiss (kind=flat, 9 pictures) is not of this index (kind=flat, 12"):
        index.search(np.ones((1, 4), np.float32) / 2, 1)
