"""The meaning of a task's scores: decisions, metrics and blending. Needs numpy only."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np


class Decoder(ABC):
    """Interprets the scores of a task.

    Scores are float32 ``[N, C]``. Targets are int64 ``[N, ...]``; negative values stand for unknown
    labels.

    Attributes:
        name: of the task, by which ``build_task`` finds it.
        classes: names of the C columns of the scores.
        measures: metrics in tables of runs, the main one first.
        blend_methods: methods of ``blend`` that suit the scores.
        multi_label: whether a picture has several labels, each present or absent.
        one_label: whether a picture has one label, which is one of ``classes``.
    """

    name: ClassVar[str]
    classes: list[str]
    measures: Sequence[str] = ("accuracy",)
    blend_methods: ClassVar[tuple[str, ...]] = ("mean", "gmean", "sharpened")
    multi_label: ClassVar[bool] = False
    one_label: ClassVar[bool] = False

    @property
    def needs_gallery(self) -> bool:
        """Whether the scores are votes of the nearest neighbours in a gallery."""
        return False

    @abstractmethod
    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Names of the decided labels, str ``[N]``, for scores ``[N, C]``."""

    def target_name(self, target: np.ndarray) -> str:
        """The target of one picture, int64 ``[...]``, as ``decide`` would name it."""
        return str(target.tolist())

    @abstractmethod
    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of predictions, over the rows with a known label.

        Args:
            scores: ``[N, C]``.
            target: ``[N, ...]``.

        Returns:
            Values by name, each in [0, 1]; empty if no label is known.
        """

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        """Rescale blended scores ``[N, C]``, 0 or more, to the sums of the task's own scores."""
        result: np.ndarray = scores / scores.sum(axis=1, keepdims=True)
        return result

    @abstractmethod
    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probability given to each true label, which tuning of blend weights maximises.

        Args:
            scores: ``[N, C]``.
            target: ``[N, ...]``.

        Returns:
            For each of the M known labels, its row, int ``[M]``, and the probability given to its
            true value, ``[M]`` in [0, 1], which is linear in the scores.
        """
