"""Shards in a folder, or in a cache that is filled from an address as they are needed."""

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

from product_cls.core.errors import UserError, reason

SCHEMES = ("http", "https", "s3", "gs", "hf", "file")
FETCHERS = 2  # shards fetched at once, ahead of their use
COPIED = 2**20  # bytes at a time


class ShardError(UserError):
    """Shards that cannot be read in the middle of a run.

    From a loader's worker it arrives as text that ends, after that worker's traceback, with the
    sentence; only the sentence is kept.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.rstrip().rpartition("ShardError: ")[2])


def webdataset(purpose: str) -> ModuleType:
    """The package, imported.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise UserError(
            f"{purpose} needs WebDataset, pip install -e '.[streaming]' (make setup has it)."
        ) from None
    return webdataset


def is_address(root: str) -> bool:
    """Whether ``root`` is an address, not a folder."""
    return "://" in root


def check_address(root: str) -> None:
    """Raises:
    UserError: an address of a kind that nothing here can fetch from, or no WebDataset.
    """
    scheme = root.partition("://")[0]
    if scheme not in SCHEMES:
        raise UserError(
            f"data.root={root}: unknown kind of address; allowed: a folder, or "
            f"{', '.join(f'{name}://' for name in SCHEMES)}."
        )
    webdataset(f"data.root={root}")


def download(address: str, target: Path, size: int | None = None) -> None:
    """Fetch a file; ``target`` is there only once it is whole.

    Args:
        address: of the file. ``s3://`` goes through the command aws, others as in WebDataset
            (http: curl, gs: gsutil).
        target: in an existing folder.
        size: in bytes, where known.

    Raises:
        ShardError: it cannot be fetched, or is of another size.
    """
    from webdataset.gopen import gopen

    source = address
    if address.startswith("s3://"):
        source = f"pipe:aws s3 cp {shlex.quote(address)} -"
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with gopen(source) as stream, partial.open("wb") as file:
            shutil.copyfileobj(stream, file, COPIED)
        got = partial.stat().st_size
        if size not in (None, got):
            raise ShardError(f"{address} has {got} bytes, its index says {size}.")
        partial.replace(target)
    except OSError as error:
        # What WebDataset says of a command holds all its words, and so the passwords among them.
        why = "curl, gsutil or aws failed" if error.errno is None else reason(error)
        raise ShardError(f"{address} cannot be fetched: {why}.") from None
    finally:
        partial.unlink(missing_ok=True)


def deleting(folder: Path) -> FileLock:
    """Held by whoever deletes shards from a cache, one process at a time."""
    return FileLock(folder / ".room.lock")


@cache
def _wanted() -> "SimpleQueue[tuple[ShardFiles, int]]":
    """Shards that threads of this process fetch; no run waits for them at its end."""
    queue: SimpleQueue[tuple[ShardFiles, int]] = SimpleQueue()

    def fetch() -> None:
        while True:
            files, shard = queue.get()
            with suppress(Exception):  # it is tried again, and said, when a picture is read
                files.fetch(shard)

    for _ in range(FETCHERS):
        Thread(target=fetch, daemon=True).start()
    return queue


@dataclass(frozen=True)
class ShardFiles:
    """Where a set's shards are read, and where those come from that are not there.

    Attributes:
        root: the set: a folder or an address.
        folder: where shards are read: the root, or the cache of an address, which all processes of
            this machine share.
        names: of the shards.
        sizes: theirs, in bytes.
        limit: bytes of shards that the cache holds; those asked for longest ago make way.
    """

    root: str
    folder: Path
    names: list[str]
    sizes: list[int]
    limit: int

    @property
    def remote(self) -> bool:
        return is_address(self.root)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Some bytes of a shard, which is fetched first where it must.

        Raises:
            ShardError: it cannot be read or fetched, or is shorter than that.
        """
        file = self.folder / self.names[shard]
        while True:
            try:
                # Opened for each picture: a shard that made way would keep its room while open.
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
        """Bring a shard into the cache unless it is there; of several processes one does.

        Raises:
            ShardError: it cannot be fetched.
        """
        name, target = self.names[shard], self.folder / self.names[shard]
        with FileLock(self.folder / f".{name}.lock"):
            if not target.exists():
                for partial in self.folder.glob(f".{name}.*.tmp"):  # of a process that was killed
                    partial.unlink(missing_ok=True)
                self._make_room(self.sizes[shard])
                download(f"{self.root}/{name}", target, self.sizes[shard])

    def fetch_soon(self, shard: int) -> None:
        """The same beside what goes on; a shard that is there becomes the last to make way."""
        if not self.remote:
            return
        try:
            os.utime(self.folder / self.names[shard])
        except FileNotFoundError:
            _wanted().put((self, shard))

    def _make_room(self, size: int) -> None:
        with deleting(self.folder):
            held = {}
            for file in self.folder.glob("*.tar"):
                with suppress(FileNotFoundError):  # someone empties the cache
                    stat = file.stat()
                    held[file] = (stat.st_mtime_ns, stat.st_size)
            coming = 0
            for partial in self.folder.glob(".*.tar.*.tmp"):
                with suppress(FileNotFoundError):
                    coming += partial.stat().st_size
            left = sum(bytes_ for _, bytes_ in held.values()) + coming + size - self.limit
            for file in sorted(held, key=held.__getitem__):
                if left <= 0:
                    return
                file.unlink(missing_ok=True)
                left -= held[file][1]
