"""Scores joined with points: weights, bounds, and what they cannot change."""

import numpy as np
import pytest

from product_cls.matching.fusion import DEFAULT, MOST, Fusion, fit_fusion


def made(count: int = 300, classes: int = 6) -> tuple[np.ndarray, ...]:
    """Scores that are right in about half of the pictures, and points that tell the class."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes))
    logits[np.arange(count), target] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1)[:, :3]
    points = np.where(best == target[:, None], rng.integers(10, 40, (count, 3)), 0)
    return scores.astype(np.float32), best, points, target


def test_points_that_tell_the_class_get_weight_and_raise_accuracy() -> None:
    scores, best, points, target = made()
    fusion = fit_fusion(scores, best, points, target)
    joined = fusion.apply(scores, best, points)
    among = (best == target[:, None]).any(axis=1)
    assert fusion.points_weight > 0.5
    assert (scores.argmax(1) == target).mean() < 0.7
    assert (joined.argmax(1) == target)[among].mean() > 0.99
    np.testing.assert_allclose(joined.sum(axis=1), 1, atol=1e-5)


def test_points_that_tell_nothing_get_none() -> None:
    scores, best, points, target = made()
    noise = np.random.default_rng(1).permutation(points.ravel()).reshape(points.shape)
    fusion = fit_fusion(scores, best, noise, target)
    assert fusion.points_weight < 0.2
    joined = fusion.apply(scores, best, noise)
    before, after = ((part.argmax(1) == target).mean() for part in (scores, joined))
    assert after > before - 0.03


def test_unknown_labels_fit_nothing() -> None:
    scores, best, points, target = made(20)
    assert fit_fusion(scores, best, points, np.full(20, -1)) == DEFAULT
    some = np.where(np.arange(20) < 10, target, -1)
    assert fit_fusion(scores, best, points, some) == fit_fusion(
        scores[:10], best[:10], points[:10], target[:10]
    )


@pytest.mark.parametrize("fusion", [Fusion(1.0, 0.5), Fusion(3.0, 0.2), Fusion(1.0, 0.0)])
def test_answers_that_no_points_can_change_are_known_beforehand(fusion: Fusion) -> None:
    scores, best, _, _ = made()
    scores = scores**4 / (scores**4).sum(axis=1, keepdims=True)
    settled = ~fusion.can_change(scores)
    for place in range(3):
        points = np.zeros(best.shape)
        points[:, place] = MOST
        same = fusion.apply(scores, best, points).argmax(1) == scores.argmax(1)
        assert same[settled].all()
    assert settled.any() and (fusion.points_weight == 0 or not settled.all())
