"""The index on disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Refused
from made_index import made_index

from product_cls.neighbours.votes import Vote
from product_cls.retrieval.index.store import GalleryIndex, Rejection, write_index


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
    write_index(made_index(40, 4), built)
    meta = json.loads((built / "index.json").read_text())
    for changed, words in (
        ({"format": 0}, "is an index of format 0, and this version reads format 2"),
        ({"count": 39}, "is a damaged index (its files disagree); build it again"),
        ({"kind": "tree"}, "is a damaged index (its files disagree)"),
        ({"classes": ["0"]}, "is a damaged index"),
        ({"sources": [{}]}, "is a damaged index"),
    ):
        (built / "index.json").write_text(json.dumps(meta | changed))
        with refused(words):
            GalleryIndex.open(built)
    (built / "index.json").write_text(json.dumps(meta))
    (built / "embeddings.npy").unlink()
    with refused("is a damaged index"):
        GalleryIndex.open(built)


def test_a_faiss_file_of_another_gallery(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("faiss")
    for count in (9, 12):
        write_index(made_index(count, 4, kind="flat"), tmp_path / str(count))
    (tmp_path / "9" / "gallery.faiss").replace(tmp_path / "12" / "gallery.faiss")
    index = GalleryIndex.open(tmp_path / "12")
    with refused("gallery.faiss (kind=flat, 9 pictures) is not of this index (kind=flat, 12"):
        index.search(np.ones((1, 4), np.float32) / 2, 1)
