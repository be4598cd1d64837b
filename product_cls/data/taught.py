"""Soft targets of some pictures: what a teacher thinks of them, in place of labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Taught:
    """A teacher's answers for M of the N pictures of a sample table.

    Attributes:
        position: int64 ``[N]``, the row of ``scores`` for each row of the sample table; -1 for
            pictures without an answer.
        scores: the teacher's probabilities, float32 ``[M, C]``; rows sum to 1.
        weight: of each answer in the loss, float32 ``[M]``, 0 to 1.
        unlabelled: bool ``[N]``, pictures that are learned by the answer alone: their labels, if
            the sample table knows some, are never shown to the training.

    Raises:
        ValueError: arrays that do not fit together.
    """

    position: np.ndarray
    scores: np.ndarray
    weight: np.ndarray
    unlabelled: np.ndarray

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.scores) or self.position.max(initial=-1) >= len(
            self.scores
        ):
            raise ValueError(f"{len(self.scores)} answers and {len(self.weight)} weights")

    @property
    def unlabelled_rows(self) -> np.ndarray:
        """Rows of the sample table that only the teacher names, int64."""
        return np.flatnonzero(self.unlabelled)

    def answer(self, row: int) -> tuple[np.ndarray, np.float32]:
        """The answer for a row of the sample table and its weight; zeros without an answer."""
        place = int(self.position[row])
        if place < 0:
            return np.zeros(self.scores.shape[1], np.float32), np.float32(0)
        return self.scores[place], self.weight[place]
