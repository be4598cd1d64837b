"""Names that become folders below ``multirun``."""

from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig

from product_cls.config.sentences import said_plainly
from product_cls.core.errors import UserError
from product_cls.core.names import shown

LONGEST = 255  # bytes of a folder's name, on most file systems
LONGEST_PATH = 1000  # bytes; a run's files have longer paths, and systems allow 4096 or less


def check_name(config: DictConfig) -> None:
    """Check that ``name`` is a folder below ``multirun``.

    Raises:
        UserError: it is empty, no text, leads elsewhere, or no file system has such a name.
    """
    with said_plainly("name"):
        name = config.get("name")
    if type(name) in (int, float):  # from a file of settings
        name = str(name)
    check_place_below("name", name)


def check_place_below(key: str, name: Any) -> None:
    """Check a name of a folder, or several joined by ``/``.

    Args:
        key: the key that sets the name, for the message.
        name: its value.

    Raises:
        UserError: see ``check_name``.
    """
    problem = _problem(name)
    if problem:
        value = "null" if name is None else shown(name, 60)
        raise UserError(f"{key}={value} {problem}; allowed: the name of a folder in multirun/.")


def _problem(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        return "names no folder"
    if shown(name) != name:
        return "holds characters that no name should have"
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts or not PurePath(name).parts:
        return "leads out of multirun/"
    if any(len(part.encode()) > LONGEST for part in PurePath(name).parts):
        return f"is longer than {LONGEST} bytes"
    return f"is longer than {LONGEST_PATH} bytes" if len(name.encode()) > LONGEST_PATH else ""
