"""Refinements against plain implementations, and on galleries with known labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from product_cls.neighbours.exact import search_exact
from product_cls.neighbours.refine import augment_database, expand_queries, prototypes, rerank


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noisy(seed: int, each: int, noise: float, classes: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """``each`` rows around each of 20 centres in 48 dimensions, and their labels."""
    centres = normalised(np.random.default_rng(0).normal(size=(classes, 48)))
    labels = np.repeat(np.arange(classes), each)
    rows = centres[labels] + noise * np.random.default_rng(seed).normal(size=(len(labels), 48))
    return normalised(rows), labels


def accuracy(queries: np.ndarray, gallery: np.ndarray, truth: np.ndarray, own: np.ndarray) -> float:
    return float(np.mean(own[search_exact(queries, gallery, 1).position[:, 0]] == truth))


def angles(*degrees: float) -> np.ndarray:
    return np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)], np.float32)


def test_database_augmentation_by_hand() -> None:
    gallery = angles(0, 60, 90, 180)
    result = augment_database(gallery, neighbours=1, alpha=2)
    # The nearest row of 0 and of 90 degrees is 60, that of 60 is 90. 180 stays, because all others
    # are 90 degrees away or more.
    expected = [
        gallery[0] + 0.25 * gallery[1],
        gallery[1] + 0.75 * gallery[2],
        gallery[2] + 0.75 * gallery[1],
        gallery[3],
    ]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, normalised(np.array(expected)), atol=1e-6)


def test_query_expansion_by_hand() -> None:
    gallery, query = angles(60, 90, 180, 200), angles(0)
    result = expand_queries(query, gallery, neighbours=4, alpha=3)
    np.testing.assert_allclose(result, normalised(query + 0.5**3 * gallery[:1]), atol=1e-6)
    # alpha 0 weights all rows nearer than 90 degrees equally.
    query = angles(30)
    result = expand_queries(query, gallery, neighbours=3, alpha=0)
    np.testing.assert_allclose(result, normalised(query + gallery[0] + gallery[1]), atol=1e-6)


def test_copies_do_not_replace_the_row_itself() -> None:
    gallery = np.concatenate([np.tile(angles(0), (15, 1)), angles(20)])
    result = augment_database(gallery, neighbours=2)
    np.testing.assert_allclose(result[:15], gallery[:15], atol=1e-6)  # the mean of three equals
    assert np.degrees(np.arctan2(result[15, 1], result[15, 0])) < 10


def test_both_expansions_improve_the_search(tmp_path: Path) -> None:
    gallery, own = noisy(1, each=12, noise=0.27)
    queries, truth = noisy(2, each=10, noise=0.27)
    plain = accuracy(queries, gallery, truth, own)
    augmented = augment_database(gallery, neighbours=8)
    assert np.linalg.norm(augmented, axis=1) == pytest.approx(1, abs=1e-6)
    by_database = accuracy(queries, augmented, truth, own)
    expanded = expand_queries(queries, augmented, neighbours=8)
    by_both = accuracy(expanded, augmented, truth, own)
    assert 0.6 < plain < by_database - 0.04 < by_both - 0.05, (plain, by_database, by_both)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    np.testing.assert_array_equal(augment_database(mapped, neighbours=8), augmented)


def dense_rerank(
    queries: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lam: float
) -> np.ndarray:
    """Distances ``[N, M]`` of Zhong et al. 2017, written down set by set."""
    rows = np.concatenate([queries, gallery]).astype(np.float64)
    count = len(rows)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    distance = squared / squared.max(axis=1, keepdims=True)
    rank = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in rank[p, : k + 1].tolist() if p in rank[g, : k + 1]}

    v = np.zeros((count, count))
    for p in range(count):
        mutual = reciprocal(p, k1)
        grown = set(mutual)
        for q in mutual:
            candidates = reciprocal(q, round(k1 / 2))
            if len(mutual & candidates) > 2 / 3 * len(candidates):
                grown |= candidates
        members = sorted(grown)
        v[p, members] = np.exp(-distance[p, members])
        v[p] /= v[p].sum()
    v = np.stack([v[rank[p, :k2]].mean(axis=0) for p in range(count)])
    n = len(queries)
    least = np.minimum(v[:n, None], v[None, n:]).sum(axis=2)
    most = np.maximum(v[:n, None], v[None, n:]).sum(axis=2)
    return (1 - lam) * (1 - least / most) + lam * distance[:n, n:]


@pytest.mark.parametrize(
    ("k1", "k2", "lam", "each"),
    [(20, 6, 0.3, 6), (5, 1, 0.0, 6), (7, 3, 0.5, 6), (4, 9, 0.3, 6), (50, 6, 0.1, 1)],
)
def test_reranking_agrees_with_a_dense_implementation(
    k1: int, k2: int, lam: float, each: int
) -> None:
    (queries, _), (gallery, _) = noisy(3, 1, 0.2), noisy(4, each, 0.2)
    result = rerank(queries, gallery, len(gallery), k1=k1, k2=k2, lam=lam, candidates=200)
    expected = 1 - dense_rerank(queries, gallery, k1, k2, lam)
    np.testing.assert_allclose(
        result.similarity, np.take_along_axis(expected, result.position, axis=1), atol=1e-5
    )
    assert [sorted(row) for row in result.position.tolist()] == [list(range(len(gallery)))] * 20
    assert (np.diff(result.similarity, axis=1) <= 0).all()
    assert result.similarity.dtype == np.float32 and result.position.dtype == np.int64


def test_reranking_only_among_the_candidates() -> None:
    (queries, _), (gallery, _) = noisy(3, 2, 0.2), noisy(4, 6, 0.2)
    whole, some = (rerank(queries, gallery, 5, candidates=c) for c in (120, 30))
    nearest = search_exact(queries, gallery, 30).position
    for row in range(len(queries)):
        assert set(some.position[row]) <= set(nearest[row])
        kept = np.isin(whole.position[row], nearest[row])
        best = some.similarity[row, : kept.sum()]
        np.testing.assert_allclose(best, whole.similarity[row, kept], atol=1e-5)


def test_reranking_improves_the_search() -> None:
    gallery, own = noisy(1, each=12, noise=0.27)
    queries, truth = noisy(2, each=10, noise=0.27)
    plain = accuracy(queries, gallery, truth, own)
    result = rerank(queries, gallery, 1, k1=12, k2=4)
    better = float(np.mean(own[result.position[:, 0]] == truth))
    assert 0.6 < plain < better - 0.04, (plain, better)


def test_reranking_equal_rows() -> None:
    rows = np.tile(angles(30), (40, 1))
    result = rerank(rows[:3], rows, 4, k1=5)
    assert np.isfinite(result.similarity).all()


def test_prototypes_of_the_classes_that_have_pictures() -> None:
    gallery = angles(0, 90, 180, 45, 10)
    means, classes = prototypes(gallery, np.array([2, 2, 0, -1, 0]), 4)
    assert classes.tolist() == [0, 2] and classes.dtype == np.int64
    np.testing.assert_allclose(means, angles(95, 45), atol=1e-6)
    assert means.dtype == np.float32


def test_refused_arguments(refused: Any) -> None:
    rows = angles(0, 10, 20, 30)
    with refused("neighbours=4", "1 to 3"):
        augment_database(rows, neighbours=4)
    with refused("neighbours=0", "allowed: 1 to"):
        expand_queries(rows, rows, neighbours=0)
    for alpha in (-1, np.nan):
        with refused(f"alpha={alpha}", "0 or more"):
            expand_queries(rows, rows, neighbours=1, alpha=alpha)
    for call in (augment_database, lambda gallery: expand_queries(rows, gallery)):
        with refused("gallery is empty"):
            call(rows[:0])
    with refused("gallery is empty"):
        rerank(rows, rows[:0], 1)
    with refused("k=5", "1 to 4"):
        rerank(rows, rows, 5)
    with refused("k=4", "1 to 3", "candidates"):
        rerank(rows, rows, 4, candidates=3)
    with refused("k1=0", "k2=6"):
        rerank(rows, rows, 1, k1=0)
    with refused("lam=1.5", "0 to 1"):
        rerank(rows, rows, 1, lam=1.5)
    with refused("No picture"):
        prototypes(rows, np.full(4, -1), 3)
