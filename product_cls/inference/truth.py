"""The labels that a run knew, of the pictures it learned from as well as of those it predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from product_cls.core.arrays import load_arrays, save_arrays
from product_cls.inference.align import check_labels
from product_cls.tasks.decoder import Decoder


@dataclass(frozen=True)
class Truth:
    """Labels of all M pictures of a run.

    Attributes:
        id: text ``[M]``.
        target: ``[M, ...]`` as the task encodes it.
    """

    id: np.ndarray
    target: np.ndarray

    def save(self, file: Path) -> None:
        """Write the file whole or not at all."""
        save_arrays(file, {"id": self.id.astype(np.str_), "target": self.target})

    @classmethod
    def load(cls, file: Path) -> "Truth":
        """Read a file that ``save`` wrote.

        Raises:
            UserError: the file is missing or holds something else.
        """

        def build(arrays: dict[str, Any]) -> "Truth":
            truth = cls(arrays["id"], arrays["target"])
            if truth.id.ndim != 1 or len(truth.id) != len(truth.target):
                raise ValueError("its arrays differ in length")
            return truth

        return load_arrays(file, build, "file of labels")


def check_one_truth(runs: Sequence[tuple[str, Truth]], task: Decoder) -> None:
    """Refuse runs that know different labels of a picture, even if only one of them predicts it.

    Folds predict different pictures, so their predictions alone do not show that a label changed
    between two folds.

    Args:
        runs: (name of the run, its labels) of runs with the same classes.
        task: names the targets.

    Raises:
        UserError: as in ``check_labels``.
    """
    different: list[tuple[str, Truth]] = []  # one run of each list of pictures
    for name, truth in runs:
        for earlier_name, earlier in different:
            if same := np.array_equal(earlier.id, truth.id):  # the usual case
                rows = other_rows = np.arange(len(truth.id))
            else:
                _, rows, other_rows = np.intersect1d(earlier.id, truth.id, return_indices=True)
            targets = earlier.target[rows], truth.target[other_rows]
            check_labels((earlier_name, name), earlier.id[rows], targets, task)
            if same:
                break
        else:
            different.append((name, truth))
