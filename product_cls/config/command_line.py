"""The command line of ``product-cls train``: put in order and checked before Hydra starts.

Hydra creates the run's folder before it calls the program, so a mistake that is found here leaves
nothing behind.
"""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches

from hydra._internal.utils import get_args_parser

from product_cls.config.checks import check_settings
from product_cls.config.compose import (
    CONFIG_DIR,
    check_words,
    compose_run,
    compose_sweep,
    group_names,
    own_conf_folder,
    set_of_runs,
    split_config_dirs,
)
from product_cls.config.files import check_files
from product_cls.config.names import check_name
from product_cls.config.words import typed_words
from product_cls.core.cli import command_words
from product_cls.core.errors import UserError

MODES = ("run", "multirun", "cfg", "info", "shell_completion")  # of which Hydra takes one
MULTIRUN = ("-m", "--multirun")
RUN = ("-r", "--run")


def read_command_line(words: Sequence[str]) -> list[str]:
    """The words as Hydra can read them: options first, and text in quotes.

    Args:
        words: as typed, without the program.

    Raises:
        UserError: an option, key or value that no run can have. Only the words are checked, in a
            fraction of a second; data and devices are not looked at, but files that settings name
            must exist.
    """
    own_conf_folder()
    options, overrides = split_options(words)
    _, folders = split_config_dirs(options)
    groups = group_names(folders)
    check_words(overrides, groups)
    overrides = typed_words(overrides, groups)
    flags = [word for word in options if word.startswith("-") and not word.startswith(CONFIG_DIR)]
    if not is_job(overrides) and all(flag in (*MULTIRUN, *RUN) for flag in flags):
        composed = [*(f"{CONFIG_DIR}={folder}" for folder in folders), *overrides]
        sweeps = any(flag in MULTIRUN for flag in flags)
        sweeps = sweeps or any(word.upper() == "HYDRA.MODE=MULTIRUN" for word in overrides)
        _check(composed, sweeps)
    return [*options, *overrides]


def is_job(words: Sequence[str]) -> bool:
    """Whether the words are those of a job, which a sweep or a search has checked."""
    return any(word.startswith("hydra.job.num=") for word in words)


def _check(words: list[str], sweeps: bool) -> None:
    """Compose the config as Hydra will, and refuse what no run can have."""
    if sweeps:
        sweep = compose_sweep(words)
        check_name(sweep)  # the launcher checks the jobs
        size = sweep.hydra.sweeper.get("max_batch_size")
        if size is not None and size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={size}; allowed: 1 or more, or null.")
        return
    run = compose_run(words)
    if run.swept:
        raise UserError(set_of_runs(run.swept, words))
    check_settings(run.config)
    check_files(run.config)


def split_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options, and the overrides between which they may stand.

    Argparse takes overrides in one run of words only.

    Raises:
        UserError: there is no such option, its value is missing, or two exclude each other.
    """
    parser = get_args_parser()
    actions = parser._option_string_actions
    options, overrides = [], []
    modes: dict[str, str] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, equals, _ = word.partition("=")
        # Argparse knows options by their beginnings, too.
        begun = [option for option in actions if name[:2] == "--" and option.startswith(name)]
        action = actions.get(name) or (actions[begun[0]] if len(begun) == 1 else None)
        if action is None:
            close = get_close_matches(name, actions, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise UserError(
                f"'{word}' is no option of {command_words('train')}; settings are typed as "
                f"key=value, without dashes.{hint}"
            )
        if action.dest == "experimental_rerun":  # reads a pickle, which may run any code
            raise UserError(f"'{name}' is not supported; type the command of the run again.")
        if action.dest in MODES:
            modes[action.dest] = name
        options.append(word)
        if equals or action.nargs == 0 or isinstance(action, argparse._VersionAction):
            continue
        if remaining and (action.choices is None or remaining[0] in action.choices):
            options.append(remaining.pop(0))
        elif action.nargs == "?":
            options[-1] = f"{word}={action.const}"
        else:
            raise UserError(f"'{word}' needs a value.")
    if len(modes) > 1:
        raise UserError(f"{' and '.join(modes.values())} exclude each other; leave one out.")
    return options, overrides
