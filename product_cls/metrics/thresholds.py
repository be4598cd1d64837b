"""Thresholds above which a label counts as present, tuned on predictions with known labels."""

from typing import Literal, get_args

import numpy as np

from product_cls.metrics.multi_label import above_threshold

HALF = 0.5

Goal = Literal["accuracy", "f1"]


def check_goal(goal: str) -> None:
    """Refuse an unknown goal.

    Raises:
        ValueError: the goal is not one of ``Goal``.
    """
    if goal not in get_args(Goal):
        raise ValueError(f"goal={goal}; allowed: {', '.join(get_args(Goal))}.")


def best_label_threshold(scores: np.ndarray, target: np.ndarray, goal: str = "accuracy") -> float:
    """The best threshold for these scores, never worse than one half.

    Candidates lie halfway between adjacent scores. The result is one half if no candidate is better
    or there are no scores. Of equally good candidates, the nearest to one half wins.

    Args:
        scores: float ``[N]``, in [0, 1].
        target: int ``[N]``, 0 or 1.
        goal: ``accuracy``, or ``f1`` of the label, for rare labels.

    Returns:
        In [0, 1].

    Raises:
        ValueError: an unknown goal.
    """
    check_goal(goal)
    if len(scores) == 0:
        return HALF
    order = np.argsort(scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    # Cut k decides "absent" for the k lowest scores, so it misses the labels present among them.
    missed = np.append(0, np.cumsum(target[order] > 0))
    cuts = np.arange(len(ranked) + 1)
    edges = np.concatenate([[0.0], ranked, [1.0]])
    halfway = (edges[:-1] + edges[1:]) / 2
    # No threshold separates equal scores, and none lies below 0.
    possible = np.append(edges[:-2] < edges[1:-1], True)

    quality = _quality(missed, cuts, goal)
    below_half = int((~above_threshold(ranked, HALF)).sum())
    if quality[below_half] >= quality[possible].max() - 1e-12:
        return HALF
    best = halfway[possible & (quality >= quality[possible].max() - 1e-12)]
    return float(best[np.abs(best - HALF).argmin()])


def _quality(missed: np.ndarray, cuts: np.ndarray, goal: str) -> np.ndarray:
    """``goal`` for each cut, float64 ``[N + 1]``; cut k misses ``missed[k]`` present labels."""
    present, count = missed[-1], cuts[-1]
    hits = present - missed
    if goal == "accuracy":
        return (hits + cuts - missed) / count
    decided = count - cuts
    return np.where(decided + present > 0, 2 * hits / np.maximum(decided + present, 1), 1.0)


def per_label_thresholds(
    scores: np.ndarray, target: np.ndarray, goal: str = "accuracy"
) -> np.ndarray:
    """``best_label_threshold`` for each label.

    Args:
        scores: float ``[N, L]``, in [0, 1].
        target: int ``[N, L]``, 0 or 1.
        goal: see ``best_label_threshold``.

    Returns:
        float64 ``[L]``, in [0, 1].
    """
    return np.array(
        [best_label_threshold(scores[:, k], target[:, k], goal) for k in range(scores.shape[1])]
    )


def shared_threshold(scores: np.ndarray, target: np.ndarray, goal: str = "accuracy") -> np.ndarray:
    """``best_label_threshold`` of all labels together, repeated for each label.

    Args:
        scores: float ``[N, L]``, in [0, 1].
        target: int ``[N, L]``, 0 or 1.
        goal: see ``best_label_threshold``.

    Returns:
        float64 ``[L]``, in [0, 1], all equal.
    """
    best = best_label_threshold(scores.reshape(-1), target.reshape(-1), goal)
    return np.full(scores.shape[1], best)
