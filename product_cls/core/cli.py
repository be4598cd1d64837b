"""``key=value`` arguments for the commands that are not Hydra applications.

Hydra would create a run folder for each call, and reads ``,`` and ``[`` in a value as a sweep. Run
folders are named ``fold=0,model=b0``, so their paths must pass through unchanged.
"""

import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from product_cls.core.arguments import as_typed
from product_cls.core.errors import UserError
from product_cls.core.interrupts import interrupt_exits
from product_cls.core.names import shown

T = TypeVar("T")

CONSOLE = "product-cls"  # the console command, which sets sys.argv[0] to "product-cls SUBCOMMAND"

TRAIN = "python train.py"


class PlainLoader(yaml.SafeLoader):
    """YAML in which only what people write as a number is one: ``2024_10``, ``0012``, ``1:30``,
    ``on`` and dates are text, as the names of folders are.
    """


PlainLoader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"(true|false|True|False)", "tfTF"),
    ("null", r"(null|~|)", ["n", "~", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|nan)", "-+."),
):
    PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"{_pattern}$"), list(_first)
    )


def checkout_script() -> Path | None:
    """``train.py`` of the checkout that this package is in; None for an installed package."""
    script = Path(__file__).parents[2] / "train.py"
    # Another package's train.py may lie in site-packages.
    return script if script.is_file() and "product_cls" in script.read_text() else None


def command_words(name: str) -> str:
    """A command as this user can type it: installed, or from a checkout.

    Args:
        name: of ``product-cls NAME``.
    """
    if Path(sys.argv[0]).name.split()[:1] == [CONSOLE] or checkout_script() is None:
        return f"{CONSOLE} {name}"
    return TRAIN if name == "train" else f"python -m product_cls {name}"


def parse_arguments(schema: type[T], argv: list[str] | None = None, *, prog: str) -> T:
    """Fill the dataclass ``schema`` from ``key=value`` words.

    A word is split at its first ``=``. The value of a text field is taken as typed; ``null`` means
    None if the field allows it. Other values are YAML (``tta=[identity,hflip]``, ``top=3``).
    ``--help`` prints the docstring of ``schema`` with its keys and defaults, and exits;
    ``python train.py`` in it becomes the command that this user can type.

    Args:
        schema: a dataclass; a field with the default ``omegaconf.MISSING`` is required.
        argv: the words; None for the process's own.
        prog: the command as typed, for messages.

    Raises:
        UserError: a word without ``=``, an unknown key, a value of the wrong type, a missing key.
    """
    words = sys.argv[1:] if argv is None else argv
    prog = sys.argv[0] if sys.argv[0].startswith(f"{CONSOLE} ") else prog
    defaults = OmegaConf.structured(schema)
    keys = [str(key) for key in defaults]
    types = get_type_hints(schema)
    if any(word in ("-h", "--help") for word in words):
        lines = (
            f"  {k}={'...' if OmegaConf.is_missing(defaults, k) else as_typed(defaults[k])}"
            for k in keys
        )
        text = str(inspect.getdoc(schema)).replace(TRAIN, command_words("train"))
        print(f"{prog} key=value ...\n\n{text}\n\n" + "\n".join(lines))
        raise SystemExit(0)
    config = defaults
    for word in words:
        key, separator, text = word.partition("=")
        if not separator:
            raise UserError(
                f"'{word}' is not of the form key=value; known keys: {', '.join(keys)}."
            )
        if key not in keys:
            close = get_close_matches(key, keys, n=1)
            known = f"did you mean '{close[0]}'? Known" if close else "known"
            raise UserError(f"Unknown key '{key}'; {known} keys: {', '.join(keys)}.")
        if not text:
            raise UserError(f"Bad value in '{word}': nothing after the '='.")
        is_text = types[key] is str or (types[key] == str | None and text != "null")
        try:
            if is_text:  # escaped, because OmegaConf would resolve `${...}`
                override = OmegaConf.create({key: text.replace("${", r"\${")})
            else:
                override = OmegaConf.create({key: yaml.load(text, Loader=PlainLoader)})
            config = OmegaConf.merge(config, override)
        except OmegaConfBaseException as error:
            raise UserError(f"Bad value in '{word}': {_first_line(error)}.") from None
        except yaml.YAMLError as error:
            why = getattr(error, "problem", None) or _first_line(error)
            raise UserError(f"Bad value in '{word}': {why}.") from None
        except (RecursionError, ValueError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else _first_line(error)
            raise UserError(f"Bad value in '{shown(word[:80])}': {why}.") from None
    missing = [key for key in keys if OmegaConf.is_missing(config, key)]
    if missing:
        raise UserError(f"Missing: {', '.join(f'{key}=...' for key in missing)} ({prog} --help).")
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"Bad value: {_first_line(error)}.") from None


def check_at_least_one(arguments: Any, *keys: str) -> None:
    """Refuse values below 1.

    Raises:
        UserError: naming the first such key.
    """
    for key in keys:
        if getattr(arguments, key) < 1:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: 1 or more.")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


@contextmanager
def closed_pipe_exits() -> Iterator[None]:
    """Around a command: exit without a traceback if the reader of its output (`head`) has ended.

    Raises:
        SystemExit: 141, the status of a process that SIGPIPE ends.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def guard(main: Callable[[], None]) -> None:
    """Run a command; a ``UserError`` ends it with one sentence on stderr and exit status 2."""
    try:
        with closed_pipe_exits(), interrupt_exits():
            main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


__all__ = [
    "CONSOLE",
    "MISSING",
    "check_at_least_one",
    "checkout_script",
    "closed_pipe_exits",
    "command_words",
    "guard",
    "parse_arguments",
]
