"""Predictions files: a run's scores for a split, read by ensembles, tables and reports."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_cls.core.arrays import StoredArray, load_arrays, save_arrays
from product_cls.core.errors import UserError
from product_cls.data.fold_names import view_name
from product_cls.inference.stored_predictions import (
    FLOATS,
    SCORES,
    check_agreement,
    check_array,
    check_finite,
    check_scores,
    read_task,
)
from product_cls.tasks import Decoder, Presentation, build_task

# Fields of ``Predictions`` that not every run has.
OPTIONAL = ("view", "embedding", "embedding_no_tta", "class_scores", "class_scores_no_tta")


@dataclass(frozen=True)
class Predictions:
    """A run's scores for one split of N pictures.

    Attributes:
        id: ids of the samples, text ``[N]``.
        scores: float32 ``[N, C]``, averaged over the views of test-time augmentation (TTA).
        scores_no_tta: float32 ``[N, C]``, of the unaugmented picture.
        classes: names of the columns, text ``[C]``.
        task: ``Task.spec()``, from which the task that decides and evaluates is rebuilt.
        target: ``[N, ...]`` as the task encodes it; the task marks unknown labels.
        view: the condition that shifts, such as a camera pitch, ``[N]``; NaN or "" if unknown; None
            without views.
        embedding, embedding_no_tta: float32 ``[N, D]``, L2-normalised; None for tasks without
            embeddings.
        class_scores, class_scores_no_tta: the head's scores, float32 ``[N, C]``, if ``scores`` are
            a vote of neighbours; otherwise None.
        asked: ids of all pictures of the split in their order, text ``[M]``, if some of them could
            not be read and have no row; otherwise None.

    Raises:
        ValueError: arrays of different lengths or shapes.

    Scores may stay in the file (see ``load``); each access then reads them and keeps nothing.
    """

    id: np.ndarray
    scores: np.ndarray
    scores_no_tta: np.ndarray
    classes: np.ndarray
    task: dict[str, Any]
    target: np.ndarray
    view: np.ndarray | None = None
    embedding: np.ndarray | None = None
    embedding_no_tta: np.ndarray | None = None
    class_scores: np.ndarray | None = None
    class_scores_no_tta: np.ndarray | None = None
    asked: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.id) != len(self.target):
            raise ValueError(f"{len(self.id)} ids and {len(self.target)} targets")
        check_scores(vars(self), len(self.id), len(self.classes))

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value.read() if isinstance(value, StoredArray) else value

    def save(self, file: Path) -> None:
        """Write the file whole or not at all, without pickle.

        Raises:
            UserError: a score is not finite, which no reader would believe.
        """
        arrays = {
            "id": self.id.astype(np.str_),
            "classes": self.classes.astype(np.str_),
            "task": np.array(json.dumps(self.task)),
            "target": self.target,
        }
        if self.asked is not None:
            arrays["asked"] = self.asked.astype(np.str_)
        if self.view is not None:
            arrays["view"] = self.view
        try:
            for name in FLOATS:
                if (array := getattr(self, name)) is not None:
                    arrays[name] = array.astype(np.float32)
                    check_finite(name, arrays[name])
        except ValueError as error:
            raise UserError(
                f"{file} is not written: {error}; the network's weights are not finite, or a "
                "picture overflows its precision."
            ) from None
        save_arrays(file, arrays)

    @classmethod
    def load(cls, file: Path, *, stored: bool = False) -> "Predictions":
        """Read a file that ``save`` wrote.

        Args:
            stored: leave the scores in the file and read them on each access. Scores of fifteen
                runs for 72,000 pictures and 1,000 classes take 8.6 GB.

        Raises:
            UserError: the file is missing, damaged or not a predictions file, its arrays disagree,
                or a score is not finite.
        """

        def build(arrays: dict[str, Any]) -> "Predictions":
            if "task" not in arrays:
                raise ValueError("it holds no 'task'")
            spec = read_task(arrays["task"])
            check_agreement(arrays, spec)
            return cls(**arrays | {"task": spec})

        names = SCORES if stored else ()
        return load_arrays(file, build, "predictions file", stored=names, check=check_array)

    def in_memory(self) -> "Predictions":
        """The same predictions; scores that were left in the file are read once and kept."""
        return replace(self)

    def make_task(self) -> Presentation:
        """The task that decides and evaluates these scores."""
        return build_task(self.task)

    def without_tta(self) -> "Predictions":
        """The same predictions with the scores and embeddings of the unaugmented pictures."""
        return replace(
            self,
            scores=self.scores_no_tta,
            embedding=self.embedding_no_tta,
            class_scores=self.class_scores_no_tta,
        )

    def rows(self, rows: np.ndarray) -> "Predictions":
        """Some rows, by position (int) or mask (bool ``[N]``)."""
        optional: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[rows]
            for name in OPTIONAL
        }
        return replace(
            self,
            id=self.id[rows],
            scores=self.scores[rows],
            scores_no_tta=self.scores_no_tta[rows],
            target=self.target[rows],
            **optional,
        )

    def by_view(self) -> dict[str, "Predictions"]:
        """The rows of each view, by its name; empty if views are unknown or all the same."""
        if self.view is None:
            return {}
        views = sorted(view for view in pd.Series(self.view).dropna().unique() if view != "")
        if len(views) < 2:
            return {}
        return {view_name(view): self.rows(self.view == view) for view in views}


def summarise(predictions: Predictions, task: Decoder) -> dict[str, Any]:
    """Metrics of a split.

    Returns:
        ``count`` (pictures); if labels are known, the task's metrics, the same without TTA
        (``..._no_tta``), and ``by_view``: view -> metrics.
    """
    overall = task.evaluate(predictions.scores, predictions.target)
    if not overall:
        return {"count": len(predictions.id)}
    plain = task.evaluate(predictions.scores_no_tta, predictions.target)
    views = {
        name: task.evaluate(part.scores, part.target)
        for name, part in predictions.by_view().items()
    }
    return {
        "count": len(predictions.id),
        **overall,
        **{f"{name}_no_tta": value for name, value in plain.items()},
        **({"by_view": views} if views else {}),
    }
