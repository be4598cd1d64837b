"""The plan of a run: everything that is decided before its folder changes."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from product_cls.config.batch import BatchPlan, scaled_rates
from product_cls.config.checks import check_config
from product_cls.config.instantiate import to_plain
from product_cls.config.values import image_size
from product_cls.core.files import digest
from product_cls.data.samples import samples_fingerprint
from product_cls.inference.tta import check_views
from product_cls.runs.fingerprint import fingerprint
from product_cls.runs.folder import Action, RunFolder
from product_cls.tasks import Task
from product_cls.training.data_source import build_folds, build_samples
from product_cls.training.final_epochs import epochs_from_folds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPlan:
    """What a run will do. Ranks rebuild the same plan from ``orders``.

    Attributes:
        config: the settings with derived learning rates and epochs; ``config.yaml`` records them.
        size: height and width of the pictures in pixels.
        fold: number of the fold to hold out, or ``all``.
        samples: the sample table, reduced to ``data.limit``.
        task: fitted to ``samples``.
        folds: int64, index ``id``: the fold that holds each sample out; -1 for none.
        halved: how often the batch was halved to fit into GPU memory.
        batch: pictures per step, after halving.
        action: ``skip`` a finished run, ``resume`` an interrupted run, or start ``fresh`` and move
            earlier results aside.
        checkpoint: checkpoint to resume from; None before the first epoch has ended.
        first_epoch: the epoch that training starts with, 0 without a checkpoint.
        fingerprint: of settings and data.
        notes: sentences for the log about derived settings.
    """

    config: DictConfig
    size: tuple[int, int]
    fold: int | str
    samples: pd.DataFrame
    task: Task
    folds: "pd.Series[int]"
    halved: int
    batch: BatchPlan
    action: Action
    checkpoint: Path | None
    first_epoch: int
    fingerprint: str
    notes: tuple[str, ...] = ()

    def orders(self) -> dict[str, Any]:
        """Plain values from which ``plan_from_orders`` rebuilds the plan in another process."""
        return {
            "config": OmegaConf.to_yaml(self.config, resolve=True),
            "halved": self.halved,
            "action": self.action,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint.absolute()),
            "first_epoch": self.first_epoch,
            "fingerprint": self.fingerprint,
        }


def make_plan(config: DictConfig, folder: RunFolder, *, retry: bool = False) -> RunPlan:
    """Check the settings, read samples and folds, and decide what the run does.

    Args:
        config: the composed config.
        folder: the run's folder; only read.
        retry: after an out-of-memory error in this process; ``rerun`` is then ignored, and nothing
            is moved aside.

    Raises:
        UserError: the settings or the data are refused.
    """
    check_config(config)
    settings, notes = derive_settings(config)
    size = image_size(settings.data.size)
    # Checked here because a misspelt view should not fail only after training.
    check_views(settings.tta, size)
    samples, task = build_samples(settings)
    folds, fold = build_folds(settings, samples, task, folder)
    current = fingerprint(
        to_plain(settings),
        samples_fingerprint(samples, task.stratify_by(samples)),
        digest(folds.to_dict()),
    )
    action = folder.plan(current, rerun=bool(settings.rerun) and not retry)
    checkpoint, first_epoch = None, 0
    if action == "resume":
        epochs = finished_epochs(folder.last_checkpoint)
        if epochs is None:
            log.warning("%s is damaged; the run starts anew.", folder.last_checkpoint)
            action = "fresh"
        else:
            checkpoint, first_epoch = folder.last_checkpoint, epochs
    if retry and action == "fresh":
        action = "resume"
    halved = int(folder.status().get("halved", 0)) if action == "resume" else 0
    return RunPlan(
        config=settings,
        size=size,
        fold=fold,
        samples=samples,
        task=task,
        folds=folds,
        halved=halved,
        batch=BatchPlan.of(settings).halved(halved),
        action=action,
        checkpoint=checkpoint,
        first_epoch=first_epoch,
        fingerprint=current,
        notes=notes,
    )


def plan_from_orders(orders: dict[str, Any]) -> RunPlan:
    """Rebuild the plan in a rank from ``RunPlan.orders``; samples and folds are read again."""
    config = OmegaConf.create(orders["config"])
    assert isinstance(config, DictConfig)
    samples, task = build_samples(config)
    folds, fold = build_folds(config, samples, task)
    checkpoint = orders["checkpoint"]
    return RunPlan(
        config=config,
        size=image_size(config.data.size),
        fold=fold,
        samples=samples,
        task=task,
        folds=folds,
        halved=orders["halved"],
        batch=BatchPlan.of(config).halved(orders["halved"]),
        action=orders["action"],
        checkpoint=None if checkpoint is None else Path(checkpoint),
        first_epoch=orders["first_epoch"],
        fingerprint=orders["fingerprint"],
    )


def derive_settings(config: DictConfig) -> tuple[DictConfig, tuple[str, ...]]:
    """A copy of the config with the settings that others imply.

    These are the learning rates that ``scale_lr`` scales and the epochs that ``epochs_from`` takes
    from the runs of folds.

    Returns:
        The copy, and a sentence about each change.

    Raises:
        UserError: ``scale_lr`` or ``epochs_from`` cannot be followed.
    """
    rates, rates_note = scaled_rates(config)
    notes = [] if rates_note is None else [rates_note]
    settings = config.copy()
    for key, rate in rates.items():
        # Rates that interpolate optimizer.lr follow the scaled rate.
        OmegaConf.update(settings, key, rate)
    if settings.epochs_from is not None:
        epochs, note = epochs_from_folds(to_plain(settings), Path(str(settings.epochs_from)))
        settings.trainer.max_epochs = epochs
        notes.append(note)
    return settings, tuple(notes)


def finished_epochs(checkpoint: Path) -> int | None:
    """Number of epochs that a checkpoint has finished; None if it is damaged."""
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1
    except Exception:  # torch.load raises no common error type for a damaged file
        return None
