"""Atomic file writes, sentences about disks that refuse them, and digests of plain data."""

import errno
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from product_cls.core.errors import UserError

HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
# A partial file of `whole_file`: host and PID.
LEFTOVER = re.compile(r"\..+\.(?:([0-9a-f]{6})-)?(\d+)\.tmp")
FOREIGN_AGE = 24 * 3600.0  # seconds after which a partial file of another machine is a leftover
_swept: set[Path] = set()  # folders whose leftovers this process has removed

# What a disk, and not a mistake in this program, refuses; as the end of a sentence about a file.
STORAGE_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space and type the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and type the same command again",
    errno.EFBIG: "the file system takes no file of this size",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk fails (input/output error)",
    errno.ESTALE: "the network file system has lost it (stale file handle)",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "something of this name is in the way",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
}


def storage_sentence(error: OSError) -> str | None:
    """One sentence about a file that the disk refuses to read or write.

    Returns:
        The sentence; None for an error that says nothing about a disk, such as one of the network.
    """
    why = STORAGE_ERRORS.get(error.errno or 0)
    if why is None:
        return None
    files = [str(file) for file in (error.filename, error.filename2) if file is not None]
    return f"{' or '.join(files) or 'A file'} cannot be read or written: {why}."


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
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Write a file atomically: yields a path to write to, which is renamed after the block.

    If the block fails, ``path`` is unchanged and nothing is left beside it; a killed process leaves
    at most the partial file, ``.NAME.HOST-PID.tmp``, which the next process that writes to the
    folder removes.

    Args:
        path: the file; missing folders are created.
        durable: whether the content is on the disk before ``path`` changes, so that a power cut
            leaves the old file or the new one; takes milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    partial = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp")
    try:
        yield partial
        if durable:
            _sync(partial)
        os.replace(partial, path)
        if durable:
            _sync(path.parent)
    finally:
        with suppress(OSError):  # the error of the block tells more
            partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # network file systems that cannot sync folders
            raise
    finally:
        os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Remove the partial files of processes that were killed; once a process and folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = LEFTOVER.fullmatch(entry.name)
            if match and _is_abandoned(entry, match[1], int(match[2])):
                with suppress(OSError):
                    Path(entry.path).unlink()


def _is_abandoned(entry: "os.DirEntry[str]", host: str | None, pid: int) -> bool:
    if host != HOST:  # whether its process lives cannot be seen from here
        return time.time() - entry.stat().st_mtime > FOREIGN_AGE
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it belongs to another user
        return False
    return False


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


def file_checksum(file: Path) -> str:
    """SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def now() -> str:
    """The current time in UTC as ISO 8601, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
