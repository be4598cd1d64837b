"""Thresholds by hand, and never worse than one half; measures as scikit-learn has them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from product_cls.core.errors import UserError
from product_cls.metrics.multi_label import average_precision, measure, present
from product_cls.metrics.thresholds import tune_global, tune_per_label, tune_threshold

RNG = np.random.default_rng(0)
TARGET = (RNG.random((60, 4)) < (0.1, 0.3, 0.5, 0.9)).astype(int)
SCORES = (0.3 * RNG.random((60, 4)) + 0.5 * TARGET * RNG.random((60, 4))).astype(np.float32)


def test_halfway_between_the_scores_that_it_divides() -> None:
    scores, target = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])
    assert tune_threshold(scores, target) == pytest.approx(0.25)
    assert tune_threshold(scores[::-1], target[::-1]) == pytest.approx(0.25)
    # All there: anything below the smallest is right, and nearest to one half is halfway to 0.
    assert tune_threshold(scores, np.ones(4)) == pytest.approx(0.05)
    assert tune_threshold(scores + 0.6, np.zeros(4)) == pytest.approx(1.0)


def test_ties_go_to_one_half_and_then_to_what_is_nearest() -> None:
    assert tune_threshold(np.array([0.1, 0.9]), np.array([0, 1])) == 0.5
    assert tune_threshold(np.array([0.1, 0.2]), np.array([1, 0])) == 0.5
    # Two cuts are equally good, at .65 and .85.
    scores, target = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0, 1, 0, 1])
    assert tune_threshold(scores, target) == pytest.approx(0.65)


def test_equal_scores_cannot_be_told_apart() -> None:
    scores, target = np.array([0.0, 0.0, 0.7, 0.7, 0.7]), np.array([1, 1, 0, 0, 1])
    threshold = tune_threshold(scores, target)
    assert (present(scores, threshold) == target).mean() == pytest.approx(2 / 5)


def test_neighbouring_float32_scores_are_divided() -> None:
    low = np.float32(0.7)
    scores = np.array([low, np.nextafter(low, np.float32(1))])
    threshold = tune_threshold(scores, np.array([0, 1]))
    assert present(scores, threshold).tolist() == [False, True]


@pytest.mark.parametrize("goal", ["accuracy", "f1"])
def test_best_of_all_and_never_worse_than_half(goal: str) -> None:
    def value(said: np.ndarray, target: np.ndarray) -> float:
        hits = 2 * (said & (target > 0)).sum()
        return float(
            (said == target).mean() if goal == "accuracy" else hits / (said + target).sum()
        )

    thresholds = tune_per_label(SCORES, TARGET, goal)
    for k in range(4):
        scores, target = SCORES[:, k], TARGET[:, k]
        tuned = value(present(scores, thresholds[k]), target)
        tried = [value(scores > t, target) for t in np.linspace(0, 1, 301)]
        assert tuned >= max(tried) - 1e-12
    everywhere = tune_global(SCORES, TARGET, goal)
    flat = value(present(SCORES, everywhere).ravel(), TARGET.ravel())
    assert flat > value(present(SCORES, 0.5).ravel(), TARGET.ravel())
    with pytest.raises(UserError, match="goal=recall; allowed: accuracy, f1"):
        tune_threshold(SCORES[:, 0], TARGET[:, 0], "recall")


def test_measures_are_scikit_learns() -> None:
    thresholds = np.array([0.3, 0.4, 0.5, 0.6])
    found, said = measure(SCORES, TARGET, thresholds), thresholds < SCORES
    assert found["accuracy"] == pytest.approx((said == TARGET).mean())
    assert found["exact"] == pytest.approx((said == TARGET).all(axis=1).mean())
    assert found["f1_macro"] == pytest.approx(f1_score(TARGET, said, average="macro"))
    assert found["f1_micro"] == pytest.approx(f1_score(TARGET, said, average="micro"))
    assert found["mAP"] == pytest.approx(average_precision_score(TARGET, SCORES, average="macro"))
    rounded = SCORES[:, 2].round(1)  # with ties
    expected = average_precision_score(TARGET[:, 2], rounded)
    assert average_precision(rounded, TARGET[:, 2]) == pytest.approx(expected)


def test_labels_that_are_nowhere_are_left_out_of_macro_means() -> None:
    target = np.array([[1, 0], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert measure(scores, target) == dict.fromkeys(
        ("accuracy", "exact", "f1_macro", "f1_micro", "mAP"), 1.0
    )
    nothing = measure(scores[:, 1:], target[:, 1:])
    assert nothing == dict.fromkeys(("accuracy", "exact", "f1_macro", "f1_micro"), 1.0)
