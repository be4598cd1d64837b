"""How a task's scores are shown: columns of a submission, tables and captions."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from product_cls.tasks.decoder import Decoder


class Presentation(Decoder):
    """Presents scores in submissions, tables and captions.

    Attributes:
        id_column: the column of a submission that names the pictures.
    """

    id_column: ClassVar[str] = "filename"

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a submission, ``[N]`` each, without ``id_column``, for scores ``[N, C]``."""
        return {"prediction": self.decide(scores)}

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """A table of predictions, and captions of the pictures.

        Args:
            scores: ``[N, C]``.
            top: maximum number of classes to name, 1 or more.

        Returns:
            Columns of the table by name, ``[N]`` each, and the lines of each picture's caption.
        """
        names, values = top_k(scores, self.classes, top)
        table = {}
        for k in range(names.shape[1]):
            table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
        captions = [
            [f"{name}  {value:.0%}" for name, value in zip(*row, strict=True)]
            for row in zip(names, values, strict=True)
        ]
        return table, captions

    def margins(self, scores: np.ndarray) -> np.ndarray:
        """How clear each decision is, ``[N]`` in [0, 1]: the best score less the second best.

        Args:
            scores: ``[N, C]``.
        """
        return best_less_second(scores)

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """Labels with their scores, best first, for each picture.

        Args:
            scores: ``[N, C]``.
            top: maximum number of labels, 1 or more.
        """
        names, values = top_k(scores, self.classes, top)
        return [
            [(str(name), float(value)) for name, value in zip(*row, strict=True)]
            for row in zip(names, values, strict=True)
        ]


def best_less_second(scores: np.ndarray) -> np.ndarray:
    """The best score less the second best, ``[N]``, for scores ``[N, C]``; of one class, itself."""
    best: np.ndarray = np.sort(scores, axis=1)[:, -2:]
    margin: np.ndarray = best[:, -1] - (best[:, 0] if best.shape[1] == 2 else 0)
    return margin


def top_k(scores: np.ndarray, classes: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best classes and their scores.

    Args:
        scores: ``[N, C]``.
        classes: C names.
        k: 1 or more.

    Returns:
        Names and scores, best first, each ``[N, min(k, C)]``.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray(classes)[order], np.take_along_axis(scores, order, axis=1)
