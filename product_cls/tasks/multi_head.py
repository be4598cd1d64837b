"""Several labels a picture, each with its own head: mask, gender and age, or brand and flavour."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError
from product_cls.data.samples import natural_key
from product_cls.losses.class_weights import check_weight_count, class_weights, weigh
from product_cls.losses.multi_task import known_rows, uncertainty_weighted
from product_cls.metrics.epoch import EpochMeasure, macro_f1
from product_cls.models.heads import MultiHeadLinear
from product_cls.tasks.base import Task
from product_cls.tasks.head_settings import Head, label_names, read_head
from product_cls.tasks.single_label import UNKNOWN, UNSEEN


class MultiHead(Task):
    """Softmax over the classes of each of H labels, by linear heads side by side.

    Targets are int64 ``[N, H]``: -1 for a missing label, which is left out of losses and metrics,
    -2 for one that training does not have, which is always wrong. Scores are the heads'
    probabilities side by side, ``[N, sum of their classes]``; each head's sum to 1.

    Args:
        heads: name -> settings of ``Head``, all optional: ``column`` (the name), ``classes`` (what
            the samples have, in natural order; of a list other labels are refused), ``loss``,
            ``weight`` (1) and ``class_weights``. None leaves a head out; a list of names takes all
            settings as they are.
        loss: of heads without one of their own; cross entropy where None.
        uncertainty: weights of the heads are learnt (``losses.uncertainty_weighted``).
        complete: whether every training picture has all labels, so that their combination is a
            class, too; given when a checkpoint is rebuilt, else learnt by ``fit``.

    Raises:
        UserError: no heads, names or settings that cannot be, two heads of one column, or weights
            both given and learnt.
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
            if isinstance(heads, str) or len(set(heads)) < len(heads):
                raise UserError(f"task.heads={heads}; allowed: [names], each once, or a mapping.")
            heads = {str(name): {} for name in heads}
        if not isinstance(uncertainty, bool):
            raise UserError(f"task.uncertainty={uncertainty}; allowed: true or false.")
        default = loss or nn.CrossEntropyLoss()
        self.heads = [
            read_head(str(name), entry, default)
            for name, entry in heads.items()
            if entry is not None
        ]
        if not self.heads:
            raise UserError("task.heads names no head; task.heads=[mask,age] makes two.")
        columns = [head.column for head in self.heads]
        for head in self.heads:
            if columns.count(head.column) > 1:
                same = " and ".join(h.name for h in self.heads if h.column == head.column)
                raise UserError(
                    f"The heads {same} are of the same column '{head.column}'; one has to go."
                )
            if uncertainty and head.weight != 1:
                raise UserError(
                    f"{head.key}.weight={head.weight:g} does not go with task.uncertainty=true, "
                    f"which learns the weights; one of the two has to go."
                )
        self.uncertainty = uncertainty
        self._settle(complete)
        self._module: MultiHeadLinear | None = None

    def _settle(self, complete: bool) -> None:
        """What follows from the heads' classes, and from whether all labels are there."""
        self.classes = [f"{head.name}={name}" for head in self.heads for name in head.classes]
        self.complete = complete
        self.monitor = "val/f1" if complete else "val/mean_f1"
        overall = ["f1", "mean_f1"] if complete else ["mean_f1"]
        self.measures = [*overall, *(f"{head.name}/f1" for head in self.heads), "accuracy"]

    @property
    def label(self) -> str:
        return "+".join(head.column for head in self.heads)

    def stratify_by(self, samples: pd.DataFrame) -> tuple[str, ...]:
        """The heads' columns.

        Raises:
            UserError: the samples have no such column.
        """
        for head in self.heads:
            if head.column not in samples:
                raise UserError(
                    f"{head.key}: '{head.column}' is no column of the samples; they have "
                    f"{', '.join(map(str, samples.columns))}."
                )
        return tuple(head.column for head in self.heads)

    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the classes of heads without a list of them, in natural order.

        Raises:
            UserError: a head's column is missing or has fewer than two classes, a label outside a
                list of classes, or class weights that the loss does not take.
        """
        learned = samples[samples["split"] != "test"]
        columns = list(self.stratify_by(samples))
        for head in self.heads:
            labels = label_names(samples[head.column])
            found = labels[learned.index].dropna()
            if head.classes:
                strange = labels.notna() & ~labels.isin(head.classes)
                if strange.any():
                    name, label = samples["id"][strange].iloc[0], labels[strange].iloc[0]
                    raise UserError(
                        f"'{name}' has the {head.column} '{label}'; allowed by "
                        f"{head.key}.classes: {', '.join(head.classes)}."
                    )
            else:
                head.classes = sorted(set(found), key=natural_key)
            if (kinds := found.nunique()) < 2:
                raise UserError(
                    f"{head.key}: the training pictures have {kinds} classes in the column "
                    f"'{head.column}'; at least 2 are needed."
                )
            self._weigh(head, found)
        self._settle(bool(learned[columns].notna().all(axis=None)))

    def _weigh(self, head: Head, labels: "pd.Series[str]") -> None:
        check_weight_count(head.loss, len(head.classes), f"{head.key}.loss")
        if head.class_weights is not None:
            counts = labels.value_counts().reindex(head.classes, fill_value=0)
            if (counts == 0).any():
                raise UserError(
                    f"{head.key}.class_weights={head.class_weights}: the class "
                    f"'{counts.idxmin()}' has no training picture; set it to null."
                )
            key = f"{head.key}.class_weights"
            weigh(head.loss, class_weights(counts.to_numpy(), head.class_weights, key=key), key)

    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """int64 ``[N, H]``."""
        columns = []
        for head in self.heads:
            position = {name: index for index, name in enumerate(head.classes)}
            names = label_names(samples[head.column])
            columns.append([UNKNOWN if x is None else position.get(x, UNSEEN) for x in names])
        return np.array(columns, np.int64).T

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        said = []
        for head, train, val in zip(self.heads, learned.T, held_out.T, strict=True):
            if not (train >= 0).any():
                raise UserError(
                    f"None of the {len(train)} pictures to learn from has a label for the head "
                    f"'{head.name}'; leave it out with {head.key}=null, or take another fold."
                )
            if absent := set(range(len(head.classes))) - set(train.tolist()):
                names = ", ".join(head.classes[k] for k in sorted(absent))
                said.append(f"Head '{head.name}': no picture to learn from shows {names}.")
            if len(val) and not (val >= 0).any():
                said.append(
                    f"Head '{head.name}': no held-out picture has a label; it is in no validation "
                    f"metric."
                )
        if len(held_out) and not (held_out >= 0).any():
            raise UserError("No held-out picture has a label; take another fold, or fold=all.")
        return said

    def head(self, in_features: int) -> nn.Module:
        sizes = [len(head.classes) for head in self.heads]
        self._module = MultiHeadLinear(in_features, sizes, uncertain=self.uncertainty)
        return self._module

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of the heads' losses, each over the rows that have its label."""
        parts = [
            known_rows(head.loss.to(outputs.device), logits, target[:, k])
            for k, (head, logits) in enumerate(zip(self.heads, self._blocks(outputs), strict=True))
        ]
        losses = torch.stack(parts)
        if not self.uncertainty:
            return (losses * losses.new_tensor([head.weight for head in self.heads])).sum()
        assert self._module is not None, "the head is made first"
        # Without a label in the batch there is no loss for a variance to fall with.
        shown = (target >= 0).any(dim=0)
        return uncertainty_weighted(losses[shown], self._module.log_variance[shown])

    def _blocks(self, array: Any) -> list[Any]:
        """``[..., sum of C]`` -> each head's ``[..., C]``."""
        ends = np.cumsum([len(head.classes) for head in self.heads]).tolist()
        return [array[..., a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def metrics(self) -> MetricCollection:
        measure = EpochMeasure(self.evaluate, self.monitor.removeprefix("val/"))
        return MetricCollection({"heads": measure})

    def scores(self, outputs: Tensor) -> Tensor:
        blocks = self._blocks(outputs.float())
        return torch.cat([torch.softmax(block, dim=-1) for block in blocks], dim=-1)

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        blocks = [block / block.sum(axis=1, keepdims=True) for block in self._blocks(scores)]
        return np.concatenate(blocks, axis=1)

    def best(self, scores: np.ndarray) -> np.ndarray:
        """Scores ``[N, C]`` -> the best class of each head, int64 ``[N, H]``."""
        return np.stack([block.argmax(axis=1) for block in self._blocks(scores)], axis=1)

    def combined(self, labels: np.ndarray) -> np.ndarray:
        """Numbers of the combined classes, the last head running fastest: of mask 3, gender 2 and
        age 3 ``mask * 6 + gender * 3 + age``.

        Args:
            labels: int64 ``[N, H]``, all known.

        Returns:
            int64 ``[N]``, in [0, product of the heads' classes).
        """
        sizes = [len(head.classes) for head in self.heads]
        return np.ravel_multi_index(tuple(labels.T), sizes).astype(np.int64)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Scores ``[N, C]`` -> the heads' labels joined by ``/``, ``[N]``."""
        return np.array([self.target_name(row) for row in self.best(scores)])

    def target_name(self, target: np.ndarray) -> str:
        names = [
            head.classes[k] if k >= 0 else "?" for head, k in zip(self.heads, target, strict=True)
        ]
        return "/".join(names)

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """A column a head; before them, where training pictures have all labels, ``prediction``,
        the number of the combined class."""
        best = self.best(scores)
        columns = {"prediction": self.combined(best)} if self.complete else {}
        for head, chosen in zip(self.heads, best.T, strict=True):
            columns[head.name] = np.asarray(head.classes)[chosen]
        return columns

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """The best label of each head, and its score (``top`` is for a single label)."""
        table: dict[str, np.ndarray] = {}
        lines: list[list[str]] = [[] for _ in scores]
        for head, block in zip(self.heads, self._blocks(scores), strict=True):
            names, values = np.asarray(head.classes)[block.argmax(axis=1)], block.max(axis=1)
            table[head.name], table[f"{head.name}_score"] = names, values.round(4)
            for line, name, value in zip(lines, names, values, strict=True):
                line.append(f"{head.name} {name}  {value:.0%}")
        return table, lines

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """Each head's best class, ``HEAD=CLASS``, in the order of the heads: ``top`` is for tasks of one label."""
        classes = self._blocks(np.asarray(self.classes))
        blocks = self._blocks(scores)
        best = self.best(scores)
        return [
            [
                (str(names[k]), float(block[row, k]))
                for names, block, k in zip(classes, blocks, best[row], strict=True)
            ]
            for row in range(len(scores))
        ]

    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """``accuracy``, of pictures that have all their known labels right; ``f1``, macro F1 of the
        combined classes, over pictures with all labels; ``mean_f1``, over the heads; and each
        head's ``NAME/accuracy`` and ``NAME/f1`` (macro), over pictures with its label."""
        best, known = self.best(scores), target != UNKNOWN
        some, every = known.any(axis=1), known.all(axis=1)
        if not some.any():
            return {}
        values = {"accuracy": float(((best == target) | ~known)[some].all(axis=1).mean())}
        if every.any():
            values["f1"] = macro_f1(best[every], target[every])
        single = {}
        for k, head in enumerate(self.heads):
            rows = known[:, k]
            if rows.any():
                chosen, right = best[rows, k], target[rows, k]
                single[f"{head.name}/accuracy"] = float((chosen == right).mean())
                single[f"{head.name}/f1"] = macro_f1(chosen, right)
        f1 = [value for name, value in single.items() if name.endswith("/f1")]
        return {**values, "mean_f1": float(np.mean(f1)), **single}

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
