"""The nearest known key for a misspelt one, after Hydra's own message. Imports nothing heavy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

SHOWN = 20  # keys named where none is near


@contextmanager
def hinting() -> Iterator[None]:
    """Around ``main()``: where Hydra exits because of an unknown key, name the nearest one."""
    try:
        yield
    except SystemExit as error:
        # Hydra exits while it handles what went wrong, which so is the context.
        composing = error.__context__
        if composing is not None and (hint := key_hint(composing.__cause__)):
            print(hint, file=sys.stderr)
        raise


def key_hint(error: BaseException | None) -> str | None:
    """A sentence about the unknown key that ``error`` is about; None where it is about another."""
    if not isinstance(error, ConfigAttributeError | ConfigKeyError):
        return None
    if not isinstance(error.parent_node, DictConfig):
        return None
    key, place = str(error.key), str(error.full_key).rpartition(".")[0]
    known = [str(name) for name in error.parent_node if not str(name).startswith("_")]
    if close := get_close_matches(key, known, n=1):
        return f"Did you mean '{place + '.' if place else ''}{close[0]}'?"
    more = ", ..." if len(known) > SHOWN else ""
    return f"Known keys{f' of {place}' if place else ''}: {', '.join(known[:SHOWN])}{more}."
