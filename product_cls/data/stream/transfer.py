"""Downloads from an address, by the tool of its kind, bounded in time and size."""

import hashlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from product_cls.core.errors import UserError, reason
from product_cls.core.files import whole_file

SCHEMES = ("http", "https", "s3", "gs", "hf", "file")
BLOCK = 2**20  # bytes copied at a time
PATIENCE = 30.0  # seconds; in each such period at least SLOWEST bytes a second must arrive
SLOWEST = 1000


class ShardError(UserError):
    """A shard cannot be read in the middle of a run.

    PyTorch re-raises a worker's exception with the worker's traceback before the message; only the
    original sentence is kept.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rstrip().rpartition("ShardError: ")[2])


def download(
    address: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    limit: int = 2**50,
) -> None:
    """Download a file; ``target`` exists only once it is complete.

    Args:
        address: address of the file, of one of ``SCHEMES``.
        target: a path in an existing folder.
        size: expected size in bytes, if known.
        checksum: expected SHA-256 in hexadecimal digits, if known.
        limit: bytes; larger files are refused.

    Raises:
        ShardError: the file cannot be fetched, or is not the expected one.
        OSError: ``target`` cannot be written.
    """
    hashed = hashlib.sha256()
    with whole_file(target) as partial:
        with partial.open("wb") as file:

            def write(data: bytes) -> None:
                file.write(data)
                if checksum is not None:
                    hashed.update(data)

            received = _transfer(address, write, limit if size is None else size)
        if size not in (None, received):
            raise ShardError(f"{address} has {received} bytes, its index says {size}.")
        if checksum not in (None, hashed.hexdigest()):
            raise ShardError(f"{address} is not what its index describes: its checksum differs.")


def fetch_bytes(address: str, *, limit: int) -> bytes:
    """Download a small file into memory.

    Args:
        address, limit: as for ``download``.

    Raises:
        ShardError: the file cannot be fetched, or is larger than ``limit``.
    """
    buffer = BytesIO()
    _transfer(address, buffer.write, limit)
    return buffer.getvalue()


def _transfer(address: str, write: Callable[[bytes], Any], limit: int) -> int:
    """Pass a file's bytes to ``write``; returns their number."""
    if address.startswith("file://"):
        with ExitStack() as stack:
            try:
                file = stack.enter_context(Path(unquote(address[len("file://") :])).open("rb"))
            except OSError as error:
                raise ShardError(f"{address} cannot be fetched: {reason(error)}.") from None
            return _copy(address, file, write, limit)
    command = _command(address)
    with tempfile.TemporaryFile() as messages:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
            )
        except OSError as error:
            raise ShardError(
                f"{address} cannot be fetched: {command[0]}: {error.strerror or error}."
            ) from None
        assert process.stdout is not None
        try:
            with process.stdout as stream:
                received = _copy(address, stream, write, limit)
            status = process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise ShardError(f"{address} cannot be fetched: {command[0]} does not end.") from None
        finally:
            with suppress(OSError):
                process.kill()
            process.wait()
        if status != 0:
            messages.seek(0)
            said = messages.read(4096).decode(errors="replace").strip().splitlines()
            why = f": {said[-1]}" if said else ""
            raise ShardError(
                f"{address} cannot be fetched: {command[0]} failed with status {status}{why}."
            )
    return received


def _copy(address: str, stream: IO[bytes], write: Callable[[bytes], Any], limit: int) -> int:
    """Copy a stream, and stop one that is too long or too slow."""
    total = in_period = 0
    end = time.monotonic() + PATIENCE
    while True:
        left = end - time.monotonic()
        if left <= 0:
            if in_period < SLOWEST * PATIENCE:
                raise ShardError(
                    f"{address} cannot be fetched: only {in_period} bytes came in {PATIENCE:g} "
                    f"seconds."
                )
            in_period, end, left = 0, time.monotonic() + PATIENCE, PATIENCE
        if not select.select([stream], [], [], left)[0]:
            continue
        data = os.read(stream.fileno(), BLOCK)
        if not data:
            return total
        total += len(data)
        in_period += len(data)
        if total > limit:
            raise ShardError(f"{address} is larger than the {limit} bytes that it may have.")
        write(data)


def _command(address: str) -> list[str]:
    """The command that writes a file's bytes to its standard output."""
    # -g: brackets in an address are part of it, not a pattern of addresses.
    curl = ["curl", "-g", "--connect-timeout", "20", "--retry", "3", "--retry-delay", "2"]
    curl += ["-f", "-s", "-S", "-L"]
    match address.partition("://")[0]:
        case "s3":
            return ["aws", "s3", "cp", address, "-"]
        case "gs":
            return ["gsutil", "cat", address]
        case "hf":
            from huggingface_hub import HfFileSystem, get_token

            try:
                source = HfFileSystem().url(address)
            except Exception as error:  # of the hub, of its HTTP library, or of this machine
                raise ShardError(f"{address} cannot be fetched: {reason(error)}.") from None
            token = get_token()
            return [*curl, *(["-H", f"Authorization: Bearer {token}"] if token else []), source]
    return [*curl, "--", address]
