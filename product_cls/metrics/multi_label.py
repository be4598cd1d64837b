"""Metrics of several labels per picture, over N pictures and L labels."""

import numpy as np


def above_threshold(scores: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Decide which labels are present.

    Args:
        scores: float ``[N, L]``, in [0, 1].
        thresholds: a number for all labels, or float ``[L]``.

    Returns:
        bool ``[N, L]``.
    """
    # In float64: rounded to float32, a threshold between two adjacent scores would equal one.
    return np.asarray(scores) > np.asarray(thresholds, dtype=np.float64)


def multi_label_metrics(
    scores: np.ndarray, target: np.ndarray, thresholds: np.ndarray | float = 0.5
) -> dict[str, float]:
    """All metrics by name, each in [0, 1].

    Args:
        scores: float ``[N, L]``, in [0, 1], N of 1 or more.
        target: int ``[N, L]``, 0 or 1.
        thresholds: scores above which a label counts as present: a number for all labels, or float
            ``[L]``.

    Returns:
        ``accuracy``: share of correct decisions over all pictures and labels. ``exact``: share of
        pictures with all labels correct. ``f1_macro``: mean F1 of the labels that are present or
        decided in some picture. ``f1_micro``: F1 over all labels together. Both are 1 if no label
        is present or decided anywhere. ``mAP``: mean average precision of the labels that some
        picture has; missing if there is no such label.
    """
    decided, truth = above_threshold(scores, thresholds), target > 0
    correct = decided == truth
    hits = 2 * (decided & truth).sum(axis=0)
    sizes = decided.sum(axis=0) + truth.sum(axis=0)
    counted = sizes > 0
    values = {
        "accuracy": correct.mean(),
        "exact": correct.all(axis=1).mean(),
        "f1_macro": (hits[counted] / sizes[counted]).mean() if counted.any() else 1.0,
        "f1_micro": hits.sum() / sizes.sum() if counted.any() else 1.0,
    }
    occurring = [k for k in range(truth.shape[1]) if truth[:, k].any()]
    if occurring:
        values["mAP"] = np.mean([average_precision(scores[:, k], truth[:, k]) for k in occurring])
    return {name: float(value) for name, value in values.items()}


def average_precision(scores: np.ndarray, target: np.ndarray) -> float:
    """Precision at each score, averaged over the pictures that have the label.

    Equal scores count as one step, as in scikit-learn. Its function takes 10 ms a label, mostly for
    checks, and refuses the NaN of a diverged network.

    Args:
        scores: float ``[N]``.
        target: bool or int ``[N]``, 0 or 1, not all 0.

    Returns:
        In [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(target[order])[steps]
    precision = hits / (steps + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / hits[-1])
