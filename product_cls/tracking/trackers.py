"""Build a run's loggers and publish its results to W&B, TensorBoard or MLflow.

A tracker never makes a run fail: bad settings are refused before training, and later errors become
warnings.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from product_cls.config.instantiate import build, to_plain
from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.runs.folder import RunFolder
from product_cls.tracking.base import Tracker, without_logins

log = logging.getLogger(__name__)


# Class of a logger -> the package that it needs, and its name.
NEEDS = {
    "product_cls.tracking.wandb_run.WandbRun": ("wandb", "Weights & Biases"),
    "product_cls.tracking.tensorboard_run.TensorBoardRun": ("tensorboard", "TensorBoard"),
    "product_cls.tracking.mlflow_run.MlflowRun": ("mlflow", "MLflow"),
}


def check_loggers(config: DictConfig) -> None:
    """Refuse loggers that cannot be built, before data and network are, which takes minutes.

    Raises:
        UserError: a logger that is no setting with a ``_target_``, or whose package is missing.
    """
    for name, node in config.logger.items():
        if not OmegaConf.is_dict(node) or "_target_" not in node:
            raise UserError(
                f"logger.{name}={node}; allowed: settings with a _target_, the class of the logger "
                f"(~logger.{name} leaves it out)."
            )
        package, title = NEEDS.get(str(node._target_), ("", ""))
        if package and find_spec(package) is None:
            need = f"logger={name} needs {title}"
            if package == "mlflow":
                raise missing_extra(need, package)
            raise UserError(f"{need}, which is not installed: pip install {package}.")


def build_loggers(config: DictConfig) -> list[Logger]:
    """Build the loggers of ``config.logger``; they write nothing before ``begin_loggers``.

    Raises:
        UserError: an argument that a logger does not accept, or a package that is not installed.
    """
    return [build(node) for node in config.logger.values()]


def begin_loggers(loggers: Sequence[Logger], config: DictConfig, folder: RunFolder) -> list[Logger]:
    """Begin a run in its trackers.

    Args:
        loggers: from ``build_loggers``.
        config: the run's config.
        folder: the run's folder, marked as running.

    Returns:
        The loggers without trackers that cannot begin.
    """
    begun: list[Logger] = []
    for logger in loggers:
        if isinstance(logger, Tracker):
            try:
                logger.begin(folder, without_logins(to_plain(config)))
            except Exception as error:  # services raise many kinds
                name = type(logger).__name__
                log.warning(
                    "%s cannot begin (%s); the run continues without it.", name, reason(error)
                )
                continue
        begun.append(logger)
    return begun


@rank_zero_only
def publish_results(
    loggers: Sequence[Logger], folder: RunFolder, samples: pd.DataFrame, folds: "pd.Series[int]"
) -> None:
    """Publish a run whose predictions and metrics are written.

    Args:
        loggers: the run's loggers; those that are no ``Tracker`` are ignored.
        folder: the run's folder.
        samples: the sample table, for the paths of pictures.
        folds: int64, index ``id``: the fold that holds each sample out; -1 for none.
    """
    trackers = [logger for logger in loggers if isinstance(logger, Tracker)]
    if not trackers:
        return
    from product_cls.tracking.findings import find  # slow to import, and few runs need it

    findings = find(folder, samples)
    for tracker in trackers:
        try:
            tracker.publish(folder, findings, folds)
        except Exception as error:  # no error of a service may cost hours of training
            log.warning(
                "%s did not receive all results (%s); they are in %s.",
                type(tracker).__name__,
                reason(error),
                folder.path,
            )


@contextmanager
def closing_trackers() -> Iterator[None]:
    """End the W&B run that the body began, as failed if the body raises.

    Otherwise the next run of this process would continue it.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        if module := sys.modules.get("product_cls.tracking.wandb_run"):
            module.finish(exit_code)
