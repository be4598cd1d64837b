"""One run: from config to checkpoints, metrics and predictions."""

import gc
import json
import logging
import platform
import sys
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import timm
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar

from product_cls.config.batch import BatchPlan, can_halve, with_scaled_rates, with_step
from product_cls.config.checks import check_config
from product_cls.config.instantiate import build, to_plain
from product_cls.config.values import image_size, on_gpu, trainer_precision
from product_cls.core.errors import UserError
from product_cls.core.files import digest, now, write_text_whole
from product_cls.data.datamodule import ProductDataModule
from product_cls.data.samples import samples_fingerprint
from product_cls.distributed.launch import (
    RankFailed,
    ddp_arguments,
    join_ranks,
    node_rank,
    one_device,
    rendezvous,
    train_in_ranks,
)
from product_cls.inference.tta import check_views
from product_cls.runs.fingerprint import fingerprint
from product_cls.runs.folder import RunFolder
from product_cls.tasks.retrieval import Retrieval
from product_cls.tracking.trackers import build_loggers, closing_trackers, publish_results
from product_cls.training.build import assemble_run, assemble_samples
from product_cls.training.callbacks import EpochRecord, checkpoint_callbacks
from product_cls.training.final_epochs import epochs_from_folds
from product_cls.training.gallery_validation import GalleryValidation
from product_cls.training.module import ProductModule
from product_cls.training.predict_splits import predict_parts, say_result

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
    quiet_libraries()
    try:
        if node_rank(config) > 0:
            return _run(config, folder)  # lock and status are the first machine's
        with folder.locked(), closing_trackers():
            return _recorded(config, folder)
    except (UserError, RankFailed) as error:
        log.error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("Interrupted; the same command goes on from the last finished epoch.")
        sys.exit(130)
    except Exception:
        log.exception("The run failed; this looks like a bug or a broken machine.")
        sys.exit(1)


def _recorded(config: DictConfig, folder: RunFolder) -> float | None:
    """A run whose failure is in ``status.json``; batches that do not fit are halved where asked."""
    try:
        _refuse_sweep_without_m()
        retries = 0
        while True:
            try:
                return _run(config, folder, retry=retries > 0)
            except torch.OutOfMemoryError:
                halved = folder.status().get("halved", 0) + 1
                if retries == config.oom_retries or not can_halve(config, halved):
                    raise
            retries += 1
            folder.update_status(halved=halved)
            log.warning(
                "Out of GPU memory: on with data.batch_size=%d and %d times as many batches a step "
                "(retry %d of oom_retries=%d).",
                config.data.batch_size // 2**halved,
                2**halved,
                retries,
                config.oom_retries,
            )
            gc.collect()  # here, where the exception, which held the batch, is gone
            torch.cuda.empty_cache()
    except (UserError, RankFailed) as error:
        _failed(folder, str(error))
        raise
    except KeyboardInterrupt:
        _failed(folder, "Interrupted; the same command goes on from the last epoch.")
        raise
    except torch.OutOfMemoryError:
        size = config.data.batch_size
        if halved := folder.status().get("halved", 0):
            sentence = f"Out of GPU memory with data.batch_size={size} halved {halved} times, too."
        else:
            sentence = f"Out of GPU memory; lower data.batch_size={size} or set oom_retries=1."
        _failed(folder, sentence)
        raise UserError(sentence) from None
    except Exception as error:
        _failed(folder, f"{type(error).__name__}: {error}".splitlines()[0])
        raise


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


def quiet_libraries() -> None:
    """Leave out what libraries say that is no news to our users; other warnings stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "matplotlib", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",  # data.num_workers is chosen on purpose
        "LeafSpec",  # a deprecation between Lightning and torch
        "You have overridden `on_after_batch_transfer`",
        "Checkpoint directory .* exists and is not empty",  # that is what resuming means
        "The number of training batches",
        "The `srun` command is available",  # ranks are started by us, on one machine
        "`broadcast_buffers` is deprecated",  # what replaces it is of newer torch only
        "Grad strides do not match bucket view strides",  # of depthwise kernels, channels last
        "It is recommended to use `self.log",  # what is logged so is the same on all ranks
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def _failed(folder: RunFolder, error: str) -> None:
    # Finished results of an earlier command stay believed: this one failed before it began.
    if folder.status().get("state") != "done":
        folder.update_status(state="failed", error=error, finished=now())


def _run(config: DictConfig, folder: RunFolder, *, retry: bool = False) -> float | None:
    check_config(config)
    config, scaled = with_scaled_rates(config)
    if config.epochs_from is not None:
        epochs, why = epochs_from_folds(to_plain(config), Path(str(config.epochs_from)))
        log.info(why)
        config = config.copy()
        config.trainer.max_epochs = epochs
    # A misspelt view must not wait for the end of training.
    check_views(config.tta, image_size(config.data.size))
    samples, task, folds = assemble_samples(config)
    mark = fingerprint(
        to_plain(config),
        samples_fingerprint(samples, task.stratify_by(samples)),
        digest(folds.to_dict()),
    )
    plan = folder.plan(mark, rerun=bool(config.rerun) and not retry)
    if plan == "skip":
        log.info("Finished earlier with the same settings (%s); nothing to do.", folder.path)
        return folder.status().get("value")
    if config.trainer.get("num_nodes", 1) > 1:
        rendezvous(config)  # refused before anything is moved, too
    first_epoch = finished_epochs(folder.last_checkpoint) if plan == "resume" else 0
    if first_epoch is None:
        log.warning("%s is damaged; the run starts anew.", folder.last_checkpoint)
        plan, first_epoch = "fresh", 0
    if node_rank(config) > 0:
        join_ranks(config)
        return None

    if scaled is not None:
        log.info(scaled)
    asked = config
    halved = int(folder.status().get("halved", 0)) if plan == "resume" or retry else 0
    step = BatchPlan.of(config).halved(halved)
    config = with_step(config, step)
    module, data = assemble_run(config, samples, task, folds, first_epoch)
    network = module.network
    if moved := folder.begin(mark, fresh=plan == "fresh" and not retry, halved=halved):
        log.warning(
            "What another run left here (other settings or data) is moved to %s, where one such is "
            "kept; name=... keeps both.",
            moved,
        )
    # As asked for, for a report finds runs by it; what it was halved to is in metrics.json.
    write_text_whole(folder.config_file, OmegaConf.to_yaml(asked, resolve=True))
    log.info(step.sentence())
    started = time.monotonic()
    if step.devices > 1:
        # Ranks have loggers of their own. These publish; what is wrong with them is said before.
        loggers = build_loggers(config, folder)
        train_in_ranks(config, folder, resume=plan == "resume", first_epoch=first_epoch)
        trainer = one_device(config.trainer)
    else:
        trainer = fit(config, folder, module, data, plan == "resume")
        loggers = trainer.loggers
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
        "batch": step.record() | {"halved": halved},
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": network.weights.record(),
        "seconds": {"fit": round(fitted - started, 1), "predict": round(predicted - fitted, 1)},
        "device": torch.cuda.get_device_name()
        if on_gpu(config.trainer)
        else platform.processor() or "cpu",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": pl.__version__,
            "timm": timm.__version__,
        },
    }
    write_text_whole(folder.metrics_file, json.dumps(record, indent=2) + "\n")
    publish_results(loggers, folder, data.samples, folds)
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


def fit(
    config: DictConfig,
    folder: RunFolder,
    module: ProductModule,
    data: ProductDataModule,
    resume: bool,
) -> pl.Trainer:
    """Train, in this process; with several devices this is one of their ranks.

    Args:
        config: of the trainer, loggers and callbacks.
        folder: where checkpoints and status go.
        resume: from ``last.ckpt``.
    """
    monitor = module.task.monitor if len(data.ids["val"]) else None
    callbacks = [build(node) for node in config.callbacks.values()]
    if isinstance(module.task, Retrieval) and monitor is not None and module.task.gallery_every:
        # First, so that it still sees the averaged weights that callbacks=ema validates by.
        callbacks.insert(0, GalleryValidation(module.task.gallery_every))
    callbacks += checkpoint_callbacks(folder.checkpoints, monitor)
    callbacks.append(EpochRecord(folder, monitor))
    bar = bool(config.trainer.enable_progress_bar) and sys.stdout.isatty()
    if bar:
        callbacks.append(TQDMProgressBar(leave=False))
    trainer: pl.Trainer = build(
        config.trainer,
        precision=trainer_precision(config.trainer),
        callbacks=callbacks,
        logger=build_loggers(config, folder),
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder.path),
        sync_batchnorm=False,  # the network has been converted
        **ddp_arguments(data.ranks, module.finetune),
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
