"""The interface of a task: targets, head, loss and metrics."""

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torchmetrics import MetricCollection

from product_cls.core.errors import UserError
from product_cls.data.samples import Strata
from product_cls.neighbours.votes import Vote
from product_cls.tasks.presentation import Presentation

PACKAGE_MODULES = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
_known: dict[str, type["Task"]] = {}  # name -> class, of the tasks that have been imported


class Task(Presentation):
    """A learning task: turns label columns into targets, and the head's outputs into scores.

    A task is built from the config and then learns its classes from the samples (``fit``), or it
    is rebuilt from a checkpoint by ``build_task(task.spec())``.

    A subclass with a ``name`` of its own is known to ``build_task`` from then on.

    A wrong setting raises a ``ValueError`` that names the constructor's argument, even if ``fit``
    or another method notices it later.

    Attributes:
        monitor: the validation metric that selects the best checkpoint; higher is better.
        mixes: whether the loss suits mixed pictures.
        teachable: whether it can learn a teacher's answers (``taught_loss``).
        fits_features: whether its head is fitted to the features of the frozen backbone, in place
            of training by steps.
        vote: how nearest neighbours in a gallery become predictions, so that the training pictures
            are embedded, too; None for a task that predicts by its head alone.
        smallest_batch: the fewest pictures in a training batch that the head can learn from.
        validation_gallery_every: epochs between searches of the validation pictures in the gallery
            of the training pictures; 0 for never.
    """

    monitor: str = "val/accuracy"
    mixes: bool = True
    teachable: ClassVar[bool] = False
    fits_features: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1
    validation_gallery_every: int = 0
    vote: Vote | None = None

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if (name := vars(cls).get("name")) is None:
            return
        if name in PACKAGE_MODULES and cls.__module__ != f"{__package__}.{name}":
            raise TypeError(
                f"{cls.__qualname__}.name = '{name}' is taken by a task of {__package__}."
            )
        _known[name] = cls

    @property
    def needs_gallery(self) -> bool:
        """Whether predictions come from nearest neighbours in a gallery."""
        return self.vote is not None

    @property
    @abstractmethod
    def label(self) -> str:
        """The label's column in the sample table; part of the name of the folds file."""

    def stratify_by(self, samples: pd.DataFrame) -> Strata:
        """The label columns that folds and subsets keep in proportion; works before ``fit``."""
        return self.label

    @abstractmethod
    def fit(self, samples: pd.DataFrame) -> None:
        """Learn the classes from the training pictures (``split`` other than ``test``)."""

    @abstractmethod
    def encode(self, samples: pd.DataFrame) -> np.ndarray:
        """Targets of all rows, int64 ``[N, ...]``; negative for unknown labels."""

    def classes_shown(self, samples: pd.DataFrame) -> set[str]:
        """The classes that the known labels of some rows name, whether training has them or not."""
        if self.label not in samples:
            return set()
        return set(samples[self.label].dropna().astype(str))

    def check_parts(self, learned: np.ndarray, held_out: np.ndarray) -> list[str]:
        """Check the targets of a fold.

        Args:
            learned: targets of the pictures to train on, ``[N, ...]``.
            held_out: targets of the pictures to validate with, ``[M, ...]``; M may be 0.

        Returns:
            Warnings, one sentence each.

        Raises:
            ValueError: a setting does not fit the training pictures.
            UserError: no picture can be validated.
        """
        return []

    @abstractmethod
    def head(self, in_features: int) -> nn.Module:
        """A new head: features ``[B, in_features]`` -> outputs."""

    @abstractmethod
    def loss(self, outputs: Any, target: Tensor) -> Tensor:
        """The loss, a scalar, of the head's outputs and int64 targets ``[B, ...]``."""

    def taught_loss(self, outputs: Any, target: Tensor, answer: Tensor, weight: Tensor) -> Tensor:
        """The loss, a scalar, of pictures of which a teacher names some.

        Args:
            outputs: of the head.
            target: int64 ``[B, ...]``, negative for pictures that only the teacher names.
            answer: probabilities of the classes, float ``[B, C]``.
            weight: of the answers, float ``[B]`` in [0, 1]; 0: no answer.
        """
        raise NotImplementedError(f"task={self.name} learns from labels only")

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """New metrics, updated with ``(scores, target)`` batch by batch."""

    @abstractmethod
    def scores(self, outputs: Any) -> Tensor:
        """Scores from the head's outputs, float32 ``[B, C]`` in [0, 1].

        Decisions are based on them, and ensembles average them.
        """

    def embedding(self, outputs: Any) -> Tensor | None:
        """L2-normalised embeddings from the head's outputs, float32 ``[B, D]``; None for a task
        without embeddings."""
        return None

    def begin_epoch(self, done: float) -> None:
        """Apply the task's schedules; called before each training epoch.

        Args:
            done: share of the training that is finished, in [0, 1).
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Plain containers from which ``build_task`` rebuilds the task for prediction."""


def build_task(spec: Mapping[str, Any]) -> Task:
    """The task that a checkpoint describes.

    Only tasks of this package and tasks that this process has imported are considered, so that a
    checkpoint cannot name other code to run.

    Args:
        spec: from ``Task.spec``.

    Raises:
        UserError: there is no such task.
    """
    arguments = dict(spec)
    name = str(arguments.pop("name", None))
    if name not in _known:
        for module in PACKAGE_MODULES:
            importlib.import_module(f"{__package__}.{module}")
    if name not in _known:
        raise UserError(
            f"The checkpoint's task '{name}' is unknown; known: {', '.join(sorted(_known))}. If it "
            f"is a task of your own, import its module first."
        )
    return _known[name](**arguments)
