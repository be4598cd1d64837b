"""Several labels per picture with one head each: mask, gender and age, or brand and flavour."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError
from product_cls.core.names import nfc
from product_cls.data.samples import natural_key
from product_cls.losses.multi_task import known_rows, uncertainty_weighted
from product_cls.metrics.epoch import EpochMetric, macro_f1
from product_cls.models.heads import MultiHeadLinear
from product_cls.tasks.base import Task
from product_cls.tasks.head_settings import (
    check_head_loss,
    label_names,
    read_head,
    set_head_weights,
)
from product_cls.tasks.presentation import best_less_second
from product_cls.tasks.single_label import UNKNOWN, UNSEEN


class MultiHead(Task):
    """Softmax over the classes of each of H labels, by linear heads side by side.

    Targets are int64 ``[N, H]``: -1 for a missing label, which losses and metrics leave out; -2 for
    a label that training does not have, which is always wrong. Scores are the probabilities of all
    heads side by side, ``[N, sum of C]``; those of each head sum to 1.

    Args:
        heads: name -> settings of ``Head``, all optional: ``column`` (default: the name),
            ``classes`` (default: those of the samples, in natural order; with a list, other labels
            are refused), ``loss``, ``weight`` (default: 1) and ``class_weights``. None leaves a
            head out. A list of names stands for heads with default settings.
        loss: of heads without their own; cross entropy if None.
        uncertainty: learn the weights of the heads (``losses.uncertainty_weighted``).
        complete: whether every training picture has all labels, so that their combination is a
            class, too. Only to rebuild a task from a checkpoint; otherwise ``fit`` sets it.

    Raises:
        ValueError: no heads, a wrong name or setting, two heads of one column, or weights that are
            both set and learnt.
    """

    name: ClassVar[str] = "multi_head"

    def __init__(
        self,
        heads: Mapping[str, Mapping[str, Any] | None] | Sequence[str],
        loss: nn.Module | None = None,
        *,
        uncertainty: bool = False,
        complete: bool = False,
    ) -> None:
        if not isinstance(heads, Mapping):
            if isinstance(heads, str) or len({nfc(str(name)) for name in heads}) < len(heads):
                raise ValueError(f"heads={heads}; allowed: [names], each once, or a mapping.")
            heads = {nfc(str(name)): {} for name in heads}
        if not isinstance(uncertainty, bool):
            raise ValueError(f"uncertainty={uncertainty}; allowed: true or false.")
        default_loss = loss or nn.CrossEntropyLoss()
        settings = {str(name): entry for name, entry in heads.items() if entry is not None}
        self.heads = [read_head(name, entry, default_loss) for name, entry in settings.items()]
        if not self.heads:
            raise ValueError(f"heads={heads} names no head; [mask, age] are two, for example.")
        if any(entry.get("loss") is None for entry in settings.values()):
            check_head_loss(default_loss)
        head_of_column: dict[str, str] = {}
        for head in self.heads:
            if (owner := head_of_column.setdefault(head.column, head.name)) != head.name:
                raise ValueError(
                    f"{head.argument}.column={head.column} is also the column of the head {owner}; "
                    f"leave one of them out."
                )
            if uncertainty and head.weight != 1:
                raise ValueError(
                    f"{head.argument}.weight={head.weight:g} does not go with uncertainty=true, "
                    f"which learns the weights; leave one of the two out."
                )
        self.uncertainty = uncertainty
        self._set_classes(complete)
        self._module: MultiHeadLinear | None = None

    def _set_classes(self, complete: bool) -> None:
        """Set the attributes that depend on the heads' classes and on ``complete``."""
        self.classes = [f"{head.name}={name}" for head in self.heads for name in head.classes]
        self.complete = complete
        self.monitor = "val/f1" if complete else "val/mean_f1"
        overall = ["f1", "mean_f1"] if complete else ["mean_f1"]
        self.measures = [*overall, *(f"{head.name}/f1" for head in self.heads), "accuracy"]

    @property
    def label(self) -> str:
        return "+".join(head.column for head in self.heads)

    # Training

    def stratify_by(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """The heads' columns.

        Raises:
            ValueError: the samples have no such column.
        """
        for head in self.heads:
            if head.column not in samples:
                raise ValueError(
                    f"{head.argument}.column={head.column} is not a column of the samples; they "
                    f"have {', '.join(map(str, samples.columns))}."
                )
        return tuple(head.column for head in self.heads)

    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the classes of the heads that list none, in natural order.

        Raises:
            ValueError: a head's column is missing or has fewer than two classes, a label is not in
                the head's list of classes, or the loss does not take the class weights.
        """
        training = samples[samples["split"] != "test"]
        columns = list(self.stratify_by(samples))
        for head in self.heads:
            labels = label_names(samples[head.column])
            training_labels = labels[training.index].dropna()
            if head.classes:
                foreign = labels.notna() & ~labels.isin(head.classes)
                if foreign.any():
                    name, label = samples["id"][foreign].iloc[0], labels[foreign].iloc[0]
                    raise ValueError(
                        f"{head.argument}.classes=[{', '.join(head.classes)}] lacks '{label}', the "
                        f"{head.column} of '{name}'."
                    )
            else:
                head.classes = sorted(set(training_labels), key=natural_key)
            if (count := training_labels.nunique()) < 2:
                raise ValueError(
                    f"{head.argument}.column={head.column}: the training pictures have {count} "
                    f"{'class' if count == 1 else 'classes'} in this column; at least 2 are needed."
                )
            set_head_weights(head, training_labels)
        self._set_classes(bool(training[columns].notna().all(axis=None)))

    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """int64 ``[N, H]``."""
        columns = []
        for head in self.heads:
            position = {name: index for index, name in enumerate(head.classes)}
            names = label_names(samples[head.column])
            columns.append([UNKNOWN if x is None else position.get(x, UNSEEN) for x in names])
        return np.array(columns, np.int64).T

    def classes_shown(self, samples: pd.DataFrame) -> set[str]:
        return {
            f"{head.name}={name}"
            for head in self.heads
            for name in set(label_names(samples[head.column]).dropna())
        }

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        warnings = []
        for head, train, val in zip(self.heads, learned.T, held_out.T, strict=True):
            if not (train >= 0).any():
                raise ValueError(
                    f"{head.argument}.column={head.column}: none of the {len(train)} training "
                    f"pictures of this fold has a label; set the head to null, or use another fold."
                )
            if len(val) and not (val >= 0).any():
                warnings.append(
                    f"Head '{head.name}': no held-out picture has a label, so no validation metric "
                    f"includes it."
                )
        if len(held_out) and not (held_out >= 0).any():
            raise UserError(
                "No held-out picture has a label; use another fold, or train on all of them."
            )
        return warnings

    def head(self, in_features: int) -> nn.Module:
        sizes = [len(head.classes) for head in self.heads]
        self._module = MultiHeadLinear(in_features, sizes, uncertain=self.uncertainty)
        return self._module

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Weighted sum of the heads' losses, each over the rows with a known label."""
        parts = [
            known_rows(head.loss.to(outputs.device), logits, target[:, k])
            for k, (head, logits) in enumerate(zip(self.heads, self._blocks(outputs), strict=True))
        ]
        losses = torch.stack(parts)
        if not self.uncertainty:
            return (losses * losses.new_tensor([head.weight for head in self.heads])).sum()
        assert self._module is not None, "call head() first"
        # A head without labels in the batch has no loss to balance its variance, which would fall.
        labelled = (target >= 0).any(dim=0)
        return uncertainty_weighted(losses[labelled], self._module.log_variance[labelled])

    def _blocks(self, array: Any) -> list[Any]:
        """Split outputs or scores ``[..., sum of C]`` by head, ``[..., C]`` each."""
        ends = np.cumsum([len(head.classes) for head in self.heads]).tolist()
        return [array[..., a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def metrics(self) -> MetricCollection:
        metric = EpochMetric(self.evaluate, self.monitor.removeprefix("val/"))
        return MetricCollection({"heads": metric})

    def scores(self, outputs: Tensor) -> Tensor:
        blocks = self._blocks(outputs.float())
        return torch.cat([torch.softmax(block, dim=-1) for block in blocks], dim=-1)

    # Decoding

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        blocks = [block / block.sum(axis=1, keepdims=True) for block in self._blocks(scores)]
        return np.concatenate(blocks, axis=1)

    def best(self, scores: np.ndarray) -> np.ndarray:
        """The best class of each head, int64 ``[N, H]``, for scores ``[N, C]``."""
        return np.stack([block.argmax(axis=1) for block in self._blocks(scores)], axis=1)

    def combined(self, labels: np.ndarray) -> np.ndarray:
        """Number of the combined class of each picture; the last head varies fastest.

        With 3 masks, 2 genders and 3 ages it is ``mask * 6 + gender * 3 + age``.

        Args:
            labels: int64 ``[N, H]``, all known.

        Returns:
            int64 ``[N]``, in [0, product of the heads' numbers of classes).
        """
        sizes = [len(head.classes) for head in self.heads]
        return np.ravel_multi_index(tuple(labels.T), sizes).astype(np.int64)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The heads' labels joined by ``/``, str ``[N]``, for scores ``[N, C]``."""
        return np.array([self.target_name(row) for row in self.best(scores)])

    def target_name(self, target: np.ndarray) -> str:
        names = [
            head.classes[k] if k >= 0 else "?" for head, k in zip(self.heads, target, strict=True)
        ]
        return "/".join(names)

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """Each head's best class, as ``HEAD=CLASS``; ``top`` has no effect."""
        classes, blocks = self._blocks(np.asarray(self.classes)), self._blocks(scores)
        return [
            [
                (str(names[k]), float(block[row, k]))
                for names, block, k in zip(classes, blocks, best, strict=True)
            ]
            for row, best in enumerate(self.best(scores))
        ]

    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of all heads.

        Returns:
            ``accuracy``: share of pictures whose known labels are all correct. ``f1``: macro F1 of
            the combined classes, over pictures with all labels. ``mean_f1``: mean of the heads'
            F1. ``NAME/accuracy`` and ``NAME/f1`` (macro) of each head, over pictures with its
            label.
        """
        best, labelled = self.best(scores), target != UNKNOWN
        any_known, all_known = labelled.any(axis=1), labelled.all(axis=1)
        if not any_known.any():
            return {}
        values = {"accuracy": float(((best == target) | ~labelled)[any_known].all(axis=1).mean())}
        if all_known.any():
            values["f1"] = macro_f1(best[all_known], target[all_known])
        per_head = {}
        for k, head in enumerate(self.heads):
            rows = labelled[:, k]
            if rows.any():
                decided, true = best[rows, k], target[rows, k]
                per_head[f"{head.name}/accuracy"] = float((decided == true).mean())
                per_head[f"{head.name}/f1"] = macro_f1(decided, true)
        f1 = [value for name, value in per_head.items() if name.endswith("/f1")]
        return {**values, "mean_f1": float(np.mean(f1)), **per_head}

    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rows, heads = np.nonzero(target >= 0)
        first = np.cumsum([0, *(len(head.classes) for head in self.heads)])
        return rows, scores[rows, first[heads] + target[rows, heads]]

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "heads": {h.name: {"column": h.column, "classes": list(h.classes)} for h in self.heads},
            "uncertainty": self.uncertainty,
            "complete": self.complete,
        }

    # Presentation

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """A column of class names for each head, ``[N]``, for scores ``[N, C]``.

        If the training pictures have all labels, ``prediction``, the number of the combined class,
        comes first.
        """
        best = self.best(scores)
        columns = {"prediction": self.combined(best)} if self.complete else {}
        for head, labels in zip(self.heads, best.T, strict=True):
            columns[head.name] = np.asarray(head.classes)[labels]
        return columns

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """The best label of each head with its score; ``top`` has no effect."""
        table: dict[str, np.ndarray] = {}
        captions: list[list[str]] = [[] for _ in scores]
        for head, block in zip(self.heads, self._blocks(scores), strict=True):
            names, values = np.asarray(head.classes)[block.argmax(axis=1)], block.max(axis=1)
            table[head.name], table[f"{head.name}_score"] = names, values.round(4)
            for lines, name, value in zip(captions, names, values, strict=True):
                lines.append(f"{head.name} {name}  {value:.0%}")
        return table, captions

    def margins(self, scores: np.ndarray) -> np.ndarray:
        """The margin of the least clear head."""
        blocks = [best_less_second(block) for block in self._blocks(scores)]
        least: np.ndarray = np.min(blocks, axis=0)
        return least
