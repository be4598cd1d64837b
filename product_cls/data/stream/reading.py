"""A set of shards as a data source: its sample table, and its pictures without an image store."""

import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.files import digest
from product_cls.data.pictures import Fit, load_picture, place_in_shard, resize
from product_cls.data.samplers import shards_in_use
from product_cls.data.samples import check_samples
from product_cls.data.store import check_shape, rows_of
from product_cls.data.stream.files import (
    ShardError,
    ShardFiles,
    check_address,
    deleting,
    download,
    is_address,
)

DONE, UNFINISHED = "stream.json", "stream-unfinished.json"
INDEX, SAMPLES = "index.json", "samples.csv"
GIGABYTE = 10**9


def read_stream(root: str, *, cache: str | Path) -> pd.DataFrame:
    """The sample table of a set of shards; ``path`` is ``ROOT/SHARD.tar/OFFSET+SIZE``,
    without the login that an address may hold.

    Args:
        root: the set: a folder or an address.
        cache: folder in which sets behind addresses have one each.

    Raises:
        UserError: no set of shards, one that is unfinished, damaged or cannot be fetched, or what
            ``check_samples`` refuses.
    """
    root = _plain(root)
    folder, index = open_set(root, cache)
    file = folder / SAMPLES
    try:
        content = file.read_bytes()
        if digest(content.decode()) != index["samples"]:
            raise ValueError("it is not the table that index.json was written with")
        table = pd.read_csv(
            BytesIO(content),
            dtype=index["columns"],
            keep_default_na=False,
            na_values=[""],
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{root}/{SAMPLES} cannot be read: {reason(error)}.") from None
    # Paths find their way into predictions and trackers; what fetches has the address itself.
    shown = without_login(root)
    table["path"] = [f"{shown}/{place}" for place in table["path"]]
    # Labels were checked when the set was written, by the rules of the layout that it was.
    return check_samples(table, root, label=None)


def _plain(root: str) -> str:
    root = str(root).rstrip("/")
    return root if is_address(root) else str(Path(root).expanduser())


def set_folder(root: str, cache: str | Path) -> Path:
    """Where a set's files are read: the set itself, or the cache of an address."""
    return Path(cache) / f"stream-{digest(root)[:8]}" if is_address(root) else Path(root)


def open_set(root: str, cache: str | Path) -> tuple[Path, dict[str, Any]]:
    """Where a set's files are read, and its index; of an address, fetched first.

    Raises:
        UserError: no set of shards, one that is unfinished or damaged, or that cannot be fetched.
    """
    folder = set_folder(root, cache)
    if is_address(root):
        check_address(root)
        _fetch_index(root, folder)
        return folder, _read_index(folder)
    if not (folder / DONE).is_file():
        if (folder / UNFINISHED).is_file():
            raise UserError(
                f"The shards in {folder} are unfinished; the same call of python -m "
                f"product_cls.stream goes on with them."
            )
        raise UserError(
            f"{folder} is no folder of shards (it has no {DONE}); python -m product_cls.stream "
            f"makes one, and data.root names it."
        )
    index = _read_index(folder)
    for name, size, _ in index["shards"]:
        shard = folder / name
        found = shard.stat().st_size if shard.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            raise UserError(f"{shard} {state}, {INDEX} says {size} bytes; copy it again.")
    return folder, index


def _fetch_index(root: str, folder: Path) -> None:
    """Bring the cache up to date with the set behind an address."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".index.lock"):
            new = folder / f"new-{INDEX}"
            download(f"{root}/{DONE}", folder / DONE)  # a set without it is not whole
            download(f"{root}/{INDEX}", new)
            held = folder / INDEX
            if held.is_file() and held.read_bytes() == new.read_bytes():
                return
            held.unlink(missing_ok=True)
            with deleting(folder):
                for shard in folder.glob("*.tar"):  # of the set that was at this address before
                    shard.unlink(missing_ok=True)
            download(f"{root}/{SAMPLES}", folder / SAMPLES)
            new.replace(held)
    except OSError as error:
        raise UserError(
            f"The cache {folder} cannot be written: {error.strerror or error}; choose another "
            f"place with paths.cache."
        ) from None


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text())
        assert isinstance(index, dict) and index["columns"] and index["shards"]
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(f"{folder / INDEX} is damaged: {reason(error)}.") from None
    return index


class StreamStore:
    """Pictures read from shards and decoded each time: what an ``ImageStore`` is, without a store.

    Args:
        samples: of ``read_stream``, which has found the set whole, or a part of it.
        root, cache: as for ``read_stream``.
        size: height and width in pixels.
        fit: see ``pictures.resize``.
        window: pictures that training is shuffled among, see ``ShardSampler``.
        cache_gb: gigabytes that the cache of an address may hold.

    Attributes:
        ids: of the pictures, in the order of ``samples``.
        shards, offsets, sizes: int64 ``[N]``, where they lie.

    Raises:
        UserError: a damaged index, or whatever ``check_shape`` refuses.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        root: str,
        size: tuple[int, int],
        *,
        fit: Fit,
        window: int,
        cache_gb: float,
        cache: str | Path,
    ) -> None:
        check_shape(size, fit)
        root = _plain(root)
        folder = set_folder(root, cache)
        names, bytes_, _ = zip(*_read_index(folder)["shards"], strict=True)
        limit = int(cache_gb * GIGABYTE)
        self.files = ShardFiles(root, folder, list(names), list(bytes_), limit)
        self.size, self.fit, self.window = size, fit, window
        self.ids = samples["id"].tolist()
        number = {name: k for k, name in enumerate(names)}
        places = [place_in_shard(path) for path in samples["path"]]
        rows = [(number[Path(p[0]).name], p[1], p[2]) for p in places if p is not None]
        self.shards, self.offsets, self.sizes = np.array(rows, np.int64).reshape(-1, 3).T

    def rows(self, ids: list[str]) -> np.ndarray:
        """Rows for ``ids``, int64 ``[len(ids)]``; a KeyError for an id that is not there."""
        return rows_of(ids, self.ids)

    def picture(self, row: int) -> np.ndarray:
        """One picture, uint8 ``[H, W, 3]``, to be changed at will.

        Raises:
            ShardError: its shard cannot be read or fetched, or holds no picture there.
        """
        shard, offset = int(self.shards[row]), int(self.offsets[row])
        data = self.files.read(shard, offset, int(self.sizes[row]))
        try:
            # A copy, because a picture that has the right size already is Pillow's, read-only.
            return np.array(resize(load_picture(BytesIO(data)), self.size, self.fit))
        except (OSError, cv2.error) as error:
            why = reason(error).partition(" <_io.")[0]  # Pillow names its file, which is none
            raise ShardError(
                f"{self.files.names[shard]} of {self.files.root} holds no picture at byte "
                f"{offset}: {why}; copy or make it again."
            ) from None

    def check_room(self, rows: np.ndarray) -> None:
        """Refuse a cache that would fetch shards again and again while training.

        Args:
            rows: of the pictures to learn from.

        Raises:
            UserError: the cache of an address holds fewer shards than are in use at a time.
        """
        count = shards_in_use(self.shards[rows], self.window)
        needed = sum(sorted(self.files.sizes)[-count:])
        if self.files.remote and self.files.limit < needed:
            enough = math.ceil(needed / GIGABYTE * 1000) / 1000
            raise UserError(
                f"data.stream.cache_gb={self.files.limit / GIGABYTE:g} holds fewer than the "
                f"{count} shards that data.stream.window={self.window} pictures come from; "
                f"allowed: {enough:g} or more, or a smaller window."
            )
