"""The metrics that a run logs, which callbacks such as early stopping can monitor."""

from collections.abc import Mapping

import numpy as np
import torch
from pytorch_lightning import Callback

from product_cls.core.errors import UserError
from product_cls.data.datamodule import ProductDataModule
from product_cls.neighbours.metrics import retrieval_measures
from product_cls.tasks import Task

TRAINING = ("lr", "train/loss", "train/loss_epoch", "train/loss_step")


def check_monitors(callbacks: Mapping[str, Callback], task: Task, data: ProductDataModule) -> None:
    """Refuse callbacks that monitor a metric that no epoch logs: Lightning would, after an epoch.

    Args:
        callbacks: by their names in the config.
        task: fitted.
        data: the run's data.

    Raises:
        UserError: naming the metrics that exist.
    """
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        # Not strict: the callback ignores epochs without the metric.
        if monitor in (None, task.monitor, *TRAINING) or not getattr(callback, "strict", True):
            continue
        names = logged_metrics(task, data)
        if monitor not in names:
            raise UserError(f"callbacks.{name}.monitor={monitor}; allowed: {', '.join(names)}.")


def logged_metrics(task: Task, data: ProductDataModule) -> list[str]:
    """Names of the metrics that every epoch logs.

    Args:
        task: fitted.
        data: the run's data; which metrics there are depends on the labels of the validation part.
    """
    target = data.targets[data.indices("val")]
    if not len(target):
        return list(TRAINING)
    scores = np.full((len(target), len(task.classes)), 1 / len(task.classes), np.float32)
    metrics = task.metrics()
    metrics.update(torch.from_numpy(scores), torch.from_numpy(target))
    names = {"loss", *metrics.compute()}
    if task.validation_gallery_every == 1:
        point, label = np.ones((1, 1), np.float32), np.zeros(1, np.int64)
        names |= {*retrieval_measures(point, label, point, label), *task.evaluate(scores, target)}
    return [*TRAINING, *(f"val/{name}" for name in sorted(names))]
