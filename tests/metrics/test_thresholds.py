"""Thresholds against values by hand and exhaustive search; metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from product_cls.metrics.multi_label import above_threshold, average_precision, multi_label_metrics
from product_cls.metrics.thresholds import (
    best_label_threshold,
    per_label_thresholds,
    shared_threshold,
)

RNG = np.random.default_rng(0)
TARGET = (RNG.random((60, 4)) < (0.1, 0.3, 0.5, 0.9)).astype(int)
SCORES = (0.3 * RNG.random((60, 4)) + 0.5 * TARGET * RNG.random((60, 4))).astype(np.float32)


def test_threshold_lies_halfway_between_neighbouring_scores() -> None:
    scores, target = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])
    assert best_label_threshold(scores, target) == pytest.approx(0.25)
    assert best_label_threshold(scores[::-1], target[::-1]) == pytest.approx(0.25)
    # All present: every threshold below the smallest score is right; halfway to 0 is a candidate.
    assert best_label_threshold(scores, np.ones(4)) == pytest.approx(0.05)
    assert best_label_threshold(scores + 0.6, np.zeros(4)) == pytest.approx(1.0)


def test_ties_go_to_one_half_or_the_nearest_candidate() -> None:
    assert best_label_threshold(np.array([0.1, 0.9]), np.array([0, 1])) == 0.5
    assert best_label_threshold(np.array([0.1, 0.2]), np.array([1, 0])) == 0.5
    # Two cuts are equally good, at .65 and .85.
    scores, target = np.array([0.6, 0.7, 0.8, 0.9]), np.array([0, 1, 0, 1])
    assert best_label_threshold(scores, target) == pytest.approx(0.65)


def test_no_threshold_between_equal_scores() -> None:
    scores, target = np.array([0.0, 0.0, 0.7, 0.7, 0.7]), np.array([1, 1, 0, 0, 1])
    threshold = best_label_threshold(scores, target)
    assert (above_threshold(scores, threshold) == target).mean() == pytest.approx(2 / 5)


def test_threshold_between_neighbouring_float32_scores() -> None:
    low = np.float32(0.7)
    scores = np.array([low, np.nextafter(low, np.float32(1))])
    threshold = best_label_threshold(scores, np.array([0, 1]))
    assert above_threshold(scores, threshold).tolist() == [False, True]


@pytest.mark.parametrize("goal", ["accuracy", "f1"])
def test_best_of_all_and_never_worse_than_half(goal: str) -> None:
    def value(decided: np.ndarray, target: np.ndarray) -> float:
        hits = 2 * (decided & (target > 0)).sum()
        return float(
            (decided == target).mean() if goal == "accuracy" else hits / (decided + target).sum()
        )

    thresholds = per_label_thresholds(SCORES, TARGET, goal)
    for k in range(4):
        scores, target = SCORES[:, k], TARGET[:, k]
        tuned = value(above_threshold(scores, thresholds[k]), target)
        tried = [value(scores > t, target) for t in np.linspace(0, 1, 301)]
        assert tuned >= max(tried) - 1e-12
    everywhere = shared_threshold(SCORES, TARGET, goal)
    flat = value(above_threshold(SCORES, everywhere).ravel(), TARGET.ravel())
    assert flat > value(above_threshold(SCORES, 0.5).ravel(), TARGET.ravel())
    with pytest.raises(ValueError, match="goal=recall; allowed: accuracy, f1"):
        best_label_threshold(SCORES[:, 0], TARGET[:, 0], "recall")


def test_metrics_equal_those_of_scikit_learn() -> None:
    thresholds = np.array([0.3, 0.4, 0.5, 0.6])
    values, decided = multi_label_metrics(SCORES, TARGET, thresholds), thresholds < SCORES
    assert values["accuracy"] == pytest.approx((decided == TARGET).mean())
    assert values["exact"] == pytest.approx((decided == TARGET).all(axis=1).mean())
    assert values["f1_macro"] == pytest.approx(f1_score(TARGET, decided, average="macro"))
    assert values["f1_micro"] == pytest.approx(f1_score(TARGET, decided, average="micro"))
    assert values["mAP"] == pytest.approx(average_precision_score(TARGET, SCORES, average="macro"))
    rounded = SCORES[:, 2].round(1)  # with ties
    expected = average_precision_score(TARGET[:, 2], rounded)
    assert average_precision(rounded, TARGET[:, 2]) == pytest.approx(expected)


def test_macro_means_leave_out_labels_without_pictures() -> None:
    target = np.array([[1, 0], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert multi_label_metrics(scores, target) == dict.fromkeys(
        ("accuracy", "exact", "f1_macro", "f1_micro", "mAP"), 1.0
    )
    nothing = multi_label_metrics(scores[:, 1:], target[:, 1:])
    assert nothing == dict.fromkeys(("accuracy", "exact", "f1_macro", "f1_micro"), 1.0)
