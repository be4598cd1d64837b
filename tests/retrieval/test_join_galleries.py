"""Features of several networks as one."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import Refused

from product_cls.neighbours.join import join_embeddings
from product_cls.retrieval.gallery import Gallery
from product_cls.retrieval.join_galleries import join_galleries


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def made(seed: int, dimension: int = 6) -> Gallery:
    rng = np.random.default_rng(seed)
    return Gallery(
        id=np.array([f"train/{k}.jpg" for k in range(5)]),
        path=np.array([f"/data/{seed}/{k}.jpg" for k in range(5)]),
        target=np.array([0, 0, 1, 1, 1]),
        classes=np.array(["cola", "tea"]),
        embedding=unit(rng, 5, dimension),
        embedding_no_tta=unit(rng, 5, dimension),
    )


def test_by_hand() -> None:
    joined = join_embeddings([np.array([[3.0, 4.0]]), np.array([[0.0, 5.0]])], [1, 2])
    assert joined.dtype == np.float32
    assert joined[0] == pytest.approx(np.array([0.6, 0.8, 0, 2]) / np.sqrt(5), abs=1e-7)


def test_cosine_is_the_mean_weighted_by_squares() -> None:
    rng = np.random.default_rng(0)
    parts = [unit(rng, 7, size) for size in (4, 9, 2)]
    weights = np.array([1.0, 2.0, 0.5])
    joined = join_embeddings(parts, weights.tolist())
    assert joined.shape == (7, 15)
    assert np.linalg.norm(joined, axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    expected = np.average([part @ part.T for part in parts], axis=0, weights=weights**2)
    assert joined @ joined.T == pytest.approx(expected, abs=1e-6)
    # Lengths of the parts do not matter, only directions.
    assert join_embeddings([5 * parts[0], *parts[1:]], weights.tolist()) == pytest.approx(joined)


def test_one_part_and_zeros() -> None:
    part = np.array([[0.6, 0.8], [0.0, 0.0]], np.float32)
    assert join_embeddings([part]) == pytest.approx(part)
    assert join_embeddings([part, part[::-1]])[1] == pytest.approx([0, 0, 0.6, 0.8])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], "allowed: 2 numbers"),
        ([1.0, -1.0], "weights=[1.0, -1.0]; allowed: 0 or more"),
        ([0.0, 0.0], "not all of them 0"),
        ([1.0, float("nan")], "allowed: 0 or more"),
    ],
)
def test_wrong_weights(refused: Refused, weights: list[float], words: str) -> None:
    with refused(words):
        join_embeddings([np.ones((3, 2)), np.ones((3, 2))], weights)


def test_features_follow_the_first_runs_order() -> None:
    first, second = made(0), made(1, dimension=3)
    order = np.array([4, 2, 0, 1, 3])
    joined = join_galleries([("a", first), ("b", second.rows(order))], [2, 1])
    assert joined.id.tolist() == first.id.tolist() and joined.path.tolist() == first.path.tolist()
    for name in ("embedding", "embedding_no_tta"):
        expected = join_embeddings([getattr(first, name), getattr(second, name)], [2, 1])
        assert getattr(joined, name) == pytest.approx(expected)
    assert second.rows(order).id[0] == "train/4.jpg"  # it was another order


def test_runs_that_cannot_be_joined_are_named(refused: Refused) -> None:
    first = made(0)
    pair = "Runs 'a' and 'b' cannot be joined"
    with refused(pair, "other pictures (5 and 4 ids, 4 in both)"):
        join_galleries([("a", first), ("b", first.rows(np.arange(4)))])
    others = replace(first, id=np.char.replace(first.id, "4", "9"))
    with refused(pair, "(5 and 5 ids, 4 in both)"):
        join_galleries([("a", first), ("b", others)])
    with refused(pair, "name 1 pictures otherwise, the first is 'train/1.jpg'"):
        join_galleries([("a", first), ("b", replace(first, target=np.array([0, 1, 1, 1, 1])))])
    with refused(pair, "their classes differ (2 and 3)"):
        join_galleries([("a", first), ("b", replace(first, classes=np.array(["a", "b", "c"])))])
    with refused("gallery of run 'a' is empty"):
        join_galleries([("a", first.rows(np.arange(0)))])
