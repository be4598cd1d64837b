"""Composes the config as commands do, for searches, tests, notebooks and the Python API."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from product_cls.config.names import check_name
from product_cls.config.resolvers import register_resolvers
from product_cls.config.sentences import SHARED, said_plainly, sentence
from product_cls.config.words import typed_words
from product_cls.core.cli import command_words
from product_cls.core.errors import UserError
from product_cls.core.names import shown

OWN_CONF = "PRODUCT_CLS_CONF"  # environment variable: a folder with a user's own config groups
CONFIG_DIR = "--config-dir"


def conf_folder() -> Path:
    """The folder of the config groups: ``conf/`` inside the wheel, or the one of the checkout.

    A checkout has none inside the package. Beside an installed package, ``conf/`` may be another's.
    """
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def own_conf_folder() -> Path | None:
    """The folder that ``PRODUCT_CLS_CONF`` names, absolute; None where the variable is not set.

    Raises:
        UserError: there is no such folder.
    """
    if not (name := os.environ.get(OWN_CONF)):
        return None
    return _existing(name, f"{OWN_CONF}={name}")


def group_files(group: str) -> dict[str, Path]:
    """Option -> file of a config group, sorted, with those in the folder of ``PRODUCT_CLS_CONF``.

    The package's own file comes first, as on Hydra's search path.

    Raises:
        UserError: ``PRODUCT_CLS_CONF`` names no folder.
    """
    folders = [folder for folder in (own_conf_folder(), conf_folder()) if folder is not None]
    files = {file.stem: file for folder in folders for file in folder.glob(f"{group}/*.yaml")}
    return dict(sorted(files.items()))


def group_names(folders: Sequence[str | Path] = ()) -> set[str]:
    """Names of the config groups: those of the package, of the user's folder, and of ``folders``.

    Raises:
        UserError: ``PRODUCT_CLS_CONF`` names no folder.
    """
    all_folders = [conf_folder(), own_conf_folder(), *map(Path, folders)]
    return {
        path.name
        for folder in all_folders
        if folder is not None
        for path in folder.iterdir()
        if path.is_dir() and path.name != "hydra"
    }


def check_words(words: Sequence[str], groups: Collection[str]) -> None:
    """Refuse words that choose nothing; Hydra's own messages about them are unclear.

    Raises:
        UserError: a word has no key, or no option for a group.
    """
    for word in words:
        key, equals, option = word.partition("=")
        key = key.lstrip("+~")
        if not key:
            raise UserError(f"'{shown(word)}' names no key; words are of the form key=value.")
        nothing = option in ("", "null", "[]", SHARED) and key not in ("recipe", "sweep")
        if equals and key in groups and nothing and not word.startswith("~"):
            options = ", ".join(name for name in group_files(key) if name != SHARED)
            raise UserError(f"{shown(word)}; allowed: {options}.")


def compose_config(words: Sequence[str], *, return_hydra_config: bool = False) -> DictConfig:
    """Compose the config that ``python train.py WORDS`` would have.

    Hydra's global state is the same afterwards, so this works in notebooks and inside a run.

    Args:
        words: overrides in Hydra's grammar, and ``--config-dir=FOLDER`` for a folder with the
            user's own groups, which the environment variable ``PRODUCT_CLS_CONF`` may also name.
        return_hydra_config: keep the node ``hydra``.

    Raises:
        UserError: an unknown key, group or option, a value that does not parse, or a folder that is
            not there.
    """
    overrides = hydra_words(words)
    try:
        with _fresh_hydra(), initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return compose("config", overrides, return_hydra_config=return_hydra_config)
    except Exception as error:  # Hydra passes on errors of many kinds, all of them about the words
        raise UserError(shown(sentence(error))) from error


def compose_sweep(words: Sequence[str]) -> DictConfig:
    """Compose the config that ``python train.py -m WORDS`` has before its jobs are known.

    Raises:
        UserError: as ``compose_config``, without the words that the jobs differ in.
    """
    overrides = hydra_words(words)
    try:
        with _fresh_hydra(), initialize_config_dir(str(conf_folder()), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            return hydra.compose_config("config", overrides, RunMode.MULTIRUN, from_shell=False)
    except Exception as error:  # as above
        raise UserError(shown(sentence(error))) from error


def hydra_words(words: Sequence[str]) -> list[str]:
    """The words as overrides of Hydra: text in quotes, and folders as a search path.

    Raises:
        UserError: a word that chooses nothing, or a folder that is not there.
    """
    own_conf_folder()  # refuse a wrong PRODUCT_CLS_CONF before Hydra searches it
    overrides, folders = split_config_dirs(words)
    groups = group_names(folders)
    check_words(overrides, groups)
    overrides = typed_words(overrides, groups)
    if folders:
        paths = ",".join(
            QuotedString(f"file://{Path(folder).absolute()}", Quote.single).with_quotes()
            for folder in folders
        )
        overrides.append(f"hydra.searchpath=[{paths}]")
    register_resolvers()
    return overrides


@dataclass(frozen=True)
class ComposedRun:
    """A config, and the settings of its run that Hydra holds.

    Attributes:
        config: without the node ``hydra``.
        folder: where the command writes its results.
        overrides: the words that set keys or choose groups, except Hydra's own.
        override_dirname: the overrides that name the run.
        swept: see ``swept_params``.
    """

    config: DictConfig
    folder: Path
    overrides: list[str]
    override_dirname: str
    swept: dict[str, str]


def compose_run(words: Sequence[str]) -> ComposedRun:
    """Compose the config of a run, and the folder that ``python train.py WORDS`` writes to.

    Raises:
        UserError: as ``compose_config``, or ``name`` is no place below ``multirun``.
    """
    config = compose_config(words, return_hydra_config=True)
    check_name(config)
    with _hydra_config(config), said_plainly():
        folder = Path(str(config.hydra.run.dir))
    job = cast(dict[str, Any], OmegaConf.to_container(config.hydra.job, resolve=False))
    override_dirname = str(job["override_dirname"])
    overrides = command_overrides(config.hydra, "task")
    swept = swept_params(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return ComposedRun(config, folder, overrides, override_dirname, swept)


def command_overrides(hydra: Any, kind: Literal["task", "hydra"]) -> list[str]:
    """The words of a command as typed: ``${oc.env:TOKEN}`` in them stays the text that it is.

    Args:
        hydra: the node ``hydra`` of a config.
        kind: words about the run, or about Hydra itself.
    """
    words = OmegaConf.to_container(hydra.overrides, resolve=False)
    return [str(word) for word in cast(dict[str, list[str]], words)[kind]]


def swept_params(hydra: Any) -> dict[str, str]:
    """The keys that ``-m`` sweeps over, with their values; empty if the config is of a single run.

    A sweep's file may set them, and so may an experiment's.

    Args:
        hydra: the node ``hydra`` of a config.
    """
    return {str(key): str(values) for key, values in (hydra.sweeper.get("params") or {}).items()}


def set_of_runs(swept: Mapping[str, str], words: Sequence[str]) -> str:
    """A sentence about a config that holds a sweep, in a command without ``-m``.

    Args:
        swept: see ``swept_params``.
        words: of the command.
    """
    sources = sweep_sources(words)
    return (
        f"{' '.join(sources) or 'This config'} is a set of runs (of {', '.join(swept)}), which "
        f"needs -m: {command_words('train')} -m {' '.join(sources or words)}."
    )


def sweep_sources(words: Sequence[str]) -> list[str]:
    """The words of a command that may choose a set of runs."""
    return [word for word in words if word.lstrip("+").startswith(("sweep=", "experiment="))]


@contextmanager
def run_interpolations(folder: Path, override_dirname: str) -> Iterator[None]:
    """Resolve the interpolations ``${hydra:...}`` of a config outside a Hydra application.

    Args:
        folder: the run's folder.
        override_dirname: the overrides that name the run in trackers.
    """
    runtime = {"output_dir": str(folder.absolute())}
    node = {"runtime": runtime, "job": {"override_dirname": override_dirname}}
    with _hydra_config(OmegaConf.create({"hydra": node})):
        yield


@contextmanager
def _hydra_config(config: DictConfig) -> Iterator[None]:
    """Make ``${hydra:...}`` read ``config`` inside the block."""
    singleton = HydraConfig.instance()
    running = singleton.cfg
    singleton.cfg = cast(Any, config)
    try:
        yield
    finally:
        singleton.cfg = running


def split_config_dirs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into overrides and the folders that ``--config-dir`` names.

    Args:
        words: the forms ``--config-dir=FOLDER`` and ``--config-dir FOLDER`` are read; ``-cd`` is
            the same flag.

    Returns:
        The overrides in order, and the folders as typed, with ``~`` expanded.

    Raises:
        UserError: there is no such folder.
    """
    overrides, folders = [], []
    remaining = iter(words)
    for word in remaining:
        option, separator, name = word.partition("=")
        if option not in (CONFIG_DIR, "-cd"):
            overrides.append(word)
            continue
        name = name if separator else next(remaining, "")
        _existing(name, f"{CONFIG_DIR}={name}")
        folders.append(str(Path(name).expanduser()))
    return overrides, folders


def _existing(name: str, setting: str) -> Path:
    folder = Path(name).expanduser().absolute()
    if not name or not folder.is_dir():
        raise UserError(f"{setting}: there is no such folder; name one that holds config groups.")
    return folder


@contextmanager
def _fresh_hydra() -> Iterator[None]:
    """Hide the running Hydra application, if any, inside the block."""
    singleton = GlobalHydra.instance()
    running = singleton.hydra
    singleton.clear()
    try:
        yield
    finally:
        singleton.hydra = running
