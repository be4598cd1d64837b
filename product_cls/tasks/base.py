"""The interface of a task: everything that depends on what a label means."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError
from product_cls.data.samples import Strata


class Task(ABC):
    """Label columns -> targets, the head, the loss, the metrics, and scores -> decision.

    A task is made from the config, then learns its classes from the samples (``fit``), or is
    rebuilt from a checkpoint by ``build_task(**task.spec())``.

    Attributes:
        name: of the module in ``product_cls.tasks`` that defines it.
        monitor: the validation metric that decides which checkpoint is best; higher is better.
        measures: the metrics that tables of runs show.
        classes: names of the columns of the scores.
        mixes: whether its loss makes sense for mixed pictures.
        blend_methods: methods of ``blend`` that make sense for its scores.
        id_column: names the pictures in a submission.
        multi_label: whether a picture has several labels, each present or absent.
        needs_gallery: whether pictures are named by their neighbours in a gallery of the training
            pictures, so that those are embedded, too.
        smallest_batch: pictures that a training batch needs at least.
        validation_gallery_every: epochs between searches of the validation pictures in the gallery
            of the training pictures; 0 for never.
    """

    name: ClassVar[str]
    monitor: str = "val/accuracy"
    measures: Sequence[str] = ("accuracy",)
    blend_methods: ClassVar[tuple[str, ...]] = ("mean", "gmean", "sharpened")
    id_column: ClassVar[str] = "filename"
    multi_label: ClassVar[bool] = False
    needs_gallery: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1
    validation_gallery_every: int = 0
    classes: list[str]
    mixes: bool = True

    @property
    @abstractmethod
    def label(self) -> str:
        """The column of the sample table that folds are stratified by; their file's name has it."""

    def stratify_by(self, samples: pd.DataFrame) -> Strata:
        """What folds and subsets of the samples keep in proportion; asked before ``fit``."""
        return self.label

    @abstractmethod
    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the classes from the rows to learn from (``split`` other than ``test``)."""

    @abstractmethod
    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """Targets of all rows, ``[N, ...]``; unknown labels are marked in the task's own way."""

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        """What there is to say about the targets of the pictures to learn from and to hold out.

        Raises:
            UserError: they cannot be trained on or validated with.
        """
        return []

    @abstractmethod
    def head(self, in_features: int) -> nn.Module:
        """Features ``[B, in_features]`` -> outputs."""

    @abstractmethod
    def loss(self, outputs: Any, target: Tensor) -> Tensor:
        """What the head gives, and targets -> a scalar."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with ``(scores, target)`` batch by batch."""

    @abstractmethod
    def scores(self, outputs: Any) -> Tensor:
        """Outputs -> what is decided by and what ensembles average, float32 ``[B, C]``."""

    def embedding(self, outputs: Any) -> Tensor | None:
        """Outputs -> embeddings of length 1, float32 ``[B, D]``; None in tasks without."""
        return None

    def begin_epoch(self, done: float) -> None:  # noqa: B027 (most tasks have no schedule)
        """Called before each training epoch with the share of training that is done, in [0, 1);
        for what the task changes by a schedule."""

    def normalise_scores(self, scores: np.ndarray) -> np.ndarray:
        """Blended scores ``[N, C]``, of any sum -> such as ``scores`` gives, in the same order."""
        result: np.ndarray = scores / scores.sum(axis=1, keepdims=True)
        return result

    @abstractmethod
    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Scores ``[N, C]`` -> labels by name, ``[N]``."""

    def target_name(self, target: np.ndarray) -> str:
        """A picture's target of several numbers as ``decide`` would name it."""
        return str(target.tolist())

    def submission(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Scores ``[N, C]`` -> columns of a submission, beside the one that names the pictures."""
        return {"prediction": self.decide(scores)}

    def describe(
        self, scores: np.ndarray, top: int
    ) -> tuple[dict[str, np.ndarray], list[list[str]]]:
        """Scores ``[N, C]`` for people: columns of a table, ``[N]`` each, and lines for a caption
        of each picture.

        Args:
            top: of classes to name at most, 1 or more.
        """
        names, values = top_k(scores, self.classes, top)
        table = {}
        for k in range(names.shape[1]):
            table[f"label_{k + 1}"], table[f"score_{k + 1}"] = names[:, k], values[:, k].round(4)
        lines = [
            [f"{name}  {value:.0%}" for name, value in zip(*row, strict=True)]
            for row in zip(names, values, strict=True)
        ]
        return table, lines

    def ranked(self, scores: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """Scores ``[N, C]`` -> labels with their scores for each picture, best first.

        Args:
            top: labels at most, 1 or more.
        """
        names, values = top_k(scores, self.classes, top)
        return [
            [(str(name), float(value)) for name, value in zip(*row, strict=True)]
            for row in zip(names, values, strict=True)
        ]

    @abstractmethod
    def evaluate(self, scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of predictions, over the rows whose label is known; empty where none is."""

    @abstractmethod
    def true_label_scores(
        self, scores: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How likely scores find what is right, by which votes are weighed.

        Args:
            scores: ``[N, C]``.
            target: ``[N, ...]``.

        Returns:
            Of each known label its row, int ``[M]``, and the probability given to what is right of
            it, ``[M]``, linear in the scores.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Plain containers from which ``build_task`` makes this task again, for prediction."""


def build_task(spec: Mapping[str, Any]) -> Task:
    """A task as a checkpoint describes it.

    Only tasks of this package are looked up, so that a checkpoint cannot name code to run.

    Raises:
        UserError: there is no such task.
    """
    arguments = dict(spec)
    name = str(arguments.pop("name", None))
    known = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "base"]
    if name not in known:
        raise UserError(f"The checkpoint's task '{name}' is unknown; known: {', '.join(known)}.")
    module = importlib.import_module(f"product_cls.tasks.{name}")
    kinds = (kind for kind in vars(module).values() if isinstance(kind, type))
    kind = next(k for k in kinds if issubclass(k, Task) and getattr(k, "name", None) == name)
    return kind(**arguments)


def top_k(scores: np.ndarray, classes: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best classes and their scores, best first, each ``[N, min(k, C)]``."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.asarray(classes)[order], np.take_along_axis(scores, order, axis=1)
