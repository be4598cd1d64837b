"""Thresholds for unknown products, with numbers computed by hand."""

from typing import Any

import numpy as np
import pytest

from product_cls.neighbours.votes import Vote
from product_cls.retrieval.rejection import leave_class_out, tune_rejection_threshold


def angles(*degrees: float) -> np.ndarray:
    return np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(degrees)], np.float32)


def cosines(*degrees: float) -> np.ndarray:
    return np.cos(np.deg2rad(degrees))


def test_leave_class_out_by_hand() -> None:
    gallery, labels = angles(0, 5, 10, 60, 90), np.array([3, 3, 3, 1, 1])
    queries, truth = angles(1, 58, 40, 200), np.array([3, 1, 3, 7])
    found = leave_class_out(queries, truth, gallery, labels, [Vote("nearest", 1)])[0]
    # The third query is nearer to class 1; the gallery has no picture of class 7.
    np.testing.assert_allclose(found.known_similarity, cosines(1, 2, 20), atol=1e-6)
    assert found.known_right.tolist() == [True, True, False]
    np.testing.assert_allclose(found.unknown_similarity, cosines(59, 48, 20, 110), atol=1e-6)


@pytest.mark.parametrize(
    ("vote", "right"),
    [
        (Vote("nearest", 3), [False, True]),
        (Vote("weighted", 3), [True, False]),
        (Vote("weighted", 1), [False, True]),
        (Vote("weighted", 9), [False, True]),  # all five of the gallery vote
        (Vote("winners", 3), [True, True]),
    ],
)
def test_answers_come_from_the_vote(vote: Vote, right: list[bool]) -> None:
    gallery, labels = angles(0, 4, 5, 40, 41), np.array([1, 0, 0, 1, 1])
    # The nearest is of class 1; two of the nearest three are of class 0; most of all pictures are
    # of class 1.
    queries, truth = angles(1, 1), np.array([0, 1])
    head = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = leave_class_out(queries, truth, gallery, labels, [vote], class_scores=head)[0]
    assert found.known_right.tolist() == right
    # The threshold applies to the best similarity, whatever the vote.
    np.testing.assert_allclose(found.known_similarity, cosines(1, 1), atol=1e-6)
    np.testing.assert_allclose(found.unknown_similarity, cosines(1, 3), atol=1e-6)


KNOWN = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
RIGHT = np.array([True, True, True, False, True])
UNKNOWN = np.array([0.75, 0.55, 0.4, 0.3], np.float32)


def test_curve_and_best_f1_by_hand() -> None:
    found = tune_rejection_threshold(KNOWN, RIGHT, UNKNOWN)
    np.testing.assert_array_equal(
        found.thresholds, np.array([0.9, 0.8, 0.75, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3], np.float32)
    )
    hits = np.array([1, 2, 2, 3, 3, 3, 4, 4, 4])
    np.testing.assert_allclose(found.precisions, hits / np.arange(1, 10))
    np.testing.assert_allclose(found.recalls, hits / 5)
    # F1 = 2 hits / (answered + 5): 6/9 at 0.7 and 8/12 at 0.5 are equal; the higher threshold wins.
    assert found.threshold == pytest.approx(0.7)
    assert (found.precision, found.recall) == (0.75, 0.6)
    assert np.count_nonzero(found.threshold <= KNOWN) == 3  # the threshold itself is answered


def test_highest_recall_at_a_precision() -> None:
    for asked, threshold, recall in ((0.9, 0.8, 0.4), (0.75, 0.7, 0.6), (0.44, 0.5, 0.8)):
        found = tune_rejection_threshold(KNOWN, RIGHT, UNKNOWN, precision=asked)
        assert found.threshold == pytest.approx(threshold)
        assert found.recall == pytest.approx(recall) and found.precision >= asked


def test_equal_similarities_are_answered_together() -> None:
    found = tune_rejection_threshold(np.array([0.5, 0.5]), np.array([True, False]), np.array([0.5]))
    assert (found.threshold, found.precision, found.recall) == (0.5, pytest.approx(1 / 3), 0.5)
    assert len(found.thresholds) == 1


def test_without_unknown_queries_or_right_answers() -> None:
    found = tune_rejection_threshold(KNOWN, RIGHT, UNKNOWN[:0])
    assert (found.precision, found.recall) == (0.8, 0.8)
    found = tune_rejection_threshold(KNOWN, np.zeros(5, bool), UNKNOWN)
    assert (found.precision, found.recall) == (0, 0)
    assert np.isfinite(found.precisions).all() and np.isfinite(found.recalls).all()


def test_unknown_products_are_rejected_and_known_ones_answered() -> None:
    """Six classes at right angles: queries 30 degrees off are known, strangers are not."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 8)

    def pictures() -> np.ndarray:
        rows = np.eye(16)[labels] + 0.1 * rng.normal(size=(48, 16))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    found = leave_class_out(pictures(), labels, pictures(), labels, [Vote()])[0]
    tuned = tune_rejection_threshold(
        found.known_similarity, found.known_right, found.unknown_similarity, precision=0.99
    )
    assert tuned.precision >= 0.99 and tuned.recall >= 0.95
    assert 0.4 < tuned.threshold < 0.9


def test_refused_arguments(refused: Any) -> None:
    with refused("No threshold reaches precision=0.9", "0.5000"):
        tune_rejection_threshold(np.array([0.4]), np.array([True]), np.array([0.6]), precision=0.9)
    for precision in (0, 1.5):
        with refused(f"precision={precision}", "above 0"):
            tune_rejection_threshold(KNOWN, RIGHT, UNKNOWN, precision=precision)
    with refused("no query of a known class"):
        tune_rejection_threshold(KNOWN[:0], RIGHT[:0], UNKNOWN)
    with refused("NaN"):
        tune_rejection_threshold(np.array([np.nan]), np.array([True]), UNKNOWN)
    rows = angles(0, 1)
    with refused("one class", "at least 2"):
        leave_class_out(rows, np.zeros(2, int), rows, np.zeros(2, int), [Vote()])
    with refused("gallery is empty"):
        leave_class_out(rows, np.zeros(2, int), rows[:0], np.zeros(0, int), [Vote()])
