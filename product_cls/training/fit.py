"""Fitting: in the run's own process, or in one rank per device."""

import logging
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from product_cls.config.instantiate import build
from product_cls.config.values import trainer_precision
from product_cls.data.datamodule import ProductDataModule
from product_cls.distributed.launch import ddp_arguments, one_device, train_in_ranks
from product_cls.runs.folder import RunFolder
from product_cls.tracking.trackers import build_loggers
from product_cls.training.callbacks import EpochRecord, checkpoint_callbacks
from product_cls.training.gallery_validation import GalleryValidation
from product_cls.training.module import ProductModule
from product_cls.training.plan import RunPlan

log = logging.getLogger(__name__)


def fit(
    plan: RunPlan, folder: RunFolder, module: ProductModule, data: ProductDataModule
) -> tuple[pl.Trainer, list[Logger]]:
    """Train on all devices of the plan.

    Returns:
        A trainer whose device predictions use, and the loggers to publish results with.

    Raises:
        UserError, torch.OutOfMemoryError: raised in training, here or in a rank.
        RankFailed: a rank failed for another reason.
    """
    if plan.batch.devices == 1:
        trainer = fit_here(plan, folder, module, data)
        return trainer, trainer.loggers
    # The ranks log the training. These loggers are built here to publish results, and so that bad
    # logger settings fail before training.
    loggers = build_loggers(plan.config, folder)
    train_in_ranks(plan.config, folder, plan.orders())
    return one_device(plan.config.trainer), loggers


def fit_here(
    plan: RunPlan, folder: RunFolder, module: ProductModule, data: ProductDataModule
) -> pl.Trainer:
    """Train in this process, which is the run's own or one of its ranks.

    Raises:
        UserError: settings are refused, or the loss is not finite.
        KeyboardInterrupt: on Ctrl-C.
    """
    config = plan.config
    callbacks = _callbacks(plan, folder, has_validation=len(data.ids["val"]) > 0)
    progress_bar = bool(config.trainer.enable_progress_bar) and sys.stdout.isatty()
    if progress_bar:
        callbacks.append(TQDMProgressBar(leave=False))
    trainer: pl.Trainer = build(
        config.trainer,
        precision=trainer_precision(config.trainer),
        accumulate_grad_batches=plan.batch.accumulated,
        callbacks=callbacks,
        logger=build_loggers(config, folder),
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder.path),
        sync_batchnorm=False,  # `build_network` has converted the network
        **ddp_arguments(data.world_size, module.finetune),
    )
    if plan.checkpoint is not None:
        log.info("Resuming from %s.", plan.checkpoint)
        if _stopped_early(plan.checkpoint, callbacks):
            return trainer
    try:
        trainer.fit(module, data, ckpt_path=plan.checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into exit(1); the caller reports the interruption.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    return trainer


def _callbacks(plan: RunPlan, folder: RunFolder, *, has_validation: bool) -> list[pl.Callback]:
    """The config's callbacks and those of every run, in the order in which Lightning calls them."""
    monitor = plan.task.monitor if has_validation else None
    callbacks: list[pl.Callback] = [build(node) for node in plan.config.callbacks.values()]
    if monitor is not None and plan.task.vote and plan.task.validation_gallery_every:
        # First, so that it still sees the averaged weights that callbacks=ema validates with.
        callbacks.insert(0, GalleryValidation(plan.task.vote, plan.task.validation_gallery_every))
    callbacks += checkpoint_callbacks(folder.checkpoints, monitor)
    callbacks.append(EpochRecord(folder, monitor))
    return callbacks


def _stopped_early(checkpoint: Path, callbacks: list[pl.Callback]) -> bool:
    """Whether early stopping had already ended the training that was interrupted afterwards.

    Lightning restores the callback's counter but checks it only after another epoch.
    """
    states = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    return any(
        states[callback.state_key]["stopped_epoch"] > 0
        for callback in callbacks
        if isinstance(callback, EarlyStopping) and callback.state_key in states
    )
