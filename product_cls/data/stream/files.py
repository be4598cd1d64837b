"""Shards in a folder, or in a cache that is filled on demand from an address."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from filelock import FileLock

from product_cls.core.errors import reason, without_login
from product_cls.data.stream.transfer import SCHEMES, ShardError, download

FETCHERS = 2  # shards prefetched at once


def is_address(root: str) -> bool:
    """Whether ``root`` is an address such as ``https://...`` rather than a folder."""
    return "://" in root


def check_address(root: str) -> None:
    """Check that shards can be fetched from an address.

    Raises:
        ValueError: an unsupported scheme.
    """
    scheme = root.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(
            f"root={without_login(root)}: unknown kind of address; allowed: a folder, or "
            f"{', '.join(f'{name}://' for name in SCHEMES)}."
        )


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
        checksums: SHA-256 of each shard; None in sets that were written without.
        limit: bytes of shards that the cache may hold; the least recently requested go first.
    """

    root: str
    folder: Path
    names: list[str]
    sizes: list[int]
    checksums: list[str | None]
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
                if self.remote and not self._is_whole(shard):
                    self.fetch(shard)
                    continue
                raise ShardError(f"{file} ends before byte {offset + size}; it is damaged.")
            return data

    def fetch(self, shard: int) -> None:
        """Download a shard into the cache unless it is there; one process at a time.

        Raises:
            ShardError: it cannot be fetched.
        """
        name, target = self.names[shard], self.folder / self.names[shard]
        try:
            with FileLock(self.folder / f".{name}.lock"):
                if self._is_whole(shard):
                    return
                target.unlink(missing_ok=True)
                for partial in self.folder.glob(f".{name}.*.tmp"):  # from a killed process
                    partial.unlink(missing_ok=True)
                self._make_room(self.sizes[shard])
                download(
                    f"{self.root}/{name}",
                    target,
                    size=self.sizes[shard],
                    checksum=self.checksums[shard],
                )
        except OSError as error:
            raise ShardError(
                f"{target} cannot be written: {error.strerror or error}; free some space or set "
                f"another paths.cache."
            ) from None

    def _is_whole(self, shard: int) -> bool:
        try:
            return (self.folder / self.names[shard]).stat().st_size == self.sizes[shard]
        except OSError:
            return False

    def fetch_soon(self, shard: int) -> None:
        """Fetch a shard in the background; a cached shard becomes the last to be deleted."""
        if not self.remote:
            return
        if not self._is_whole(shard):
            _prefetch_queue().put((self, shard))
            return
        with suppress(OSError):  # deleted meanwhile, or a read-only cache
            os.utime(self.folder / self.names[shard])

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
