"""Thresholds above which a label is said to be there, tuned on predictions with known labels."""

from typing import Literal, get_args

import numpy as np

from product_cls.core.errors import UserError
from product_cls.metrics.multi_label import present

HALF = 0.5


Goal = Literal["accuracy", "f1"]


def check_goal(goal: str) -> None:
    """Raises:
    UserError: an unknown goal.
    """
    if goal not in get_args(Goal):
        raise UserError(f"goal={goal}; allowed: {', '.join(get_args(Goal))}.")


def tune_threshold(scores: np.ndarray, target: np.ndarray, goal: str = "accuracy") -> float:
    """The threshold that is best on these scores, and never worse than one half.

    Candidates lie halfway between neighbouring scores. One half is taken where none is better, or
    there are no scores; else, of several equally good ones, that nearest to one half.

    Args:
        scores: in [0, 1], ``[N]``.
        target: 0 or 1, ``[N]``.
        goal: ``accuracy``, or ``f1`` of the label, for rare ones.

    Raises:
        UserError: an unknown goal.
    """
    check_goal(goal)
    if len(scores) == 0:
        return HALF
    order = np.argsort(scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    # With cut k, the k lowest scores are absent: their labels' count is missed, the rest are hits.
    missed = np.append(0, np.cumsum(target[order] > 0))
    cuts = np.arange(len(ranked) + 1)
    edges = np.concatenate([[0.0], ranked, [1.0]])
    halfway = (edges[:-1] + edges[1:]) / 2
    # Equal scores cannot be told apart, and nothing lies below 0.
    possible = np.append(edges[:-2] < edges[1:-1], True)

    value = _quality(missed, cuts, goal)
    below_half = int((~present(ranked, HALF)).sum())
    if value[below_half] >= value[possible].max() - 1e-12:
        return HALF
    best = halfway[possible & (value >= value[possible].max() - 1e-12)]
    return float(best[np.abs(best - HALF).argmin()])


def _quality(missed: np.ndarray, cuts: np.ndarray, goal: str) -> np.ndarray:
    """``goal`` for each cut: ``missed[k]`` of the labels that are there lie among the k lowest."""
    there, count = missed[-1], cuts[-1]
    hits = there - missed
    if goal == "accuracy":
        return (hits + cuts - missed) / count
    said = count - cuts
    return np.where(said + there > 0, 2 * hits / np.maximum(said + there, 1), 1.0)


def tune_per_label(scores: np.ndarray, target: np.ndarray, goal: str = "accuracy") -> np.ndarray:
    """``tune_threshold`` for each of L labels: ``[N, L]``, ``[N, L]`` -> float64 ``[L]``."""
    return np.array(
        [tune_threshold(scores[:, k], target[:, k], goal) for k in range(scores.shape[1])]
    )


def tune_global(scores: np.ndarray, target: np.ndarray, goal: str = "accuracy") -> np.ndarray:
    """One threshold for all labels, by all of them together, float64 ``[L]``."""
    best = tune_threshold(scores.reshape(-1), target.reshape(-1), goal)
    return np.full(scores.shape[1], best)
