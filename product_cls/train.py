"""One run: from config to checkpoints, metrics and predictions."""

import json
import logging
import platform
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import pytorch_lightning as pl
import timm
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.loggers import Logger

from product_cls import config as settings
from product_cls.assemble import (
    assemble_augmentation,
    assemble_data,
    assemble_folds,
    assemble_module,
    assemble_network,
)
from product_cls.callbacks import EpochRecord, checkpoint_callbacks
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.samples import samples_fingerprint, take_subset
from product_cls.errors import UserError
from product_cls.final import epochs_from_folds
from product_cls.module import ProductModule
from product_cls.results import predict_parts, say_result
from product_cls.retrieval.validation import GalleryValidation
from product_cls.runs import RunFolder, digest, fingerprint, now, write_text_whole
from product_cls.tasks import Task
from product_cls.tasks.retrieval import Retrieval
from product_cls.tta import check_views

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float | None:
    """Train in Hydra's run folder, skip what is finished, resume what was interrupted.

    Returns:
        The best validation metric; None with ``fold=all``.

    Raises:
        SystemExit: 1 when the run failed (the sentence is logged and in ``status.json``), 130 when
            it was interrupted.
    """
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    _quiet_libraries()
    try:
        with folder.locked():
            try:
                _refuse_sweep_without_m()
                return _run(config, folder)
            except UserError as error:
                _failed(folder, str(error))
                raise
            except KeyboardInterrupt:
                _failed(folder, "Interrupted; the same command goes on from the last epoch.")
                raise
            except torch.OutOfMemoryError:
                sentence = f"Out of GPU memory; lower data.batch_size={config.data.batch_size}."
                _failed(folder, sentence)
                raise UserError(sentence) from None
            except Exception as error:
                _failed(folder, f"{type(error).__name__}: {error}".splitlines()[0])
                raise
    except UserError as error:
        log.error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("Interrupted; the same command goes on from the last finished epoch.")
        sys.exit(130)
    except Exception:
        log.exception("The run failed; this looks like a bug or a broken machine.")
        sys.exit(1)


def _refuse_sweep_without_m() -> None:
    """``sweep=...`` says what ``-m`` sweeps over: without it, one run of the defaults would start.

    Raises:
        UserError: that is what was typed. (The launcher's jobs say hydra.mode=RUN.)
    """
    hydra = HydraConfig.get()
    sweep = hydra.runtime.choices.get("sweep")
    if sweep and hydra.mode != RunMode.MULTIRUN and "hydra.mode=RUN" not in hydra.overrides.hydra:
        raise UserError(
            f"sweep={sweep} is a set of runs, which takes -m: python train.py -m sweep={sweep}."
        )


def _quiet_libraries() -> None:
    """Leave out what libraries say that is no news to our users; other warnings stay."""
    for name in ("pytorch_lightning", "matplotlib", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",  # data.num_workers is chosen on purpose
        "LeafSpec",  # a deprecation between Lightning and torch
        "You have overridden `on_after_batch_transfer`",
        "Checkpoint directory .* exists and is not empty",  # that is what resuming means
        "The number of training batches",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def _failed(folder: RunFolder, error: str) -> None:
    # Finished results of an earlier command stay believed: this one failed before it began.
    if folder.status().get("state") != "done":
        folder.update_status(state="failed", error=error, finished=now())


def _run(config: DictConfig, folder: RunFolder) -> float | None:
    settings.check(config)
    if config.epochs_from is not None:
        epochs, why = epochs_from_folds(settings.plain(config), Path(str(config.epochs_from)))
        log.info(why)
        config = config.copy()
        config.trainer.max_epochs = epochs
    # A misspelt view must not wait for the end of training.
    check_views(config.tta, settings.image_size(config.data.size))
    samples: pd.DataFrame = settings.build(config.data.samples)
    task: Task = settings.build(config.task)
    if config.data.limit is not None:
        label = task.strata(samples)
        samples = take_subset(samples, config.data.limit, label=label, seed=config.folds.seed)
    task.fit(samples)

    folds = assemble_folds(config, samples, task)
    mark = fingerprint(
        settings.plain(config),
        samples_fingerprint(samples, task.strata(samples)),
        digest(folds.to_dict()),
    )
    plan = folder.plan(mark, rerun=bool(config.rerun))
    if plan == "skip":
        log.info("Finished earlier with the same settings (%s); nothing to do.", folder.path)
        return folder.status().get("value")
    first_epoch = finished_epochs(folder.last_checkpoint) if plan == "resume" else 0
    if first_epoch is None:
        log.warning("%s is damaged; the run starts anew.", folder.last_checkpoint)
        plan, first_epoch = "fresh", 0

    # Everything that a wrong value can stop comes before the pictures, which can take minutes.
    pl.seed_everything(int(config.seed), verbose=False)
    augment, mix = assemble_augmentation(config, task)
    network = assemble_network(config, task)
    module = assemble_module(config, task, network, mix)
    data = assemble_data(config, samples, folds, task, augment, first_epoch)

    if moved := folder.begin(mark, fresh=plan == "fresh"):
        log.warning(
            "What another run left here (other settings or data) is moved to %s, where one such is "
            "kept; name=... keeps both.",
            moved,
        )
    write_text_whole(folder.config_file, OmegaConf.to_yaml(config, resolve=True))
    started = time.monotonic()
    monitor = task.monitor if len(data.ids["val"]) else None
    trainer = _fit(config, folder, module, data, monitor, plan == "resume")
    fitted = time.monotonic()
    metrics = predict_parts(config, folder, data, network, trainer)
    predicted = time.monotonic()

    value = folder.status().get("value")
    last = torch.load(folder.last_checkpoint, map_location="cpu", weights_only=True)
    record = {
        **metrics,
        "fold": config.fold,
        "seed": int(config.seed),
        "best_epoch": finished_epochs(folder.best_checkpoint),
        "epochs": last["epoch"] + 1,
        "steps": last["global_step"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": network.weights.record(),
        "seconds": {"fit": round(fitted - started, 1), "predict": round(predicted - fitted, 1)},
        "device": torch.cuda.get_device_name()
        if settings.on_gpu(config.trainer)
        else platform.processor() or "cpu",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": pl.__version__,
            "timm": timm.__version__,
        },
    }
    write_text_whole(folder.metrics_file, json.dumps(record, indent=2) + "\n")
    limited = isinstance(config.trainer.limit_val_batches, int)
    folder.update_status(state="done", finished=now(), error=None, limited=limited)
    say_result(metrics, folder)
    return value


def finished_epochs(checkpoint: Path) -> int | None:
    """Epochs that a checkpoint has behind it; None where it is damaged."""
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1
    except Exception:  # torch.load has no common error type for "this is no checkpoint"
        return None


def _fit(
    config: DictConfig,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    monitor: str | None,
    resume: bool,
) -> pl.Trainer:
    loggers: list[Logger] = [settings.build(node) for node in config.logger.values()]
    callbacks = [settings.build(node) for node in config.callbacks.values()]
    if isinstance(module.task, Retrieval) and monitor is not None and module.task.gallery_every:
        # First, so that it still sees the averaged weights that callbacks=ema validates by.
        callbacks.insert(0, GalleryValidation(module.task.gallery_every))
    callbacks += checkpoint_callbacks(folder.checkpoints, monitor)
    callbacks.append(EpochRecord(folder, monitor))
    bar = bool(config.trainer.enable_progress_bar) and sys.stdout.isatty()
    if bar:
        callbacks.append(TQDMProgressBar(leave=False))
    trainer: pl.Trainer = settings.build(
        config.trainer,
        precision=settings.precision(config.trainer),
        callbacks=callbacks,
        logger=loggers,
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder.path),
    )
    checkpoint = folder.last_checkpoint if resume else None
    if checkpoint is not None:
        log.info("Resuming from %s.", checkpoint)
    if checkpoint is not None and _stopped_early(checkpoint, callbacks):
        return trainer
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns Ctrl-C into exit(1); what it means is said by our caller.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for logger in loggers:
            # A live W&B run would be reused by the next run of this process.
            if type(logger).__name__ == "WandbLogger":
                import wandb

                wandb.finish()
    return trainer


def _stopped_early(checkpoint: Path, callbacks: list[pl.Callback]) -> bool:
    """Whether early stopping had ended the training that was interrupted afterwards.

    Lightning restores its counter but looks at it only after another epoch.
    """
    states = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    return any(
        states[callback.state_key]["stopped_epoch"] > 0
        for callback in callbacks
        if isinstance(callback, EarlyStopping) and callback.state_key in states
    )
