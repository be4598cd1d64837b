"""Runs that train in the caller's process, for the Python API."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from product_cls.config.border import missing_keys_named
from product_cls.config.compose import ComposedRun, run_interpolations
from product_cls.config.names import check_place_below
from product_cls.core.errors import UserError
from product_cls.core.files import digest
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder

COMPOSED = "_product_cls_composed"  # attribute of a config: the run it was composed for


def remember(run: ComposedRun) -> DictConfig:
    """The config of a composed run, which ``train_in_process`` recognises while it is unchanged."""
    # In __dict__, because attributes that are set on a DictConfig become keys of the config.
    vars(run.config)[COMPOSED] = (run, _content(run.config))
    return run.config


def train_in_process(config: DictConfig | Mapping[str, Any], folder: Path | None) -> Path:
    """Train a run; skip it if it has finished, resume it if it was interrupted.

    Args:
        config: from ``remember``, or any whole config.
        folder: where results go. None: the folder of the command if the config is unchanged since
            ``remember``, else ``multirun/NAME/config-DIGEST``.

    Returns:
        The run's folder.

    Raises:
        UserError: settings or data are refused, or the config lacks a setting.
    """
    if not isinstance(config, DictConfig):
        config = OmegaConf.create(dict(config))
    with missing_keys_named():
        return _train(config, folder)


def _train(config: DictConfig, folder: Path | None) -> Path:
    from product_cls.training.run import quiet_libraries, train  # imports torch

    composed = _composed(config)
    if folder is None:
        folder = composed.folder if composed is not None else _changed_folder(config)
    override_dirname = folder.name if composed is None else composed.override_dirname
    overrides = None if composed is None else composed.overrides
    with _logged(RunFolder(folder)), run_interpolations(folder, override_dirname):
        quiet_libraries()
        try:
            train(config, RunFolder(folder.absolute()), overrides=overrides)
        except SystemExit as error:
            raise RuntimeError(f"The run ended with exit status {error.code}.") from error
    return folder


def _content(config: DictConfig) -> str:
    """A digest of the name and of the settings that affect results."""
    plain: Any = OmegaConf.to_container(config)
    return digest([plain["name"], fingerprinted(plain)])


def _composed(config: DictConfig) -> ComposedRun | None:
    """The run that a config was composed for; None if it has been changed since."""
    run, content = vars(config).get(COMPOSED, (None, ""))
    return run if run is not None and content == _content(config) else None


def _changed_folder(config: DictConfig) -> Path:
    check_place_below("name", str(config.name))
    return Path("multirun") / str(config.name) / f"config-{_content(config)[:8]}"


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Write this package's log to ``train.log``, and restore the caller's logging at the end.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.path} cannot be created ({error.strerror}).") from None
    loggers = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    levels = {logger: logger.level for logger in loggers}
    package_log = logging.getLogger("product_cls")
    levels.setdefault(package_log, package_log.level)
    handler = _RunLog(folder.log_file, package_log)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    propagate = package_log.propagate
    try:
        package_log.addHandler(handler)
        package_log.setLevel(logging.INFO)
        package_log.propagate = False
        with warnings.catch_warnings():
            yield
    finally:
        package_log.removeHandler(handler)
        handler.close()
        package_log.propagate = propagate
        for logger, level in levels.items():
            logger.setLevel(level)


class _RunLog(logging.FileHandler):
    """A run's log file; passes records on to the root handlers if the caller's level allows."""

    def __init__(self, file: Path, logger: logging.Logger) -> None:
        super().__init__(file)
        self.shown = logger.getEffectiveLevel()

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if record.levelno >= self.shown:
            logging.root.callHandlers(record)
