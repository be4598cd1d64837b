"""``key=value`` arguments for the commands that are not Hydra applications.

Hydra would make a run folder for each call and reads ``,`` and ``[`` in a value as a sweep; run
folders are named ``fold=0,model=b0``, so paths to them must pass through untouched.
"""

import inspect
import sys
from collections.abc import Callable
from typing import TypeVar

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from product_cls.errors import UserError

T = TypeVar("T")


def parse_arguments(schema: type[T], argv: list[str] | None = None, *, prog: str) -> T:
    """Fill the dataclass ``schema`` from ``key=value`` words.

    A value is read as YAML (``tta=[identity,hflip]``, ``top=3``), split at the first ``=``.
    ``--help`` prints the docstring of ``schema`` with its keys and defaults, and exits.

    Args:
        schema: a dataclass; a field whose default is ``omegaconf.MISSING`` must be given.
        argv: the words; the process's own where None.
        prog: the command as typed, for messages.

    Raises:
        UserError: a word without ``=``, an unknown key, a value of another type, a missing key.
    """
    words = sys.argv[1:] if argv is None else argv
    defaults = OmegaConf.structured(schema)
    keys = [str(key) for key in defaults]
    if any(word in ("-h", "--help") for word in words):
        shown = (
            f"  {k}={'...' if OmegaConf.is_missing(defaults, k) else defaults[k]}" for k in keys
        )
        print(f"{prog} key=value ...\n\n{inspect.getdoc(schema)}\n\n" + "\n".join(shown))
        raise SystemExit(0)
    config = defaults
    for word in words:
        key, separator, _ = word.partition("=")
        if not separator:
            raise UserError(
                f"'{word}' is not of the form key=value; known keys: {', '.join(keys)}."
            )
        try:
            config = OmegaConf.merge(config, OmegaConf.from_dotlist([word]))
        except ConfigKeyError:
            raise UserError(f"Unknown key '{key}'; known keys: {', '.join(keys)}.") from None
        except OmegaConfBaseException as error:
            raise UserError(f"Bad value in '{word}': {str(error).splitlines()[0]}.") from None
    missing = [key for key in keys if OmegaConf.is_missing(config, key)]
    if missing:
        raise UserError(f"Missing: {', '.join(f'{key}=...' for key in missing)} ({prog} --help).")
    return OmegaConf.to_object(config)  # type: ignore[return-value]


def guard(main: Callable[[], None]) -> None:
    """Run a command; a ``UserError`` becomes one sentence on stderr and exit status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Interrupted; what was finished is kept.", file=sys.stderr)
        raise SystemExit(130) from None


__all__ = ["MISSING", "guard", "parse_arguments"]
