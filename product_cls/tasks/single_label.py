"""One label per picture: softmax over the classes."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from product_cls.core.arguments import renamed_arguments
from product_cls.core.names import nfc
from product_cls.data.samples import natural_key
from product_cls.losses.class_weights import (
    check_smoothing,
    check_weight_count,
    class_weights,
    set_class_weights,
)
from product_cls.losses.distill import taught_loss
from product_cls.losses.multi_label import takes_one_label
from product_cls.metrics.epoch import MacroF1
from product_cls.tasks.base import Task

UNKNOWN = -1  # no label; left out of every metric
UNSEEN = -2  # a label that training does not have; always wrong


class SingleLabel(Task):
    """Softmax classifier.

    Targets are int64 ``[N]``, negative if unknown or unseen; scores are probabilities.

    Args:
        label: column of the sample table.
        loss: takes logits ``[B, C]`` and targets ``[B]``; cross entropy if None.
        classes: only to rebuild a task from a checkpoint; otherwise ``fit`` learns them.
        weights: class weights of the loss, a kind of ``class_weights``; None for equal weights.

    Raises:
        ValueError: the loss is for another task, or one of its settings is out of range.
    """

    name: ClassVar[str] = "single_label"
    one_label: ClassVar[bool] = True
    teachable: ClassVar[bool] = True
    embeds: ClassVar[bool] = False  # whether the head returns embeddings, too

    def __init__(
        self,
        label: str = "label",
        loss: nn.Module | None = None,
        classes: list[str] | None = None,
        *,
        weights: str | None = None,
    ) -> None:
        self._label, self._weights = nfc(str(label)), weights
        self._loss = loss or nn.CrossEntropyLoss()
        self.classes = [nfc(str(name)) for name in classes or []]
        kind = type(self._loss).__name__
        if self.takes_embeddings and not self.embeds:
            raise ValueError(f"loss={kind} is over embeddings, which only the retrieval task has.")
        if not takes_one_label(self._loss):
            raise ValueError(
                f"loss={kind} is for several labels per picture, which the multi_label task has."
            )
        with renamed_arguments("loss"):
            check_smoothing(self._loss)

    @property
    def label(self) -> str:
        return self._label

    @property
    def takes_embeddings(self) -> bool:
        """Whether the loss is over embeddings instead of logits."""
        return getattr(self._loss, "on_embeddings", False)

    @property
    def class_loss(self) -> nn.Module:
        """The loss over logits; class weights apply to it."""
        return self._loss

    # Training

    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the classes, in natural order: '2' before '10' before 'a'.

        Raises:
            ValueError: the samples have no such column, a training picture has no label, there are
                fewer than two classes, or the loss does not take the class weights.
        """
        if self._label not in samples:
            raise ValueError(
                f"label={self._label} is not a column of the samples; they have "
                f"{', '.join(map(str, samples.columns))}."
            )
        rows = samples[samples["split"] != "test"]
        if (missing := rows[self._label].isna()).any():
            raise ValueError(
                f"label={self._label}: {missing.sum()} training pictures have no label, the first "
                f"is '{rows['id'][missing].iloc[0]}'; the multi_head task accepts missing labels."
            )
        labels = rows[self._label].astype(str)
        self.classes = sorted(set(labels), key=natural_key)
        if len(self.classes) < 2:
            raise ValueError(
                f"label={self._label} has only one class, {self.classes[0]}; at least 2 are needed."
            )
        self.counts = labels.value_counts().reindex(self.classes).to_numpy()
        with renamed_arguments("loss"):
            check_weight_count(self._loss, len(self.classes))
        if self._weights is not None:
            with renamed_arguments(f"weights={self._weights}", kind="weights"):
                set_class_weights(self.class_loss, class_weights(self.counts, self._weights))

    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """int64 ``[N]``; -1 for a missing label, -2 for a label that training does not have."""
        position = {name: index for index, name in enumerate(self.classes)}
        column = samples[self._label].astype(object)
        return np.array(
            [UNKNOWN if pd.isna(x) else position.get(str(x), UNSEEN) for x in column], np.int64
        )

    def head(self, in_features: int) -> nn.Module:
        return nn.Linear(in_features, len(self.classes))

    def loss(self, outputs: Any, target: Tensor) -> Tensor:
        # The task is not a module, so class weights do not move to the device with the network.
        value: Tensor = self._loss.to(outputs.device)(outputs, target)
        return value

    def taught_loss(self, outputs: Any, target: Tensor, answer: Tensor, weight: Tensor) -> Tensor:
        loss = self._loss.to(outputs.device)
        return taught_loss(loss, outputs, target, answer, weight)

    def metrics(self) -> MetricCollection:
        # Micro: the share of pictures, as on leaderboards; torchmetrics' default is macro.
        count = len(self.classes)
        accuracy = MulticlassAccuracy(count, average="micro")
        return MetricCollection({"accuracy": accuracy, "f1": MacroF1(count)}, compute_groups=False)

    def scores(self, outputs: Any) -> Tensor:
        return torch.softmax(outputs.float(), dim=-1)

    # Decoding

    def decide(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(self.classes)[scores.argmax(axis=1)]

    def target_name(self, target: np.ndarray) -> str:
        if target >= 0:
            return self.classes[int(target)]
        return "no label" if target == UNKNOWN else "a label unknown to training"

    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        labelled = target != UNKNOWN
        if not labelled.any():
            return {}
        decided = scores[labelled].argmax(axis=1)
        return {"accuracy": float((decided == target[labelled]).mean())}

    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(target >= 0)
        return rows, scores[rows, target[rows]]

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "label": self._label, "classes": list(self.classes)}
