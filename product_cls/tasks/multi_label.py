"""Several labels a picture, each there or not: a sigmoid a label."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest
from product_cls.data.label_table import check_both_kinds, label_columns, zeros_and_ones
from product_cls.losses.multi_label import balance, takes_several_labels, weigh_present
from product_cls.metrics.epoch import EpochMeasure
from product_cls.metrics.multi_label import measure, present
from product_cls.metrics.thresholds import HALF
from product_cls.tasks.base import Task

UNKNOWN = -1  # pictures with an unknown label are left out of every metric
BALANCED = "balanced"
TAKEN = ("index", "image", "labels")  # columns of the files in which each label has one


class MultiLabel(Task):
    """A binary classifier a label, on one network.

    Targets are int64 ``[N, L]``, 0, 1 or -1 for unknown; scores are probabilities, independent of
    one another.

    Args:
        labels: columns of the sample table, 2 or more; None for all its label columns.
        loss: takes logits and targets ``[B, L]``; binary cross entropy where None.
        weights: of present labels in the loss: ``balanced`` makes up for their rarity; or a number
            above 0 for each label; None for none.
        thresholds: probabilities above which a label is said to be there, ``[L]``; one half where
            None.

    Raises:
        UserError: a loss over classes of which one is right, or a value outside its range.
    """

    name: ClassVar[str] = "multi_label"
    blend_methods: ClassVar[tuple[str, ...]] = ("mean", "logits")
    id_column: ClassVar[str] = "index"
    multi_label: ClassVar[bool] = True

    def __init__(
        self,
        labels: list[str] | None = None,
        loss: nn.Module | None = None,
        *,
        weights: str | Sequence[float] | None = None,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        if labels is not None and (len(labels) < 2 or len(set(labels)) < len(labels)):
            raise UserError(f"task.labels={labels}; allowed: 2 or more names, each once, or null.")
        if not (weights is None or weights == BALANCED or _all_above_0(weights)):
            raise UserError(
                f"task.weights={weights}; allowed: {BALANCED}, a list of numbers above 0, one for "
                f"each label, or null."
            )
        self._asked, self._weights = labels, weights
        self._loss = loss or nn.BCEWithLogitsLoss()
        if not takes_several_labels(self._loss):
            raise UserError(
                f"loss={type(self._loss).__name__} is for one label a picture; allowed with "
                f"task=multi_label: bce, bce_focal, asymmetric."
            )
        self.classes = list(labels or [])
        self._thresholds = None if thresholds is None else [float(value) for value in thresholds]

    @property
    def label(self) -> str:
        """Names folds files, which differ with the labels."""
        return "labels" if self._asked is None else f"labels-{digest(self._asked)[:8]}"

    @property
    def thresholds(self) -> np.ndarray:
        """Of each label, float64 ``[L]``."""
        return np.asarray(self._thresholds or [HALF] * len(self.classes), dtype=np.float64)

    def stratify_by(self, samples: pd.DataFrame) -> list[str]:
        """The label columns.

        Raises:
            UserError: the samples lack one, it holds something other than 0 and 1, or has a name
                that means something else in submissions and predictions.
        """
        labels = label_columns(samples) if self._asked is None else list(self._asked)
        if absent := [name for name in labels if name not in samples]:
            raise UserError(
                f"task.labels names '{absent[0]}', which is no column of the samples; they have "
                f"{', '.join(label_columns(samples))}."
            )
        if clash := [name for name in labels if name in TAKEN]:
            raise UserError(
                f"A label cannot be called '{clash[0]}', which submissions and predictions have a "
                f"column of; rename it, or leave it out of task.labels."
            )
        if len(labels) < 2:
            raise UserError(
                f"task=multi_label needs 2 or more label columns; the samples have "
                f"{', '.join(labels) or 'none'}."
            )
        zeros_and_ones(samples[samples["split"] != "test"], labels, "The samples (task.labels)")
        return labels

    def fit(self, samples: pd.DataFrame) -> None:
        self.classes = self.stratify_by(samples)
        check_both_kinds(samples, self.classes, "The samples (task.labels)")
        if self._weights == BALANCED:
            targets = self.encode(samples[samples["split"] != "test"])
            weigh_present(self._loss, balance(targets))
        elif self._weights is not None:
            if len(self._weights) != len(self.classes):
                raise UserError(
                    f"task.weights has {len(self._weights)} numbers for {len(self.classes)} labels "
                    f"({', '.join(self.classes)}); give one for each."
                )
            weigh_present(self._loss, np.asarray(self._weights, np.float32))

    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """int64 ``[N, L]``; -1 for a missing label."""
        columns = [pd.to_numeric(samples[name], errors="coerce") for name in self.classes]
        values = np.stack([column.to_numpy(float) for column in columns], axis=1)
        return np.where(np.isnan(values), UNKNOWN, values).astype(np.int64)

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        count = learned.sum(axis=0)
        return [
            f"Label '{name}': {'no' if there == 0 else 'every'} picture to learn from has it."
            for name, there in zip(self.classes, count, strict=True)
            if there in (0, len(learned))
        ]

    def head(self, in_features: int) -> nn.Module:
        return nn.Linear(in_features, len(self.classes))

    def loss(self, outputs: Any, target: Tensor) -> Tensor:
        # The task is no module: weights of labels do not move with the network.
        value: Tensor = self._loss.to(outputs.device)(outputs, target.to(outputs.dtype))
        return value

    def metrics(self) -> MetricCollection:
        # Over the epoch, by one half: thresholds are tuned afterwards.
        return MetricCollection({"labels": EpochMeasure(self.evaluate, "accuracy")})

    def scores(self, outputs: Any) -> Tensor:
        return torch.sigmoid(outputs.float())

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        """As they are: each label has a probability of its own."""
        return scores

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Scores ``[N, L]`` -> the labels that are there, joined by spaces, ``[N]``."""
        names = np.asarray(self.classes)
        return np.array([" ".join(names[row]) for row in present(scores, self.thresholds)])

    def target_name(self, target: np.ndarray) -> str:
        return " ".join(np.asarray(self.classes)[target == 1])

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        said = present(scores, self.thresholds).astype(np.int64)
        return {name: said[:, k] for k, name in enumerate(self.classes)}

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """All labels' probabilities after the labels that are there; of those, ``top`` lines."""
        table = {"labels": self.decide(scores)}
        table |= {name: scores[:, k].round(4) for k, name in enumerate(self.classes)}
        lines = []
        for row, said in zip(scores, present(scores, self.thresholds), strict=True):
            likely = [k for k in np.argsort(-row, kind="stable") if said[k]]
            lines.append([f"{self.classes[k]}  {row[k]:.0%}" for k in likely[:top]] or ["(none)"])
        return table, lines

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """The labels above their thresholds, all of them: ``top`` is for tasks of one label."""
        return [
            [(self.classes[k], float(row[k])) for k in np.argsort(-row, kind="stable") if above[k]]
            for row, above in zip(scores, present(scores, self.thresholds), strict=True)
        ]

    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """``label_measures.measure``, of the pictures all whose labels are known."""
        known = (target != UNKNOWN).all(axis=1)
        return measure(scores[known], target[known], self.thresholds) if known.any() else {}

    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = np.nonzero(target != UNKNOWN)
        likely = scores[rows, labels]
        return rows, np.where(target[rows, labels] == 1, likely, 1 - likely)

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"name": self.name, "labels": list(self.classes)}
        return spec if self._thresholds is None else spec | {"thresholds": self._thresholds}


def _all_above_0(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < np.inf for x in values
    )


def read_thresholds(file: Path) -> dict[str, float]:
    """Thresholds by label, from ``thresholds.json``.

    Raises:
        UserError: no such file, or not one of ours.
    """
    try:
        found = json.loads(file.read_text())["thresholds"]
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no file of thresholds: {reason(error)}.") from None


def with_thresholds(task: Task, thresholds: Mapping[str, float]) -> Task:
    """The task, deciding by other thresholds.

    Raises:
        UserError: a task of one label a picture, or thresholds of other labels.
    """
    if not isinstance(task, MultiLabel):
        raise UserError(f"thresholds are for task=multi_label; the checkpoint's is {task.name}.")
    if set(thresholds) != set(task.classes):
        first = sorted(set(thresholds) ^ set(task.classes))[0]
        raise UserError(
            f"The thresholds are for other labels than the checkpoint's: only one of them has "
            f"'{first}'."
        )
    values = np.array([thresholds[name] for name in task.classes])
    return MultiLabel(list(task.classes), thresholds=values.tolist())
