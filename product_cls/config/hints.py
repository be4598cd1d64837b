"""Suggests the nearest known key or option for a misspelt one. Imports nothing heavy."""

from difflib import get_close_matches

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

SHOWN = 20  # keys listed if no key is similar


def key_hint(error: BaseException | None) -> str | None:
    """A suggestion if ``error`` is about an unknown key; None for other errors."""
    if not isinstance(error, ConfigAttributeError | ConfigKeyError):
        return None
    if not isinstance(error.parent_node, DictConfig):
        return None
    key, parent = str(error.key), str(error.full_key).rpartition(".")[0]
    keys = [str(name) for name in error.parent_node if not str(name).startswith("_")]
    if not keys:
        return f"{parent} is a single value."
    if close := get_close_matches(key, keys, n=1):
        return f"Did you mean '{parent + '.' if parent else ''}{close[0]}'?"
    more = ", ..." if len(keys) > SHOWN else ""
    return f"Known keys{f' of {parent}' if parent else ''}: {', '.join(keys[:SHOWN])}{more}."


def option_hint(error: BaseException) -> str | None:
    """A suggestion if ``error`` is about an unknown option of a group and one is similar."""
    if not isinstance(error, MissingConfigException) or not error.options:
        return None
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    close = get_close_matches(option, error.options, n=1)
    return f"Did you mean '{group}={close[0]}'?" if close else None
