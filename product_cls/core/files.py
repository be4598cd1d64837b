"""Atomic file writes, and digests of plain data."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from product_cls.core.errors import UserError


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) atomically: readers see the old text or the new, never a part.

    Args:
        path: the file; missing folders are created.
        text: its new content.
    """
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: see ``write_text_whole``."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file atomically: yields a path to write to, which is renamed after the block.

    If the block fails, ``path`` is unchanged and nothing is left beside it; a killed process leaves
    at most the partial file, ``.NAME.PID.tmp``.

    Args:
        path: the file; missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_there(path: Path, what: str = "folder or file") -> None:
    """Check that a folder or file that a user named is there.

    Args:
        what: what it should be, for the message.

    Raises:
        UserError: it is not, or nobody can know, because a folder may not be entered or its name is
            too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"There is no {what} {path}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}.") from None


def check_place(folder: Path) -> None:
    """Check that a folder can be created and written to, before work starts on its content.

    Args:
        folder: need not exist.

    Raises:
        UserError: it cannot; the message names the nearest existing parent and the reason.
    """
    existing = Path(os.path.abspath(folder))
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        # Permissions are not enough: root has all of them, and /proc still takes no files.
        with TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({existing}: {error.strerror}); choose another folder."
        ) from None


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON.

    Args:
        value: plain containers that JSON can hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now() -> str:
    """The current time in UTC as ISO 8601, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
