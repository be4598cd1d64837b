"""Fitting: in the run's own process, or in one rank per device."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from product_cls.config.instantiate import build
from product_cls.config.values import trainer_precision
from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.errors import UserError, reason
from product_cls.data.datamodule import ProductDataModule
from product_cls.distributed.launch import ddp_arguments, one_device, train_in_ranks
from product_cls.runs.folder import RunFolder
from product_cls.tracking.trackers import begin_loggers, build_loggers
from product_cls.training.callbacks import EpochRecord, LastMean, checkpoint_callbacks
from product_cls.training.checkpoints import WholeCheckpoints
from product_cls.training.gallery_validation import GalleryValidation
from product_cls.training.module import ProductModule
from product_cls.training.monitors import check_monitors
from product_cls.training.plan import RunPlan

log = logging.getLogger(__name__)

# Arguments of a trainer that never trains: it touches no GPU and none of torch's global flags.
CHECKS_ONLY: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "precision": None,
    "deterministic": None,
    "benchmark": None,
    "plugins": [LightningEnvironment()],
}

OTHER_WEIGHTS = "Error(s) in loading state_dict"  # how torch begins


def build_trainer(
    plan: RunPlan, folder: RunFolder, module: ProductModule, data: ProductDataModule
) -> pl.Trainer:
    """Build the trainer of this process with its callbacks and loggers; changes no file.

    In a process that starts ranks, the trainer only checks settings and holds the loggers.

    Raises:
        UserError: settings are refused.
    """
    config = plan.config
    callbacks = _callbacks(plan, folder, module, data)
    progress_bar = bool(config.trainer.enable_progress_bar) and sys.stdout.isatty()
    if progress_bar:
        callbacks.append(TQDMProgressBar(leave=False))
    if plan.batch.devices > 1 and data.world_size == 1:
        arguments = CHECKS_ONLY
    else:
        arguments = {
            "precision": trainer_precision(config.trainer),
            **ddp_arguments(data.world_size, module.finetune),
        }
        arguments["plugins"] = [*arguments["plugins"], WholeCheckpoints()]
    trainer: pl.Trainer = build(
        config.trainer,
        accumulate_grad_batches=plan.batch.accumulated,
        callbacks=callbacks,
        logger=build_loggers(config),
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder.path),
        sync_batchnorm=False,  # `build_network` has converted the network
        **arguments,
    )
    return trainer


def fit(
    plan: RunPlan,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    trainer: pl.Trainer,
) -> tuple[pl.Trainer, list[Logger]]:
    """Train on all devices of the plan.

    Args:
        plan: the run's plan.
        folder: the run's folder, marked as running.
        module: the module to train.
        data: the run's data.
        trainer: from ``build_trainer``.

    Returns:
        A trainer whose device predictions use, and the loggers to publish results with.

    Raises:
        UserError, torch.OutOfMemoryError: raised in training, here or in a rank.
        RankFailed: a rank failed for another reason.
    """
    if plan.batch.devices == 1:
        fit_here(plan, folder, module, data, trainer)
        return trainer, trainer.loggers
    # The ranks log the training; these loggers publish the results.
    loggers = begin_loggers(trainer.loggers, plan.config, folder)
    train_in_ranks(plan.config, folder, plan.orders())
    return one_device(plan.config.trainer), loggers


def fit_here(
    plan: RunPlan,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    trainer: pl.Trainer,
) -> None:
    """Train in this process, which is the run's own or one of its ranks.

    Args:
        plan, folder, module, data, trainer: as for ``fit``.

    Raises:
        UserError: the loss or the weights are not finite, Lightning refuses settings, or the
            checkpoint is of another network.
        KeyboardInterrupt: on Ctrl-C.
    """
    trainer.loggers = begin_loggers(trainer.loggers, plan.config, folder)
    if plan.checkpoint is not None:
        log.info("Resuming from %s.", plan.checkpoint)
        if _stopped_early(plan.checkpoint, trainer.early_stopping_callbacks):
            return
    try:
        trainer.fit(module, data, ckpt_path=plan.checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into exit(1); the caller reports the interruption.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as error:
        raise UserError(f"Lightning refuses the settings: {reason(error)}.") from error
    except RuntimeError as error:
        if not str(error).startswith(OTHER_WEIGHTS):
            raise
        raise UserError(
            f"{plan.checkpoint} holds weights of another network; rerun=true trains anew."
        ) from None


def _callbacks(
    plan: RunPlan, folder: RunFolder, module: ProductModule, data: ProductDataModule
) -> list[pl.Callback]:
    """The config's callbacks and those of every run, in the order in which Lightning calls them."""
    task = plan.task
    monitor = plan.monitor if len(data.ids["val"]) else None
    configured = {str(name): build(node) for name, node in plan.config.callbacks.items()}
    check_monitors(configured, task, data, monitor, module.own_metrics)
    callbacks: list[pl.Callback] = list(configured.values())
    if monitor is not None and task.vote and task.validation_gallery_every:
        # First, so that it still sees the averaged weights that callbacks=ema validates with.
        callbacks.insert(0, GalleryValidation(task.vote, task.validation_gallery_every))
    keep = plan.config.keep
    if keep == "average":
        for name, callback in configured.items():
            if isinstance(callback, WeightAveraging):
                raise UserError(
                    f"keep=average and callbacks={name} both average the weights; allowed with "
                    f"callbacks={name}: keep=best, keep=last."
                )
        callbacks.append(LastMean(plan.config.trainer.max_epochs))
    selecting = monitor if keep == "best" else None  # without it, the latest epoch is kept
    callbacks += checkpoint_callbacks(folder.checkpoints, selecting, plan.mode)
    callbacks.append(EpochRecord(folder, monitor, plan.mode, keep))
    return callbacks


def _stopped_early(checkpoint: Path, callbacks: Sequence[EarlyStopping]) -> bool:
    """Whether early stopping had already ended the training that was interrupted afterwards.

    Lightning restores the callback's counter but checks it only after another epoch.
    """
    states = read_checkpoint(checkpoint)["callbacks"]
    return any(
        states[callback.state_key]["stopped_epoch"] > 0
        for callback in callbacks
        if callback.state_key in states
    )
