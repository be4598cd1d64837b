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
from product_cls.config.compose import ComposedRun, compose_run, run_interpolations
from product_cls.core.errors import UserError
from product_cls.core.files import digest, write_text_whole
from product_cls.runs.fingerprint import fingerprinted
from product_cls.runs.folder import RunFolder

COMPOSED = "_product_cls_composed"  # attribute of a config: the run it was composed for


def compose(*words: str) -> DictConfig:
    """The config of one run, from the words that ``product-cls train`` takes.

    Args:
        words: ``"model=lite0"``, ``"data.root=PICTURES"``, ``"--config-dir=FOLDER"``, ...

    Raises:
        UserError: a word that the command would refuse, or a set of runs (``sweep=NAME``).
    """
    run = compose_run(words)
    if run.sweep is not None:
        raise UserError(
            f"sweep={run.sweep} is a set of runs, and compose makes the config of one; train the "
            f"set by `product-cls train -m {' '.join(words)}`."
        )
    # In __dict__, past DictConfig's own attributes, which are the config's keys.
    vars(run.config)[COMPOSED] = (run, _content(run.config))
    return run.config


def train(config: DictConfig | Mapping[str, Any], *, folder: str | Path | None = None) -> Run:
    """Train a run in this process; skip it if it has finished, resume it if it was interrupted.

    Args:
        config: from ``compose``.
        folder: where results go. None is the folder that the command uses for the words the config
            was composed of, ``multirun/NAME/WORDS``; a config that was changed since or has no
            words gets ``multirun/NAME/config-DIGEST``.

    Raises:
        UserError: settings or data that are refused.
    """
    from product_cls.training.run import quiet_libraries
    from product_cls.training.run import train as train_in

    if not isinstance(config, DictConfig):
        config = OmegaConf.create(dict(config))
    composed = _composed(config)
    path = _folder_of(config, composed) if folder is None else Path(folder)
    run = Run(path)
    if composed is not None:
        # Where Hydra leaves them, for reports.
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
    """A digest of the settings that change the results or the name."""
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
    """Write this package's log to ``train.log``, and leave the caller's logging as it was."""
    folder.path.mkdir(parents=True, exist_ok=True)
    loggers = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    levels = {logger: logger.level for logger in loggers}
    ours = logging.getLogger("product_cls")
    levels.setdefault(ours, ours.level)
    handler = _RunLog(folder.log_file, ours)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    propagate = ours.propagate
    try:
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)
        ours.propagate = False
        with warnings.catch_warnings():
            yield
    finally:
        ours.removeHandler(handler)
        handler.close()
        ours.propagate = propagate
        for logger, level in levels.items():
            logger.setLevel(level)


class _RunLog(logging.FileHandler):
    """A run's log file. Passes on what the caller's own settings show of the logger."""

    def __init__(self, file: Path, logger: logging.Logger) -> None:
        super().__init__(file)
        self.shown = logger.getEffectiveLevel()

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if record.levelno >= self.shown:
            logging.root.callHandlers(record)
