"""Checkpoint files: written whole, and read only if each byte is as it was written."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from product_cls.core.errors import reason
from product_cls.core.files import whole_file


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside ``path`` and read it back before it takes the place of ``path``.

    Nothing is written elsewhere: a temporary folder may be on another file system, where a rename
    would become a copy over the old file, or may be too small.

    Args:
        content: plain containers and tensors.
        path: the file; missing folders are created.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
        ValueError: the disk gives other bytes back; ``path`` is unchanged.
    """
    with whole_file(path, durable=True) as partial:
        _save(content, partial, path)
        check_archive(partial)


def _save(content: dict[str, Any], partial: Path, path: Path) -> None:
    """``torch.save`` to ``partial``, with errors of the disk that name ``path``."""
    stream = None
    try:
        with partial.open("wb") as file:
            stream = _Stream(file)
            torch.save(content, cast(BinaryIO, stream))
    except (OSError, RuntimeError) as error:
        cause = stream.error if stream is not None and stream.error is not None else error
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from None
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint, on the CPU.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, or no checkpoint.
    """
    check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load raises no common type; its advice is not for users
        raise ValueError(f"torch cannot load it ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a checkpoint")
    return content


def check_archive(path: Path) -> None:
    """Compare the content of a checkpoint with its checksums, which ``torch.load`` does not read.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, or no checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # a damaged directory of the archive raises many types
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise ValueError("it is empty, overwritten or no checkpoint at all") from None
        raise ValueError(f"it is damaged ({reason(error)})") from None
    if damaged is not None:
        raise ValueError(f"it is damaged (checksum of {damaged})")


def first_not_finite(content: dict[str, Any]) -> str | None:
    """Name of the first weight of a checkpoint that holds an infinity or NaN; None if all are
    finite."""
    for name, value in content["state_dict"].items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return str(name)
    return None


class _Stream:
    """A file for ``torch.save``, which hides why a write failed: ``error`` is the reason."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()
