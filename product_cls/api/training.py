"""Compose a run's config and train it in this process."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from product_cls.api.results import Run
from product_cls.config.compose import ComposedRun, compose_run, run_interpolations, sweep_sources
from product_cls.core.errors import UserError
from product_cls.core.files import digest, write_text_whole
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder

COMPOSED = "_product_cls_composed"  # attribute of a config: the run it was composed for


def compose(*words: str) -> DictConfig:
    """Compose the config of one run from the arguments that ``product-cls train`` takes.

    Args:
        words: ``"model=lite0"``, ``"data.root=PICTURES"``, ``"--config-dir=FOLDER"``, ...

    Raises:
        UserError: an argument that the command would refuse, or a set of runs (``sweep=NAME``).
    """
    run = compose_run(words)
    if run.swept:
        raise UserError(
            f"{' '.join(sweep_sources(words)) or 'This config'} is a set of runs (of "
            f"{', '.join(run.swept)}), and compose makes the config of one run; train the set by "
            f"`product-cls train -m {' '.join(words)}`."
        )
    # In __dict__, because attributes that are set on a DictConfig become keys of the config.
    vars(run.config)[COMPOSED] = (run, _content(run.config))
    return run.config


def train(config: DictConfig | Mapping[str, Any], *, folder: str | Path | None = None) -> Run:
    """Train a run in this process; skip it if it has finished, resume it if it was interrupted.

    Args:
        config: from ``compose``.
        folder: where results go. None: the folder that the command would use for the config's
            arguments, ``multirun/NAME/ARGUMENTS``; for a config that was changed since, or not
            composed, ``multirun/NAME/config-DIGEST``.

    Raises:
        UserError: settings or data are refused.
    """
    from product_cls.training.run import quiet_libraries
    from product_cls.training.run import train as train_in

    if not isinstance(config, DictConfig):
        config = OmegaConf.create(dict(config))
    composed = _composed(config)
    path = _folder_of(config, composed) if folder is None else Path(folder)
    run = Run(path)
    if composed is not None:
        # Where Hydra would leave the overrides, for reports.
        text = yaml.safe_dump(composed.overrides)
        write_text_whole(path / ".hydra" / "overrides.yaml", text)
    override_dirname = path.name if composed is None else composed.override_dirname
    with _logged(run.folder), run_interpolations(path, override_dirname):
        quiet_libraries()
        try:
            train_in(config, RunFolder(path.absolute()))
        except SystemExit as error:
            raise RuntimeError(f"The run ended with exit status {error.code}.") from error
    return run


def _content(config: DictConfig) -> str:
    """A digest of the name and of the settings that affect results."""
    plain: Any = OmegaConf.to_container(config)
    return digest([plain["name"], fingerprinted(plain)])


def _composed(config: DictConfig) -> ComposedRun | None:
    """The run that a config was composed for; None if it has been changed since."""
    run, content = vars(config).get(COMPOSED, (None, ""))
    return run if run is not None and content == _content(config) else None


def _folder_of(config: DictConfig, composed: ComposedRun | None) -> Path:
    if composed is not None:
        return composed.folder
    return Path("multirun") / str(config.name) / f"config-{_content(config)[:8]}"


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Write this package's log to ``train.log``, and restore the caller's logging at the end."""
    folder.path.mkdir(parents=True, exist_ok=True)
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
