"""Hydra's and OmegaConf's errors about a command line, as sentences that say what to type."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from product_cls.config.hints import key_hint, option_hint
from product_cls.core.errors import UserError, reason
from product_cls.core.names import shown

OVERRIDE = re.compile(r"Could not override '(.*?)'")
MERGING = re.compile(r"Error merging override (.*)\.")
AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.*?)'\n", re.DOTALL)
SWEEPING = re.compile(r"Sweep parameters '(.*?)' requires --multirun", re.DOTALL)
SHARED = "base"  # files of settings that a group's other files share; no option by themselves


def sentence(error: BaseException) -> str:
    """What was wrong in the words of a command, where, and what to type instead.

    Args:
        error: that Hydra or OmegaConf raised while they composed the config.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = ", ".join(name for name in error.options if name != SHARED)
        hint = option_hint(error)
        return f"{group}={option}; allowed: {options}.{f' {hint}' if hint else ''}"
    if match := AMBIGUOUS.match(text):
        key, _, value = match[1].partition("=")
        return (
            f"{match[1]} are several values, a sweep, which needs -m (--multirun); a list is typed "
            f"{key}=[{value}], and one text \"{key}='{value}'\"."
        )
    if match := SWEEPING.match(text):
        return f"{match[1]} are several values, a sweep, which needs -m (--multirun)."
    if match := MERGING.match(text):
        return f"{match[1]}: {_reason(error.__cause__ or error)}."
    hint = key_hint(error.__cause__)
    if hint and (match := OVERRIDE.match(text)):
        key = getattr(error.__cause__, "full_key", None) or match[1]
        return f"There is no key {key}; a new key begins with +. {hint}"
    return f"{_reason(error)}.{f' {hint}' if hint else ''}"


@contextmanager
def said_plainly(key: str = "") -> Iterator[None]:
    """Turn OmegaConf's errors about values, such as an interpolation, into sentences.

    Args:
        key: that is read inside the block; "" if the error names it.

    Raises:
        UserError: in place of such an error.
    """
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{f'{key}: ' if key else ''}{_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """The first line of an error, with the key that OmegaConf names in a later one."""
    first = str(error).strip().partition("\n")[0].rstrip(".: ")
    key = getattr(error, "full_key", None)
    known = isinstance(error, OmegaConfBaseException) and not first.startswith(str(key))
    named = f"{key}: " if key and known else ""
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return f"{first or 'the config cannot be composed'} ({_reason(error.__cause__)})"
    return named + shown(first or reason(error))


def _unreadable(error: OverrideParseException) -> str:
    """About a word that Hydra's grammar does not know."""
    word = error.override
    key, equals, value = word.partition("=")
    name = key.lstrip("+~")
    if not equals and not key.startswith("~"):
        return (
            f"'{shown(word)}' is not of the form key=value; `product-cls train --help` lists the "
            f"groups, and conf/config.yaml the keys."
        )
    if not re.fullmatch(r"[A-Za-z_$][\w$/.@:-]*", name, re.ASCII):
        return (
            f"'{shown(word)}': '{shown(name)}' is no key; keys have letters of ASCII, digits, _ "
            f"and dots."
        )
    if value.startswith("{") and not value.isascii():
        return (
            f"{shown(word)}: names in braces have letters of ASCII only; others work in a list, "
            f"{key}=[가,나], or in a file of your own config group."
        )
    typed = value.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"{shown(word)} cannot be read: its brackets or quotes do not match, or it holds a "
        f"character of Hydra's grammar; if it is text, quote it twice: "
        f"\"{shown(key)}='{shown(typed)}'\"."
    )
