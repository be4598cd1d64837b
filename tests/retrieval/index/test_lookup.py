"""Refined searches of an index, against the formulas by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_index import made_index

from product_cls.retrieval.index.lookup import find_neighbours, own_rows, rows_by_file
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.retrieval.index.writing import write_index


def test_prototypes_are_means_and_represented_by_their_nearest_picture() -> None:
    index = made_index(30, 8)
    queries = index.embedding[:6] + 0.2
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    matches = find_neighbours(index, queries, 3, by_prototype=True)
    for row, query in enumerate(queries):
        for k in range(3):
            of_class = np.flatnonzero(index.target == matches.target[row, k])
            mean = index.embedding[of_class].mean(axis=0)
            mean /= np.linalg.norm(mean)
            assert matches.similarity[row, k] == pytest.approx(query @ mean, abs=1e-6)
            assert matches.picture[row, k] == of_class[(index.embedding[of_class] @ mean).argmax()]
    assert (np.diff(matches.similarity, axis=1) <= 0).all()


def test_expansion_and_augmentation_by_hand() -> None:
    index = made_index(12, 4)
    gallery = index.embedding
    query = gallery[:1] + 0.1
    query /= np.linalg.norm(query)
    nearest = np.sort((query @ gallery.T)[0])[::-1][0]
    best = int((query @ gallery.T)[0].argmax())
    moved = query[0] + nearest**3 * gallery[best]
    moved /= np.linalg.norm(moved)
    matches = find_neighbours(index, query, 12, expand=1)
    assert matches.similarity[0] == pytest.approx(np.sort(gallery @ moved)[::-1], abs=1e-6)
    cosine = gallery @ gallery.T - 2 * np.eye(12)
    weights = np.maximum(cosine.max(axis=1), 0) ** 3
    larger = gallery + weights[:, None] * gallery[cosine.argmax(axis=1)]
    larger /= np.linalg.norm(larger, axis=1, keepdims=True)
    matches = find_neighbours(index, query, 12, augment=1)
    assert matches.similarity[0] == pytest.approx(np.sort(larger @ query[0])[::-1], abs=1e-6)
    assert matches.target[0].tolist() == index.target[matches.picture[0]].tolist()


def test_rows_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    paths = np.array([f"{tmp_path}/shop/{name}.jpg" for name in "abcba"])
    index = replace(made_index(5, 4), path=paths)
    names = ["link/a.jpg", "shop/z.jpg", "shop/../link/c.jpg", "a.jpg"]
    rows = own_rows(rows_by_file(index), [tmp_path / name for name in names])
    assert rows.tolist() == [[0, 4], [-1, -1], [2, -1], [-1, -1]]
    assert own_rows(rows_by_file(index), [tmp_path / "a.jpg"]).shape == (1, 0)


@pytest.mark.parametrize("kind", ["exact", "flat", "hnsw", "ivfpq"])
def test_pictures_of_the_index_do_not_find_themselves(tmp_path: Path, kind: str) -> None:
    if kind != "exact":
        pytest.importorskip("faiss")
    write_index(made_index(300, 16, kind=kind), tmp_path / "index")
    index = GalleryIndex.open(tmp_path / "index")
    queries = np.array(index.embedding[:8])
    own = np.array([[0, 9], [1, -1], [2, -1], [3, -1], [4, -1], [5, -1], [-1, -1], [-1, -1]])
    free, matches = (find_neighbours(index, queries, 4, own=o) for o in (None, own))
    assert free.picture[:, 0].tolist() == list(range(8))
    assert matches.picture.shape == matches.target.shape == matches.similarity.shape == (8, 4)
    assert not (matches.picture[:, :, None] == own[:, None, :]).any()
    if kind != "ivfpq":  # whose codes misplace some
        assert (matches.picture[1:6, :3] == free.picture[1:6, 1:]).all()
        assert (matches.picture[6:] == free.picture[6:]).all()
    assert (np.diff(matches.similarity, axis=1) <= 0).all()
    cosine = np.take_along_axis(queries @ index.embedding.T, matches.picture, axis=1)
    assert matches.similarity == pytest.approx(cosine, abs=1e-6)
    assert (index.target[matches.picture] == matches.target).all()
