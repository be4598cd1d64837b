"""Neighbours and their labels -> scores of classes."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

KINDS = ("nearest", "weighted", "winners")


FLOOR = 1e-8  # a class probability that the winners' vote counts at least


POWERS = (9, 10)  # of similarity and class probability, as published


@dataclass(frozen=True)
class Vote:
    """How the k nearest training pictures become scores of classes.

    Args:
        kind: ``nearest``, each class by its nearest picture, so that the nearest of all decides;
            ``weighted``, by the sum of similarities; ``winners``, the winning system's
            ``sum(sim^9 * class_probability^10)``, which asks the softmax head as well.
        k: neighbours that vote, 1 or more.

    Raises:
        UserError: an unknown kind, or k below 1.
    """

    kind: str = "weighted"
    k: int = 5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind}; allowed: {', '.join(KINDS)}.")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"k={self.k}; allowed: a whole number, 1 or more.")

    def __str__(self) -> str:
        return f"vote={self.kind} k={self.k}"

    @property
    def needed(self) -> int:
        """Pictures from which a product wins where they are the nearest of all.

        With fewer than half of k, the others of the k can outvote them, however near they are.
        (What the winners' vote thinks of a product depends on the heads as well.)
        """
        return 1 if self.kind == "nearest" else math.ceil(self.k / 2)

    def spec(self) -> dict[str, Any]:
        return asdict(self)

    def altered(self, kind: str | None, k: int | None) -> "Vote":
        """The same but for what is given."""
        return Vote(self.kind if kind is None else kind, self.k if k is None else k)

    def raw(
        self,
        similarity: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        class_scores: np.ndarray | None = None,
    ) -> np.ndarray:
        """Votes as the formulas give them.

        Args:
            similarity: cosines ``[N, k]``; negative ones do not vote.
            labels: int64 ``[N, k]``, classes of the neighbours; negative ones do not vote.
            num_classes: C.
            class_scores: ``[N, C]``, probabilities of the softmax head; for ``winners``.

        Returns:
            float64 ``[N, C]``, 0 or more.
        """
        weight = np.where(labels >= 0, np.maximum(similarity.astype(np.float64), 0.0), 0.0)
        labels = np.maximum(labels, 0)
        rows = np.arange(len(labels))[:, None]
        votes = np.zeros((len(labels), num_classes))
        if self.kind == "nearest":
            np.maximum.at(votes, (rows, labels), weight)
            return votes
        if self.kind == "winners":
            if class_scores is None:
                raise ValueError("kind=winners needs the scores of the head, and there are none.")
            sure = np.maximum(np.take_along_axis(class_scores, labels, axis=1), FLOOR)
            weight = weight ** POWERS[0] * sure.astype(np.float64) ** POWERS[1]
        np.add.at(votes, (rows, labels), weight)
        return votes

    def scores(
        self,
        similarity: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        class_scores: np.ndarray | None = None,
    ) -> np.ndarray:
        """``raw`` as shares that sum to 1, float32 ``[N, C]``.

        Where nobody votes, the nearest neighbour that has a label gets all; where none has one,
        shares are equal.
        """
        votes = self.raw(similarity, labels, num_classes, class_scores)
        silent = np.flatnonzero(votes.sum(axis=1) == 0)
        near = np.where(labels[silent] >= 0, similarity[silent], -np.inf).argmax(axis=1)
        chosen = labels[silent, near][:, None]
        votes[silent] = (chosen < 0) | (chosen == np.arange(num_classes))
        return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
