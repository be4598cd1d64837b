"""What W&B, TensorBoard and MLflow are told of a run. None of them can make a run fail: settings
that they do not take are refused before training, whatever goes wrong later is a warning."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from product_cls.config.instantiate import build, to_plain
from product_cls.core.errors import reason
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker, without_logins

log = logging.getLogger(__name__)


def build_loggers(config: DictConfig, folder: RunFolder) -> list[Logger]:
    """The loggers of ``config.logger``, told which run they log; a tracker that cannot be told is
    left out.

    Raises:
        UserError: an argument that a logger does not take, or a package that is not installed.
    """
    loggers: list[Logger] = []
    for node in config.logger.values():
        logger = build(node)
        if isinstance(logger, Tracker):
            try:
                logger.begin(folder, without_logins(to_plain(config)))
            except Exception as error:  # whatever a service raises
                name = type(logger).__name__
                log.warning("%s cannot begin (%s); on without it.", name, reason(error))
                continue
        loggers.append(logger)
    return loggers


@rank_zero_only
def publish(
    loggers: Sequence[Logger], folder: RunFolder, samples: pd.DataFrame, folds: "pd.Series[int]"
) -> None:
    """Tell trackers what came of a run whose predictions and metrics are written.

    Args:
        loggers: of the run; those that are no ``Tracker`` are left alone.
        samples: the sample table, for paths of pictures.
        folds: of the run, by ``id``.
    """
    trackers = [logger for logger in loggers if isinstance(logger, Tracker)]
    if not trackers:
        return
    from product_cls.tracking.findings import find  # imports the report, which few jobs need

    findings = find(folder, samples)
    for tracker in trackers:
        try:
            tracker.publish(folder, findings, folds)
        except Exception as error:  # whatever a service raises must not cost hours of training
            log.warning(
                "%s was not told all results (%s); they are in %s.",
                type(tracker).__name__,
                reason(error),
                folder.path,
            )


@contextmanager
def closing_trackers() -> Iterator[None]:
    """Whatever happens inside, the W&B run begun there is ended, with that outcome: a live one
    would be taken over by the next run of this process."""
    outcome = 1
    try:
        yield
        outcome = 0
    finally:
        if module := sys.modules.get("product_cls.tracking.wandb_run"):
            module.finish(outcome)
