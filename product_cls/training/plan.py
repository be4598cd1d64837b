"""The plan of a run: everything that is decided before its folder changes."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from product_cls.config.batch import BatchPlan, scaled_rates
from product_cls.config.checks import check_config
from product_cls.config.instantiate import to_plain
from product_cls.config.monitor_mode import Mode
from product_cls.config.values import image_size
from product_cls.core.files import digest
from product_cls.data.folds import split_rows
from product_cls.data.picture_store import PictureStore
from product_cls.data.samples import samples_fingerprint
from product_cls.inference.tta import check_views
from product_cls.runs.fingerprint import fingerprint, has_settings, with_contents
from product_cls.runs.folder import Action, RunFolder
from product_cls.tasks import Task
from product_cls.tracking.trackers import check_loggers
from product_cls.training.checkpoints import resume_point
from product_cls.training.data_source import (
    build_folds,
    build_picture_store,
    build_samples,
    warn_of_suspicions,
)
from product_cls.training.final_epochs import epochs_from_folds
from product_cls.training.monitors import follow_monitor
from product_cls.training.outputs import lost_outputs

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
        monitor: the validation metric that selects the best epoch.
        mode: whether higher or lower values of it are better.
        folds: int64, index ``id``: the fold that holds each sample out; -1 for none.
        halved: how often the batch was halved to fit into GPU memory.
        batch: pictures per step, after halving.
        action: ``skip`` a finished run, ``resume`` an interrupted run, or start ``fresh`` and move
            earlier results aside.
        checkpoint: checkpoint to resume from; None before the first epoch has ended.
        first_epoch: the epoch that training starts with, 0 without a checkpoint.
        fingerprint: of settings, samples and folds, without the contents of pictures.
        store: the pictures, if the plan needed their contents to decide.
        notes: sentences for the log about derived settings.
    """

    config: DictConfig
    size: tuple[int, int]
    fold: int | str
    samples: pd.DataFrame
    task: Task
    monitor: str
    mode: Mode
    folds: "pd.Series[int]"
    halved: int
    batch: BatchPlan
    action: Action
    checkpoint: Path | None
    first_epoch: int
    fingerprint: str
    store: PictureStore | None = None
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
    check_loggers(config)
    settings, notes = derive_settings(config)
    size = image_size(settings.data.size)
    # Here, because views that do not fit the pictures should not fail only after training.
    check_views(settings.tta, size)
    samples, task = build_samples(settings)
    warn_of_suspicions(settings, samples, task)
    monitor, mode = follow_monitor(settings, task)
    folds, fold = build_folds(settings, samples, task, folder)
    settings_mark = fingerprint(
        to_plain(settings),
        samples_fingerprint(samples, task.stratify_by(samples)),
        digest(folds.to_dict()),
    )
    store, contents = None, ""
    if has_settings(folder.status().get("fingerprint"), settings_mark):
        # Only now: a new run's settings are all checked before its pictures are prepared.
        store = build_picture_store(settings, samples, size)
        contents = store.contents
    current = with_contents(settings_mark, contents)
    action = folder.plan(current, rerun=bool(settings.rerun) and not retry)
    if action == "skip":
        splits = _predicted_splits(samples, folds, fold)
        if lost := lost_outputs(folder, splits, gallery=task.vote is not None):
            log.warning("Finished earlier, but lost or damaged: %s.", ", ".join(lost))
            action = "resume"
    checkpoint, first_epoch = None, 0
    if action == "resume":
        if (point := resume_point(folder)) is None:
            action = "fresh"
        else:
            checkpoint, first_epoch = point
    if retry and action == "fresh":
        action = "resume"
    halved = folder.halved() if action == "resume" else 0
    return RunPlan(
        config=settings,
        size=size,
        fold=fold,
        samples=samples,
        task=task,
        monitor=monitor,
        mode=mode,
        folds=folds,
        halved=halved,
        batch=BatchPlan.of(settings).halved(halved),
        action=action,
        checkpoint=checkpoint,
        first_epoch=first_epoch,
        fingerprint=settings_mark,
        store=store,
        notes=notes,
    )


def plan_from_orders(orders: dict[str, Any]) -> RunPlan:
    """Rebuild the plan in a rank from ``RunPlan.orders``; samples and folds are read again."""
    config = OmegaConf.create(orders["config"])
    assert isinstance(config, DictConfig)
    samples, task = build_samples(config)
    monitor, mode = follow_monitor(config, task)
    folds, fold = build_folds(config, samples, task)
    checkpoint = orders["checkpoint"]
    return RunPlan(
        config=config,
        size=image_size(config.data.size),
        fold=fold,
        samples=samples,
        task=task,
        monitor=monitor,
        mode=mode,
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


def _predicted_splits(samples: pd.DataFrame, folds: "pd.Series[int]", fold: int | str) -> list[str]:
    """The splits that a run writes predictions of."""
    has = {"val": len(split_rows(folds, fold)[1]) > 0, "test": (samples["split"] == "test").any()}
    return [split for split, any_rows in has.items() if any_rows]
