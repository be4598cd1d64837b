"""The metrics that a run logs, and the one that selects its best epoch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from torchmetrics import Metric, MetricCollection

from product_cls.config.instantiate import build
from product_cls.config.monitor_mode import Mode, mode_of
from product_cls.core.errors import UserError, reason
from product_cls.data.datamodule import ProductDataModule
from product_cls.neighbours.metrics import retrieval_measures
from product_cls.tasks import Task

TRAINING = ("lr", "train/loss", "train/loss_epoch", "train/loss_step")


def build_metrics(config: DictConfig, task: Task) -> dict[str, Metric]:
    """Build the metrics of ``config.metrics``.

    Raises:
        UserError: a name that the task's own metrics have, a node that is no metric, or a metric
            that refuses its arguments.
    """
    metrics: dict[str, Metric] = {}
    for name, node in config.metrics.items():
        metric = build(node) if OmegaConf.is_dict(node) and "_target_" in node else None
        if not isinstance(metric, Metric):
            raise UserError(
                f"metrics.{name}={node}; allowed: a metric of torchmetrics, such as "
                f"+metrics.{name}._target_=torchmetrics.classification.MulticlassCohenKappa "
                f"+metrics.{name}.num_classes={len(task.classes)}."
            )
        if name == "loss" or "." in str(name):
            raise UserError(f"metrics.{name}: the name is taken; choose another.")
        metrics[str(name)] = metric
    return metrics


def follow_monitor(config: DictConfig, task: Task) -> tuple[str, Mode]:
    """Find the metric that selects the best epoch, and let callbacks without one watch it.

    Args:
        config: the run's config; ``monitor`` and ``mode`` of its callbacks are filled in.
        task: fitted.

    Returns:
        The metric's name, and whether higher or lower is better.

    Raises:
        UserError: ``monitor`` is no metric of validation.
    """
    monitor = task.monitor if config.monitor is None else config.monitor
    if not isinstance(monitor, str) or not monitor.startswith("val/"):
        raise UserError(f"monitor={monitor}; allowed: null, or a validation metric, val/NAME.")
    for node in config.callbacks.values():
        if not OmegaConf.is_dict(node):
            continue
        if "monitor" in node and node.monitor is None:
            node.monitor = monitor
        if "mode" in node and node.mode is None:
            node.mode = mode_of(str(node.monitor), config.metrics)
    return monitor, mode_of(monitor, config.metrics)


def check_monitors(
    callbacks: Mapping[str, Callback],
    task: Task,
    data: ProductDataModule,
    monitor: str | None,
    metrics: MetricCollection,
) -> None:
    """Refuse to monitor a metric that no epoch logs: Lightning would, after an epoch.

    Args:
        callbacks: by their names in the config.
        task: fitted.
        data: the run's data.
        monitor: the metric that selects the best epoch; None without validation.
        metrics: the config's further metrics.

    Raises:
        UserError: naming the metrics that exist; or a further metric does not take this task's
            scores and targets.
    """
    watched: dict[str, Any] = {}
    for name, callback in callbacks.items():
        watching = getattr(callback, "monitor", None)
        # Not strict: the callback ignores epochs without the metric.
        if watching is not None and getattr(callback, "strict", True):
            watched[f"callbacks.{name}.monitor"] = watching
    if monitor is not None:
        watched["monitor"] = monitor
    if not len(metrics) and {*watched.values()} <= {task.monitor, *TRAINING}:
        return
    names = logged_metrics(task, data, metrics)
    for key, name in watched.items():
        if name not in (*names, task.monitor):
            allowed = [x for x in names if key != "monitor" or x.startswith("val/")]
            raise UserError(f"{key}={name}; allowed: {', '.join(allowed)}.")


def logged_metrics(task: Task, data: ProductDataModule, metrics: MetricCollection) -> list[str]:
    """Names of the metrics that every epoch logs.

    Args:
        task: fitted.
        data: the run's data; which metrics there are depends on the labels of the validation part.
        metrics: the config's further metrics.

    Raises:
        UserError: a further metric does not take this task's scores and targets, has the name of
            one of the task's metrics, or is not a single number.
    """
    target = data.targets[data.indices("val")]
    if not len(target):
        return list(TRAINING)
    scores = np.full((len(target), len(task.classes)), 1 / len(task.classes), np.float32)
    own = task.metrics()
    own.update(torch.from_numpy(scores), torch.from_numpy(target))
    names = {"loss", *own.compute()}
    if task.validation_gallery_every == 1:
        point, label = np.ones((1, 1), np.float32), np.zeros(1, np.int64)
        names |= {*retrieval_measures(point, label, point, label), *task.evaluate(scores, target)}
        names.add("f1")
    for name, metric in metrics.items(keep_base=True):
        if name in names:
            raise UserError(f"metrics.{name}: this task logs val/{name} itself; choose a name.")
        _try(name, metric.clone(), torch.from_numpy(scores), torch.from_numpy(target))
    return [*TRAINING, *(f"val/{name}" for name in sorted({*names, *metrics}))]


def _try(name: str, metric: Metric, scores: torch.Tensor, target: torch.Tensor) -> None:
    try:
        metric.update(scores, target)
        value = metric.compute()
    except Exception as error:  # torchmetrics raises many types
        raise UserError(
            f"metrics.{name} does not take scores {list(scores.shape)} and targets "
            f"{list(target.shape)} of this task: {reason(error)}."
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UserError(f"metrics.{name} is not a single number; set its average, for example.")
