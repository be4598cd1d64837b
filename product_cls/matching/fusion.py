"""Scores of a classifier joined with the points that pictures have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

FLOOR = 1e-8  # lower bound of scores
COMPARED = 1e-3  # the same for classes that were compared, which points may still save
CLASSES = 5  # best classes of a picture, with whose pictures it is compared
MOST = 400.0  # matched points; no picture has more


def best_classes(scores: np.ndarray) -> np.ndarray:
    """The classes whose scores points may change, best first.

    Args:
        scores: float ``[N, C]``.

    Returns:
        int64 ``[N, K]``, K the smaller of ``CLASSES`` and C.
    """
    order: np.ndarray = np.argsort(-scores, axis=1, kind="stable")[:, :CLASSES]
    return order


@dataclass(frozen=True)
class Fusion:
    """Class scores ``softmax(scores_weight * log score + points_weight * log(1 + points))``.

    Attributes:
        scores_weight: 0 or more; below 1 for scores that are too confident.
        points_weight: 0 or more.
    """

    scores_weight: float
    points_weight: float

    def apply(self, scores: np.ndarray, classes: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Joined scores.

        Args:
            scores: probabilities, float ``[N, C]``.
            classes: int64 ``[N, K]``, the classes that were compared.
            points: most points in common with a picture of these classes, float ``[N, K]``.

        Returns:
            float32 ``[N, C]``; rows sum to 1.
        """
        logits = self.scores_weight * np.log(np.maximum(scores.astype(np.float64), FLOOR))
        compared = np.maximum(np.take_along_axis(scores, classes, 1).astype(np.float64), COMPARED)
        joined = self.scores_weight * np.log(compared) + self.points_weight * np.log1p(points)
        np.put_along_axis(logits, classes, joined, 1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    def can_change(self, scores: np.ndarray) -> np.ndarray:
        """Whether points could change the best class, bool ``[N]``, for scores ``[N, C]``."""
        second, first = np.sort(np.maximum(scores, COMPARED), axis=1)[:, -2:].T
        lead = self.scores_weight * np.log(first.astype(np.float64) / second)
        changed: np.ndarray = lead <= self.points_weight * np.log1p(MOST)
        return changed


DEFAULT = Fusion(1.0, 0.5)


def fit_fusion(
    scores: np.ndarray, classes: np.ndarray, points: np.ndarray, target: Sequence[int] | np.ndarray
) -> Fusion:
    """The weights with the lowest log loss on held-out pictures, near ``DEFAULT``.

    A normal prior of width 1 on the logarithm of the first and on the second keeps both near the
    default where nearly all held-out answers are right, which tells little about harder pictures.

    Args:
        scores, classes, points: as for ``Fusion.apply``.
        target: classes of the pictures, int ``[N]``; negative if unknown.

    Returns:
        Weights from 0.01 to 100, and from 0 to 10; ``DEFAULT`` without labels.
    """
    truth = np.asarray(target)
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        return DEFAULT
    parts = scores[known], classes[known], points[known]

    def fusion(weights: np.ndarray) -> Fusion:
        return Fusion(float(np.exp(weights[0])), float(weights[1]))

    def loss(weights: np.ndarray) -> float:
        joined = fusion(weights).apply(*parts)
        right = joined[np.arange(len(known)), truth[known]].astype(np.float64)
        prior = (weights[0] ** 2 + (weights[1] - DEFAULT.points_weight) ** 2) / 2
        return float((prior - np.log(np.maximum(right, FLOOR)).sum()) / len(known))

    # From several starts, because the loss is flat where all answers are right.
    starts = [(0.0, 0.0), (0.0, 1.0), (2.0, 1.0)]
    bounds = [(np.log(0.01), np.log(100)), (0.0, 10.0)]
    found = [minimize(loss, start, bounds=bounds, method="L-BFGS-B") for start in starts]
    return fusion(min(found, key=lambda result: float(result.fun)).x)
