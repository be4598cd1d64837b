"""Files of soft targets: a teacher's answers by picture, which a run with ``teacher=`` learns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_cls.core.arrays import load_arrays, save_arrays
from product_cls.core.errors import UserError
from product_cls.core.names import shown
from product_cls.data.taught import Taught

CLOSE = 1e-3  # by which the sum of probabilities may differ from 1


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's answers for N pictures.

    Attributes:
        id: ids of the samples, text ``[N]``, each once.
        scores: probabilities, float32 ``[N, C]``.
        weight: of each answer in the loss, float32 ``[N]``, 0 to 1.
        classes: names of the columns, text ``[C]``.

    Raises:
        ValueError: shapes that do not fit together, ids that repeat, or values out of range.
    """

    id: np.ndarray
    scores: np.ndarray
    weight: np.ndarray
    classes: np.ndarray

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.id), len(self.classes)):
            raise ValueError(
                f"scores of shape {list(self.scores.shape)} for {len(self.id)} pictures and "
                f"{len(self.classes)} classes"
            )
        if self.weight.shape != (len(self.id),):
            raise ValueError(f"{len(self.id)} ids and weights of shape {list(self.weight.shape)}")
        if len(np.unique(self.id)) < len(self.id):
            raise ValueError("an id occurs twice")
        sums = self.scores.sum(axis=1)
        if not ((self.scores >= 0).all() and (np.abs(sums - 1) < CLOSE).all()):
            raise ValueError("scores that are no probabilities")
        if not ((self.weight >= 0) & (self.weight <= 1)).all():
            raise ValueError("weights outside of 0 to 1")

    def save(self, file: Path) -> None:
        """Write the file whole or not at all; equal contents give equal bytes."""
        save_arrays(
            file,
            {
                "id": self.id.astype(np.str_),
                "scores": self.scores.astype(np.float32),
                "weight": self.weight.astype(np.float32),
                "classes": self.classes.astype(np.str_),
            },
        )

    @classmethod
    def load(cls, file: Path) -> "SoftTargets":
        """Read a file that ``save`` wrote.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """

        def build(arrays: dict[str, Any]) -> "SoftTargets":
            return cls(**{name: arrays[name] for name in ("id", "scores", "weight", "classes")})

        return load_arrays(file, build, "file of soft targets")

    def taught(
        self, samples: pd.DataFrame, classes: list[str], held_out: np.ndarray, where: str
    ) -> Taught:
        """The answers for the pictures of a run.

        Args:
            samples: the sample table.
            classes: of the run's task, in the order of its scores.
            held_out: ids of the validation pictures, which are never learned.
            where: the setting, for messages: ``teacher=FILE``.

        Raises:
            UserError: the classes differ, or no answer is of a picture that the run may learn.
        """
        if self.classes.tolist() != classes:
            odd = sorted(set(self.classes.tolist()) ^ set(classes))
            difference = f"only one knows '{shown(odd[0])}'" if odd else "in another order"
            raise UserError(
                f"{where} knows {len(self.classes)} classes and this run {len(classes)}, "
                f"{difference}; a teacher has the classes of its student."
            )
        place = pd.Series(np.arange(len(self.id)), index=self.id)
        position = place.reindex(samples["id"]).fillna(-1).to_numpy(np.int64)
        position[samples["id"].isin(held_out).to_numpy()] = -1
        if not (position >= 0).any():
            raise UserError(
                f"{where} has no answer for any of this run's training and test pictures; its "
                f"first is of '{shown(self.id[0])}'."
                if len(self.id)
                else f"{where} holds no answers."
            )
        test = (samples["split"] == "test").to_numpy()
        return Taught(position, self.scores, self.weight, test & (position >= 0))
