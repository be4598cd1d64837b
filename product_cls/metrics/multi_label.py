"""How well scores say which labels a picture has: measures over N pictures and L labels."""

import numpy as np


def present(scores: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Which labels are said to be there: scores ``[N, L]`` above their thresholds, bool."""
    # In float64: as float32 a threshold between two neighbouring scores would be one of them.
    return np.asarray(scores) > np.asarray(thresholds, dtype=np.float64)


def measure(
    scores: np.ndarray, target: np.ndarray, thresholds: np.ndarray | float = 0.5
) -> dict[str, float]:
    """All measures, each in [0, 1].

    Args:
        scores: ``[N, L]``, N of 1 or more.
        target: 0 or 1, ``[N, L]``.
        thresholds: above which a label is said to be there, one or ``[L]``.

    Returns:
        ``accuracy``, the share of right answers over all pictures and labels; ``exact``, of
        pictures with all labels right; ``f1_macro``, mean F1 of the labels that are there or said
        to be, and ``f1_micro``, F1 over all labels together (both 1 where nothing is there and
        nothing said); ``mAP``, mean average precision of the labels that some picture has, absent
        where there is no such label.
    """
    said, there = present(scores, thresholds), target > 0
    right = said == there
    hits = 2 * (said & there).sum(axis=0)
    sizes = said.sum(axis=0) + there.sum(axis=0)
    counted = sizes > 0
    values = {
        "accuracy": right.mean(),
        "exact": right.all(axis=1).mean(),
        "f1_macro": (hits[counted] / sizes[counted]).mean() if counted.any() else 1.0,
        "f1_micro": hits.sum() / sizes.sum() if counted.any() else 1.0,
    }
    ranked = [k for k in range(there.shape[1]) if there[:, k].any()]
    if ranked:
        values["mAP"] = np.mean([average_precision(scores[:, k], there[:, k]) for k in ranked])
    return {name: float(value) for name, value in values.items()}


def average_precision(scores: np.ndarray, target: np.ndarray) -> float:
    """Precision at each score, averaged over the pictures that have the label; equal scores count
    as one step (scikit-learn's definition, whose own function takes 10 ms a label, most of it for
    checks, and refuses the NaN of a network that diverged).

    Args:
        scores: ``[N]``.
        target: 0 or 1, ``[N]``, not all 0.
    """
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(target[order])[steps]
    precision = hits / (steps + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / hits[-1])
