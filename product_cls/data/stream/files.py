"""Shards in a folder, or in a cache that is filled on demand from an address."""

import os
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import ModuleType

from filelock import FileLock

from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.extras import missing_extra
from product_cls.core.files import whole_file

SCHEMES = ("http", "https", "s3", "gs", "hf", "file")
FETCHERS = 2  # shards prefetched at once
BLOCK = 2**20  # bytes copied at a time


class ShardError(UserError):
    """A shard cannot be read in the middle of a run.

    PyTorch re-raises a worker's exception with the worker's traceback before the message; only the
    original sentence is kept.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rstrip().rpartition("ShardError: ")[2])


def webdataset(purpose: str) -> ModuleType:
    """Import WebDataset.

    Args:
        purpose: what needs WebDataset, the subject of the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise missing_extra(f"{purpose} needs WebDataset", "streaming") from None
    return webdataset


def is_address(root: str) -> bool:
    """Whether ``root`` is an address such as ``https://...`` rather than a folder."""
    return "://" in root


def check_address(root: str) -> None:
    """Check that shards can be fetched from an address.

    Raises:
        ValueError: an unsupported scheme.
        UserError: WebDataset is not installed.
    """
    scheme = root.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"root={without_login(root)}: unknown kind of address; allowed: a folder, or "
            f"{', '.join(f'{name}://' for name in SCHEMES)}."
        )
    webdataset(f"Reading shards from {root}")


def download(address: str, target: Path, size: int | None = None) -> None:
    """Download a file; ``target`` exists only once it is complete.

    Args:
        address: address of the file. ``s3://`` goes through the ``aws`` command, other schemes
            through WebDataset (http: curl, gs: gsutil).
        target: a path in an existing folder.
        size: expected size in bytes, if known.

    Raises:
        ShardError: the file cannot be fetched or has another size.
    """
    from webdataset.gopen import gopen

    source = address
    if address.startswith("s3://"):
        source = f"pipe:aws s3 cp {shlex.quote(address)} -"
    try:
        with whole_file(target) as partial:
            with gopen(source) as stream, partial.open("wb") as file:
                shutil.copyfileobj(stream, file, BLOCK)
            received = partial.stat().st_size
            if size not in (None, received):
                raise ShardError(f"{address} has {received} bytes, its index says {size}.")
    except OSError as error:
        # WebDataset's message quotes the whole command, including any password in it.
        why = "curl, gsutil or aws failed" if error.errno is None else reason(error)
        raise ShardError(f"{address} cannot be fetched: {why}.") from None


def deletion_lock(folder: Path) -> FileLock:
    """The lock to hold while deleting shards from a cache."""
    return FileLock(folder / ".room.lock")


@cache
def _prefetch_queue() -> "SimpleQueue[tuple[ShardFiles, int]]":
    """Queue of shards for this process's prefetching threads, which are daemons: no run waits
    for them at its end."""
    queue: SimpleQueue[tuple[ShardFiles, int]] = SimpleQueue()

    def fetch() -> None:
        while True:
            files, shard = queue.get()
            with suppress(Exception):  # reading a picture tries again and reports the error
                files.fetch(shard)

    for _ in range(FETCHERS):
        Thread(target=fetch, daemon=True).start()
    return queue


@dataclass(frozen=True)
class ShardFiles:
    """The shard files of a set, fetched from its address where they are missing.

    Attributes:
        root: the set: a folder or an address.
        folder: where shards are read: the root itself, or the cache of an address, which all
            processes of this machine share.
        names: file names of the shards.
        sizes: sizes of the shards in bytes.
        limit: bytes of shards that the cache may hold; the least recently requested go first.
    """

    root: str
    folder: Path
    names: list[str]
    sizes: list[int]
    limit: int

    @property
    def remote(self) -> bool:
        """Whether the set is behind an address."""
        return is_address(self.root)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes of a shard from ``offset``; fetch the shard first if necessary.

        Raises:
            ShardError: the shard cannot be read or fetched, or is too short.
        """
        file = self.folder / self.names[shard]
        while True:
            try:
                # Opened for each picture: an open file would keep the space of a deleted shard.
                with file.open("rb", buffering=0) as opened:
                    data = os.pread(opened.fileno(), size, offset)
            except OSError as error:
                if not (self.remote and isinstance(error, FileNotFoundError)):
                    raise ShardError(f"{file} cannot be read: {reason(error)}.") from None
                self.fetch(shard)
                continue
            if len(data) < size:
                raise ShardError(f"{file} ends before byte {offset + size}; it is damaged.")
            return data

    def fetch(self, shard: int) -> None:
        """Download a shard into the cache unless it is there; one process at a time.

        Raises:
            ShardError: it cannot be fetched.
        """
        name, target = self.names[shard], self.folder / self.names[shard]
        with FileLock(self.folder / f".{name}.lock"):
            if not target.exists():
                for partial in self.folder.glob(f".{name}.*.tmp"):  # from a killed process
                    partial.unlink(missing_ok=True)
                self._make_room(self.sizes[shard])
                download(f"{self.root}/{name}", target, self.sizes[shard])

    def fetch_soon(self, shard: int) -> None:
        """Fetch a shard in the background; a cached shard becomes the last to be deleted."""
        if not self.remote:
            return
        try:
            os.utime(self.folder / self.names[shard])
        except FileNotFoundError:
            _prefetch_queue().put((self, shard))

    def _make_room(self, size: int) -> None:
        """Delete the oldest cached shards until ``size`` more bytes fit."""
        with deletion_lock(self.folder):
            cached = {}
            for file in self.folder.glob("*.tar"):
                with suppress(FileNotFoundError):  # the user may be emptying the cache
                    stat = file.stat()
                    cached[file] = (stat.st_mtime_ns, stat.st_size)
            arriving = 0
            for partial in self.folder.glob(".*.tar.*.tmp"):
                with suppress(FileNotFoundError):
                    arriving += partial.stat().st_size
            excess = sum(bytes_ for _, bytes_ in cached.values()) + arriving + size - self.limit
            for file in sorted(cached, key=cached.__getitem__):
                if excess <= 0:
                    return
                file.unlink(missing_ok=True)
                excess -= cached[file][1]
