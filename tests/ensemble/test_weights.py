"""Weights tuned on synthetic probabilities for which the best weights are known."""

from collections.abc import Callable

import numpy as np
import pytest

from product_cls.core.vote_weights import check_weights
from product_cls.ensemble.weights import (
    TUNERS,
    cross_fit,
    greedy_weights,
    log_loss,
    optimised_weights,
)

BOTH = pytest.mark.parametrize("tune", TUNERS.values(), ids=TUNERS)
Tune = Callable[[np.ndarray], np.ndarray]


def made(seed: int, skills: list[float], pictures: int = 2000, classes: int = 10) -> np.ndarray:
    """Probabilities of the truth ``[G, M]``, from logits that favour it by ``skills``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(skills), pictures, classes))
    logits[..., 0] += np.array(skills)[:, None]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    truth: np.ndarray = odds[..., 0] / odds.sum(axis=-1)
    return truth


def test_loss_by_hand() -> None:
    truth = np.array([[0.8, 0.2], [0.4, 0.6]])
    expected = -(np.log(0.6) + np.log(0.4)) / 2
    assert log_loss(truth, np.array([1, 1])) == pytest.approx(expected)
    assert log_loss(truth, np.array([3, 3])) == pytest.approx(expected)
    assert np.isfinite(log_loss(np.zeros((1, 3)), np.ones(1)))


@BOTH
def test_weights_are_shares(tune: Tune) -> None:
    weights = tune(made(0, [1, 2, 3, 0]))
    assert weights.shape == (4,) and (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert (tune(made(0, [1, 2, 3, 0])) == weights).all()  # nothing is drawn


@BOTH
def test_useless_model_gets_no_weight(tune: Tune) -> None:
    """It gives 1 % to the truth of 10 classes, whatever the picture shows."""
    good = made(0, [4.0])
    assert tune(np.vstack([good, np.full_like(good, 0.01)])) == pytest.approx([1, 0], abs=1e-6)
    assert tune(np.vstack([np.full_like(good, 0.01), good])) == pytest.approx([0, 1], abs=1e-6)


@BOTH
def test_complementary_models_share(tune: Tune) -> None:
    """Each is right where the other is wrong: by symmetry, half each. At three to one in pictures,
    the best share is where .75 d / (.1 + s d) = .25 d / (.9 - s d) with d = .8: s = .8125."""
    half = np.array([[0.9] * 50 + [0.1] * 50, [0.1] * 50 + [0.9] * 50])
    assert tune(half) == pytest.approx([0.5, 0.5], abs=0.01)
    uneven = np.array([[0.9] * 75 + [0.1] * 25, [0.1] * 75 + [0.9] * 25])
    assert tune(uneven) == pytest.approx([0.8125, 0.1875], abs=0.01)


@BOTH
def test_equal_models_share_equally(tune: Tune) -> None:
    assert tune(np.repeat(made(0, [2.0]), 3, axis=0)) == pytest.approx(np.full(3, 1 / 3), abs=0.01)
    # Similar models: weights are nearly equal, and no worse than equal weights on other pictures.
    weights = tune(made(1, [2.0, 2.0, 2.0]))
    assert weights == pytest.approx(np.full(3, 1 / 3), abs=0.12)
    fresh = made(2, [2.0, 2.0, 2.0])
    assert log_loss(fresh, weights) < log_loss(fresh, np.ones(3)) + 2e-3


def test_optimised_weights_meet_the_conditions_of_the_optimum() -> None:
    """The problem is convex: mean slopes are at most 1, and 1 for models of positive weight."""
    truth = made(3, [1.0, 2.5, 2.0, 0.2, 2.4])
    weights = optimised_weights(truth)
    slopes = (truth / (weights @ truth)).mean(axis=1)
    assert slopes.max() <= 1 + 1e-3
    assert slopes[weights > 0.01] == pytest.approx(1, abs=1e-3)


def test_greedy_comes_near_the_optimum_and_never_falls_behind_the_best_or_all() -> None:
    for seed in range(5):
        truth = made(seed, [1.0, 2.5, 2.0, 0.2, 2.4])
        loss = log_loss(truth, greedy_weights(truth))
        assert loss <= log_loss(truth, optimised_weights(truth)) + 1e-4
        assert loss <= min(log_loss(truth, one) for one in [*np.eye(5), np.ones(5)]) + 1e-12


def test_sorted_initialisation_keeps_the_best_few() -> None:
    truth = np.array([[0.5, 0.5], [0.01, 0.01], [0.9, 0.1], [0.1, 0.9]])
    # The first model alone is best; its vote with the two halves is no better, .5 for each picture.
    assert greedy_weights(truth, steps=0)[1] == 0


@BOTH
def test_cross_fitted_weights_do_not_see_their_fold(tune: Tune) -> None:
    fold = np.arange(300) % 3
    truth = made(0, [1.0, 1.0], pictures=300)
    weights = cross_fit(truth, fold, 3, tune)
    assert weights.shape == (3, 2)
    changed = truth.copy()
    changed[0, fold == 1] = 0.999  # makes the first model look perfect in fold 1 only
    again = cross_fit(changed, fold, 3, tune)
    assert (again[1] == weights[1]).all()
    assert (again[[0, 2], 0] > weights[[0, 2], 0]).all()


def test_given_weights(refused: Callable[..., object]) -> None:
    assert check_weights(None, 2).tolist() == [1, 1]
    assert check_weights([0, 2.5], 2).tolist() == [0, 2.5]
    with refused("weights=[1.0]; allowed: 2 numbers, one each."):  # type: ignore[attr-defined]
        check_weights([1], 2)
    with refused("allowed: 2 numbers, one each for a, b."):  # type: ignore[attr-defined]
        check_weights([1, 2, 3], 2, ["a", "b"])
    for wrong in ([1.0, -1.0], [0.0, 0.0], [1.0, float("inf")]):
        with refused(f"weights={wrong}; allowed: 0 or more, not all of them 0."):  # type: ignore[attr-defined]
            check_weights(wrong, 2)
