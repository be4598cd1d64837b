"""One run: prepare, fit, predict, record."""

import gc
import json
import logging
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import timm
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from product_cls.config.batch import can_halve
from product_cls.config.border import missing_keys_named
from product_cls.config.command_line import is_job
from product_cls.config.compose import command_overrides, set_of_runs, swept_params
from product_cls.config.instantiate import to_plain
from product_cls.config.values import on_gpu
from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.errors import UserError, reason
from product_cls.core.files import now, storage_sentence, write_text_whole
from product_cls.data.datamodule import ProductDataModule
from product_cls.distributed.launch import RankFailed, join_ranks, node_rank, rendezvous
from product_cls.models.network import Network
from product_cls.runs.fingerprint import with_contents
from product_cls.runs.folder import RunFolder
from product_cls.tracking.trackers import closing_trackers, publish_results
from product_cls.training.build import build_parts
from product_cls.training.checkpoints import finished_epochs, merge_checkpoint, restore_last
from product_cls.training.fit import build_trainer, fit
from product_cls.training.module import ProductModule
from product_cls.training.plan import RunPlan, make_plan
from product_cls.training.predict_splits import log_metrics, predict_splits
from product_cls.training.probe import fit_probe

log = logging.getLogger(__name__)

LAUNCHER = re.compile(r"[+~]*hydra[./]launcher\b")  # words that choose or configure a launcher


def run(config: DictConfig) -> float | None:
    """Train in Hydra's run folder, for ``train.py``.

    Returns:
        The best validation metric; None with ``fold=all``.

    Raises:
        SystemExit: 1 when the run failed (the sentence is logged and in ``status.json``), 130 when
            it was interrupted.
    """
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    new = not folder.status_file.exists()
    quiet_libraries()
    logging.raiseExceptions = False  # no traceback for each line that a full disk does not take
    try:
        refuse_sweep_without_multirun()
        warn_of_idle_launcher()
        return train(config, folder)
    except (UserError, RankFailed) as error:
        log.error(str(error))
        if error.__cause__ is not None and not isinstance(error.__cause__, ValueError):
            _trace_to_file(error.__cause__)  # an error in a user's own code or config
        if new and _is_single_run(HydraConfig.get()):
            folder.discard_unbegun()
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("Interrupted; the same command resumes after the last finished epoch.")
        sys.exit(130)
    except Exception as error:
        log.error(
            "The run failed: %s; this looks like a bug or a broken machine. The traceback is in "
            "%s.",
            _first_line(error),
            folder.log_file,
        )
        _trace_to_file(error)
        sys.exit(1)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")


def _trace_to_file(error: BaseException) -> None:
    """Write the traceback of an error to the log file only."""
    trace = (type(error), error, error.__traceback__)
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, "Its cause:", (), trace)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def train(
    config: DictConfig, folder: RunFolder, *, overrides: Sequence[str] | None = None
) -> float | None:
    """Train in ``folder``; skip a finished run and resume an interrupted one.

    Batches that do not fit into GPU memory are halved up to ``oom_retries`` times. A failure is
    recorded in ``status.json``.

    Args:
        config: the composed config.
        folder: the run's folder.
        overrides: to write into the folder; None where Hydra has written them.

    Returns:
        The best validation metric; None with ``fold=all``.

    Raises:
        UserError: settings or data are refused, or GPU memory is too small.
        RankFailed: a rank has died.
    """
    if node_rank(config) > 0:
        return _train_once(config, folder)  # the first machine holds the lock and writes the status
    with (
        folder.locked(),
        closing_trackers(),
        _recording_failure(config, folder),
        missing_keys_named(),
    ):
        retries = 0
        while True:
            try:
                return _train_once(config, folder, overrides, retry=retries > 0)
            except torch.OutOfMemoryError:
                halved = folder.halved() + 1
                if retries == config.oom_retries or not can_halve(config, halved):
                    raise
            retries += 1
            folder.update_status(halved=halved)
            log.warning(
                "Out of GPU memory: going on with data.batch_size=%d and %d times as many batches "
                "a step (retry %d of oom_retries=%d).",
                config.data.batch_size // 2**halved,
                2**halved,
                retries,
                config.oom_retries,
            )
            gc.collect()  # here, because the exception that held the batch is gone
            torch.cuda.empty_cache()


def _train_once(
    config: DictConfig,
    folder: RunFolder,
    overrides: Sequence[str] | None = None,
    *,
    retry: bool = False,
) -> float | None:
    plan = make_plan(config, folder, retry=retry)
    if plan.action == "skip":
        log.info("Finished earlier with the same settings (%s); nothing to do.", folder.path)
        if not folder.last_checkpoint.is_file():
            log.info("Only %s is gone, which no result needs.", folder.last_checkpoint.name)
        return folder.status().get("value")
    if config.trainer.get("num_nodes", 1) > 1:
        rendezvous(config)  # refuses a wrong environment before anything is moved
    if node_rank(config) > 0:
        join_ranks(config, folder)
        return None

    module, data, trainer = prepare(plan, folder)
    if overrides is not None:
        folder.write_overrides(overrides)
    started = time.monotonic()
    features = None
    if plan.task.fits_features:
        features = fit_probe(plan, folder, module, data, trainer)
        loggers = list(trainer.loggers)
    else:
        trainer, loggers = fit(plan, folder, module, data, trainer)
        if module.finetune.lora is not None:
            merge_checkpoint(folder.best_checkpoint, module)
    fitted = time.monotonic()
    metrics = predict_splits(plan, folder, data, module.network, trainer, features)
    seconds = {"fit": fitted - started, "predict": time.monotonic() - fitted}
    return record(plan, folder, module.network, metrics, seconds, loggers, data.samples)


def prepare(
    plan: RunPlan, folder: RunFolder
) -> tuple[ProductModule, ProductDataModule, pl.Trainer]:
    """Build module, data and trainer, then mark the folder as running.

    Everything that depends on settings is built first, so that a bad setting leaves earlier results
    in place.
    """
    for note in plan.notes:
        log.info(note)
    module, data = build_parts(plan)
    trainer = build_trainer(plan, folder, module, data)
    fresh = plan.action == "fresh"
    changed = folder.differences(to_plain(plan.config)) if fresh else []
    whole = with_contents(plan.fingerprint, data.store.contents)
    if moved := folder.begin(whole, fresh=fresh, halved=plan.halved):
        log.warning(
            "The previous run's results%s are moved to %s (only the latest are kept); name=... "
            "keeps both.",
            f" ({'; '.join(changed[:3])})" if changed else "",
            moved,
        )
    if plan.checkpoint == folder.best_checkpoint:
        restore_last(folder)
    # It holds the requested batch size, because reports identify the run by it; metrics.json holds
    # the halved size.
    write_text_whole(folder.config_file, OmegaConf.to_yaml(plan.config, resolve=True))
    log.info(plan.batch.sentence())
    return module, data, trainer


def record(
    plan: RunPlan,
    folder: RunFolder,
    network: Network,
    metrics: dict[str, Any],
    seconds: dict[str, float],
    loggers: Sequence[Logger],
    samples: pd.DataFrame,
) -> float | None:
    """Write ``metrics.json``, publish the results and mark the run as done.

    Args:
        plan: the run's plan.
        folder: the run's folder.
        network: the trained network, for its number of parameters and the source of its weights.
        metrics: by split.
        seconds: duration of each stage.
        loggers: to publish with.
        samples: the sample table without pictures that the store dropped.

    Returns:
        The best validation metric; None with ``fold=all``.
    """
    config = plan.config
    last = read_checkpoint(folder.last_checkpoint)
    content = {
        **metrics,
        "fold": config.fold,
        "seed": int(config.seed),
        "best_epoch": finished_epochs(folder.best_checkpoint),
        "epochs": last["epoch"] + 1,
        "steps": last["global_step"],
        "batch": plan.batch.record() | {"halved": plan.halved},
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": network.weights.record(),
        **(
            {"joined_weights": [other.weights.record() for other in network.joined]}
            if network.joined
            else {}
        ),
        "seconds": {stage: round(duration, 1) for stage, duration in seconds.items()},
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
    write_text_whole(folder.metrics_file, json.dumps(content, indent=2) + "\n")
    publish_results(loggers, folder, samples, plan.folds)
    limit = config.trainer.limit_val_batches
    limited = isinstance(limit, int) or limit < 1.0
    folder.update_status(state="done", finished=now(), error=None, limited=limited)
    log_metrics(metrics, folder)
    return folder.status().get("value")


@contextmanager
def _recording_failure(config: DictConfig, folder: RunFolder) -> Iterator[None]:
    """Write to ``status.json`` why the body of the ``with`` statement failed.

    Raises:
        UserError: replaces an out-of-memory error, and an error of the disk.
    """
    try:
        yield
    except (UserError, RankFailed) as error:
        _record_failure(folder, str(error))
        raise
    except KeyboardInterrupt:
        _record_failure(folder, "Interrupted; the same command resumes after the last epoch.")
        raise
    except torch.OutOfMemoryError:
        size = config.data.batch_size
        if halved := folder.halved():
            times = "once" if halved == 1 else f"{halved} times"
            sentence = f"Out of GPU memory even with data.batch_size={size} halved {times}."
        else:
            sentence = f"Out of GPU memory; lower data.batch_size={size} or set oom_retries=1."
        _record_failure(folder, sentence)
        raise UserError(sentence) from None
    except OSError as error:
        refused = storage_sentence(error)
        _record_failure(folder, refused or _first_line(error))
        if refused is None:
            raise
        raise UserError(refused) from error
    except Exception as error:
        _record_failure(folder, _first_line(error))
        raise


def _record_failure(folder: RunFolder, error: str) -> None:
    # Finished results of an earlier command stay valid: this run failed before it began.
    if folder.status().get("state") != "done":
        try:
            folder.update_status(state="failed", error=error, finished=now())
        except OSError as refused:
            log.warning(storage_sentence(refused) or reason(refused))


def refuse_sweep_without_multirun() -> None:
    """Refuse a config that holds a sweep if ``-m`` is missing.

    Without ``-m`` Hydra ignores the sweep's parameters and starts one run of the defaults.

    Raises:
        UserError: the config has ``hydra.sweeper.params`` and this is a single run. The jobs of
            sweeps and searches, which have a job number, are exempt.
    """
    hydra = HydraConfig.get()
    swept = swept_params(hydra)
    if not swept or not _is_single_run(hydra):
        return
    typed = command_overrides(hydra, "task")
    raise UserError(set_of_runs(swept, typed))


def _is_single_run(hydra: Any) -> bool:
    """Whether the node ``hydra`` is of a command without ``-m``, and of no job of a sweep."""
    # hydra.mode=RUN does not mark jobs, because Hydra adds it to every command without -m.
    return hydra.mode != RunMode.MULTIRUN and not is_job(command_overrides(hydra, "hydra"))


def warn_of_idle_launcher() -> None:
    """Warn if the command configures a launcher but is a single run, which uses none."""
    hydra = HydraConfig.get()
    words = " ".join(w for w in command_overrides(hydra, "hydra") if LAUNCHER.match(w))
    if words and _is_single_run(hydra):
        log.warning("%s has no effect without -m: only sweeps use a launcher.", words)


def quiet_libraries() -> None:
    """Silence library messages that are no news to users; other warnings stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "matplotlib", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",  # data.num_workers is set on purpose
        "LeafSpec",  # a deprecation between Lightning and torch
        "You have overridden `on_after_batch_transfer`",
        "Experiment logs directory .* exists and is not empty",  # our CSV logger keeps its rows
        "Checkpoint directory .* exists and is not empty",  # normal when a run resumes
        "The number of training batches",
        "The `srun` command is available",  # we start the ranks ourselves
        "`broadcast_buffers` is deprecated",  # its replacement needs a newer torch
        "Grad strides do not match bucket view strides",  # of depthwise kernels in channels_last
        "It is recommended to use `self.log",  # values logged this way are equal on all ranks
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
