"""Several labels per picture, each present or absent: one sigmoid per label."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.arguments import renamed_arguments
from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.core.names import nfc
from product_cls.data.label_table import check_both_kinds, label_columns, zeros_and_ones
from product_cls.losses.multi_label import (
    SEVERAL_LABELS,
    balanced_weights,
    set_present_weights,
    takes_several_labels,
)
from product_cls.metrics.epoch import EpochMetric
from product_cls.metrics.multi_label import above_threshold, multi_label_metrics
from product_cls.metrics.thresholds import HALF
from product_cls.tasks.base import Task

UNKNOWN = -1  # pictures with an unknown label are left out of every metric
BALANCED = "balanced"
# Names of other columns in files that have a column for each label.
TAKEN_NAMES = ("index", "image", "labels")
SOURCE = "The samples (labels of the task)"  # for messages about their columns


class MultiLabel(Task):
    """One binary classifier per label, on a shared network.

    Targets are int64 ``[N, L]``: 0, 1, or -1 if unknown. Scores are independent probabilities.

    Args:
        labels: columns of the sample table, 2 or more; None for all its label columns.
        loss: takes logits and targets ``[B, L]``; binary cross entropy if None.
        weights: of present labels in the loss: ``balanced`` compensates for their rarity; or a
            number above 0 for each label; None for equal weights.
        thresholds: probabilities above which a label counts as present, ``[L]``; one half if None.

    Raises:
        ValueError: a loss for another task, or a value outside its range.
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
        labels = None if labels is None else [nfc(str(name)) for name in labels]
        if labels is not None and (len(labels) < 2 or len(set(labels)) < len(labels)):
            raise ValueError(f"labels={labels}; allowed: 2 or more names, each once, or null.")
        if not (weights is None or weights == BALANCED or _all_above_0(weights)):
            raise ValueError(
                f"weights={weights}; allowed: {BALANCED}, a list of numbers above 0, one for each "
                f"label, or null."
            )
        self._labels, self._weights = labels, weights
        self._loss = loss or nn.BCEWithLogitsLoss()
        if not takes_several_labels(self._loss):
            raise ValueError(
                f"loss={type(self._loss).__name__} is for one label per picture; allowed for "
                f"several: {', '.join(SEVERAL_LABELS)}."
            )
        self.classes = list(labels or [])
        self._thresholds = None if thresholds is None else [float(value) for value in thresholds]

    @property
    def label(self) -> str:
        """Part of the name of the folds file, because folds depend on the labels."""
        return "labels" if self._labels is None else f"labels-{digest(self._labels)[:8]}"

    @property
    def thresholds(self) -> np.ndarray:
        """The threshold of each label, float64 ``[L]`` in [0, 1]."""
        return np.asarray(self._thresholds or [HALF] * len(self.classes), dtype=np.float64)

    # Training

    def stratify_by(self, samples: pd.DataFrame) -> list[str]:
        """The label columns.

        Raises:
            ValueError: the samples have no such column.
            UserError: a column holds values other than 0 and 1, or has a name that is a column of
                submissions or predictions.
        """
        labels = label_columns(samples) if self._labels is None else list(self._labels)
        if missing := [name for name in labels if name not in samples]:
            raise ValueError(
                f"labels=[{', '.join(labels)}]: '{missing[0]}' is not a column of the samples; "
                f"they have {', '.join(label_columns(samples))}."
            )
        if taken := [name for name in labels if name in TAKEN_NAMES]:
            raise UserError(
                f"A label cannot be called '{taken[0]}', because submissions and predictions have "
                f"a column of that name; rename it, or leave it out of the labels."
            )
        if len(labels) < 2:
            raise UserError(
                f"The multi_label task needs 2 or more label columns; the samples have "
                f"{', '.join(labels) or 'none'}."
            )
        zeros_and_ones(samples[samples["split"] != "test"], labels, SOURCE)
        return labels

    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the labels; each must be present in some training pictures and absent in some.

        Raises:
            ValueError: see ``stratify_by``; or weights that do not fit the labels or the loss.
            UserError: see ``stratify_by``; or a label that all training pictures have, or none.
        """
        self.classes = self.stratify_by(samples)
        check_both_kinds(samples, self.classes, SOURCE)
        if self._weights is None:
            return
        if self._weights == BALANCED:
            weights = balanced_weights(self.encode(samples[samples["split"] != "test"]))
        elif len(self._weights) != len(self.classes):
            raise ValueError(
                f"weights={list(self._weights)} has {len(self._weights)} numbers for "
                f"{len(self.classes)} labels ({', '.join(self.classes)}); give one for each."
            )
        else:
            weights = np.asarray(self._weights, np.float32)
        with renamed_arguments(f"weights={self._weights}"):
            set_present_weights(self._loss, weights)

    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """int64 ``[N, L]``: 0, 1, or -1 for a missing label."""
        columns = [pd.to_numeric(samples[name], errors="coerce") for name in self.classes]
        values = np.stack([column.to_numpy(float) for column in columns], axis=1)
        return np.where(np.isnan(values), UNKNOWN, values).astype(np.int64)

    def classes_shown(self, samples: pd.DataFrame) -> set[str]:
        """The labels that some picture has."""
        present = (self.encode(samples) == 1).any(axis=0)
        return {name for name, shown in zip(self.classes, present, strict=True) if shown}

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        return [
            f"Label '{name}': every training picture has it."
            for name, count in zip(self.classes, learned.sum(axis=0), strict=True)
            if count == len(learned)
        ]

    def head(self, in_features: int) -> nn.Module:
        return nn.Linear(in_features, len(self.classes))

    def loss(self, outputs: Any, target: Tensor) -> Tensor:
        # The task is not a module, so weights do not move to the device with the network.
        value: Tensor = self._loss.to(outputs.device)(outputs, target.to(outputs.dtype))
        return value

    def metrics(self) -> MetricCollection:
        # With thresholds of one half; they are tuned after training.
        return MetricCollection({"labels": EpochMetric(self._validated, "accuracy")})

    def _validated(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """``evaluate``, with the macro F1 under the name that it has for all tasks, too."""
        values = self.evaluate(scores, target)
        return {**values, "f1": values["f1_macro"]} if values else {}

    def scores(self, outputs: Any) -> Tensor:
        return torch.sigmoid(outputs.float())

    # Decoding

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        """Unchanged, because the labels' probabilities are independent."""
        return scores

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The present labels joined by spaces, str ``[N]``, for scores ``[N, L]``."""
        names = np.asarray(self.classes)
        return np.array([" ".join(names[row]) for row in above_threshold(scores, self.thresholds)])

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """All labels above their thresholds; ``top`` has no effect."""
        return [
            [(self.classes[k], float(row[k])) for k in np.argsort(-row, kind="stable") if above[k]]
            for row, above in zip(scores, above_threshold(scores, self.thresholds), strict=True)
        ]

    def target_name(self, target: np.ndarray) -> str:
        """The labels that are present, joined by spaces."""
        return " ".join(np.asarray(self.classes)[target == 1])

    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """``multi_label_metrics`` over the pictures whose labels are all known."""
        labelled = (target != UNKNOWN).all(axis=1)
        if not labelled.any():
            return {}
        return multi_label_metrics(scores[labelled], target[labelled], self.thresholds)

    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = np.nonzero(target != UNKNOWN)
        present = scores[rows, labels]
        return rows, np.where(target[rows, labels] == 1, present, 1 - present)

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"name": self.name, "labels": list(self.classes)}
        return spec if self._thresholds is None else spec | {"thresholds": self._thresholds}

    # Presentation

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """A column of 0 and 1 for each label, int64 ``[N]``, for scores ``[N, L]``."""
        present = above_threshold(scores, self.thresholds).astype(np.int64)
        return {name: present[:, k] for k, name in enumerate(self.classes)}

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """The present labels and all probabilities; captions name the ``top`` most likely present
        labels."""
        table = {"labels": self.decide(scores)}
        table |= {name: scores[:, k].round(4) for k, name in enumerate(self.classes)}
        captions = []
        for row, present in zip(scores, above_threshold(scores, self.thresholds), strict=True):
            likeliest = [k for k in np.argsort(-row, kind="stable") if present[k]][:top]
            captions.append([f"{self.classes[k]}  {row[k]:.0%}" for k in likeliest] or ["(none)"])
        return table, captions

    def margins(self, scores: np.ndarray) -> np.ndarray:
        """Twice the distance of the least clear label from its threshold, cut at 1."""
        distance: np.ndarray = 2 * np.abs(scores - np.asarray(self.thresholds))
        return distance.min(axis=1).clip(max=1)


def _all_above_0(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < np.inf for x in values
    )
