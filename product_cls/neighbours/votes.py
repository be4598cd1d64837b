"""Turns neighbours and their labels into scores of classes."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

KINDS = ("nearest", "weighted", "winners")
FLOOR = 1e-8  # lower bound of class probabilities in the winners' vote
POWERS = (9, 10)  # of similarity and class probability, as published


@dataclass(frozen=True)
class Vote:
    """How the k nearest gallery pictures become scores of classes.

    Args:
        kind: ``nearest`` scores a class by its nearest picture, so the nearest neighbour
            decides; ``weighted`` by the sum of its pictures' similarities; ``winners`` by
            ``sum(sim^9 * class_probability^10)`` as in the winning system, with the probabilities
            of the softmax head.
        k: number of neighbours that vote, 1 or more.

    Raises:
        ValueError: an unknown kind, or a ``k`` that is not a whole number of 1 or more.
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
        """Number of pictures that a product needs to win if they are the nearest of all.

        With fewer than half of k pictures, the other neighbours can outvote it, however near its
        pictures are. (The winners' vote also depends on the head.)
        """
        return 1 if self.kind == "nearest" else math.ceil(self.k / 2)

    def spec(self) -> dict[str, Any]:
        return asdict(self)

    def altered(self, kind: str | None, k: int | None) -> "Vote":
        """The same vote with another kind or k; None keeps the current value."""
        return Vote(self.kind if kind is None else kind, self.k if k is None else k)

    def raw(
        self,
        similarity: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        class_scores: np.ndarray | None = None,
    ) -> np.ndarray:
        """Votes before normalisation.

        Args:
            similarity: cosines float ``[N, k]``; neighbours with negative cosines do not vote.
            labels: int64 ``[N, k]``, classes of the neighbours; negative labels do not vote.
            num_classes: C.
            class_scores: probabilities of the softmax head, float ``[N, C]``; for ``winners`` only.

        Returns:
            float64 ``[N, C]``, 0 or more.

        Raises:
            ValueError: ``winners`` without ``class_scores``.
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
            probability = np.maximum(np.take_along_axis(class_scores, labels, axis=1), FLOOR)
            weight = weight ** POWERS[0] * probability.astype(np.float64) ** POWERS[1]
        np.add.at(votes, (rows, labels), weight)
        return votes

    def scores(
        self,
        similarity: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        class_scores: np.ndarray | None = None,
    ) -> np.ndarray:
        """Votes normalised to sum 1, float32 ``[N, C]``; takes the arguments of ``raw``.

        If no neighbour votes, the class of the nearest labelled neighbour gets 1; without any
        labelled neighbour all classes get equal shares.
        """
        votes = self.raw(similarity, labels, num_classes, class_scores)
        without_votes = np.flatnonzero(votes.sum(axis=1) == 0)
        near = np.where(labels[without_votes] >= 0, similarity[without_votes], -np.inf).argmax(
            axis=1
        )
        nearest = labels[without_votes, near][:, None]
        votes[without_votes] = (nearest < 0) | (nearest == np.arange(num_classes))
        return (votes / votes.sum(axis=1, keepdims=True)).astype(np.float32)
