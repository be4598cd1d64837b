"""Files written whole or not at all, and digests of plain data."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from product_cls.core.errors import UserError


def write_text_whole(path: Path, text: str) -> None:
    """Write beside and rename, so that a reader sees the old text or the new, never a part."""
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """The same for what is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, path)


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before work is put into what goes there.

    Raises:
        UserError: naming the nearest folder above it that exists, and what speaks against it.
    """
    place = Path(os.path.abspath(folder))
    while not os.path.lexists(place):
        place = place.parent
    try:
        # Tried, for permissions do not tell: root has all of them, and /proc takes no files.
        with TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({place}: {error.strerror}); choose another place "
            "(out=FOLDER)."
        ) from None


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain containers, as 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
