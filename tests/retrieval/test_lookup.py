"""Neighbours by neighbours: against the formulas by hand."""

import numpy as np
import pytest
from made_index import made_index

from product_cls.retrieval.lookup import find_neighbours


def test_prototypes_are_means_and_shown_by_their_nearest_picture() -> None:
    index = made_index(30, 8)
    queries = index.embedding[:6] + 0.2
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = find_neighbours(index, queries, 3, by_prototype=True)
    for row, query in enumerate(queries):
        for k in range(3):
            of_class = np.flatnonzero(index.target == found.target[row, k])
            mean = index.embedding[of_class].mean(axis=0)
            mean /= np.linalg.norm(mean)
            assert found.similarity[row, k] == pytest.approx(query @ mean, abs=1e-6)
            assert found.picture[row, k] == of_class[(index.embedding[of_class] @ mean).argmax()]
    assert (np.diff(found.similarity, axis=1) <= 0).all()


def test_expansion_and_augmentation_by_hand() -> None:
    index = made_index(12, 4)
    gallery = index.embedding
    query = gallery[:1] + 0.1
    query /= np.linalg.norm(query)
    nearest = np.sort((query @ gallery.T)[0])[::-1][0]
    best = int((query @ gallery.T)[0].argmax())
    moved = query[0] + nearest**3 * gallery[best]
    moved /= np.linalg.norm(moved)
    found = find_neighbours(index, query, 12, expand=1)
    assert found.similarity[0] == pytest.approx(np.sort(gallery @ moved)[::-1], abs=1e-6)
    cosine = gallery @ gallery.T - 2 * np.eye(12)
    weights = np.maximum(cosine.max(axis=1), 0) ** 3
    larger = gallery + weights[:, None] * gallery[cosine.argmax(axis=1)]
    larger /= np.linalg.norm(larger, axis=1, keepdims=True)
    found = find_neighbours(index, query, 12, augment=1)
    assert found.similarity[0] == pytest.approx(np.sort(larger @ query[0])[::-1], abs=1e-6)
    assert found.target[0].tolist() == index.target[found.picture[0]].tolist()
