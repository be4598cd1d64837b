"""Reads a set of shards: its sample table, and its pictures without an image store."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.documents import read_json
from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.files import digest
from product_cls.data.picture_store import rows_of
from product_cls.data.pictures import Fit, check_shape, load_picture, place_in_shard, resize
from product_cls.data.samplers import ShardSampler, shards_in_use
from product_cls.data.samples import check_samples
from product_cls.data.stream.files import (
    ShardError,
    ShardFiles,
    check_address,
    deletion_lock,
    download,
    is_address,
)

DONE, UNFINISHED = "stream.json", "stream-unfinished.json"
INDEX, SAMPLES = "index.json", "samples.csv"
GIGABYTE = 10**9


def read_stream(root: str, *, cache: str | Path) -> pd.DataFrame:
    """The sample table of a set of shards.

    ``path`` is ``ROOT/SHARD.tar/OFFSET+SIZE``, without any login in the address.

    Args:
        root: the set: a folder or an address.
        cache: folder with a subfolder for each set behind an address.

    Raises:
        ValueError: ``root`` is not a set of shards, or ``cache`` cannot be written.
        UserError: the set is unfinished, damaged or cannot be fetched, or ``check_samples``
            refuses it.
    """
    root = _normalized(root)
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
    # Paths end up in predictions and trackers; fetching uses the address itself.
    public_root = without_login(root)
    table["path"] = [f"{public_root}/{place}" for place in table["path"]]
    # The writer of the set checked the labels by the rules of the source layout.
    return check_samples(table, root, label=None)


def _normalized(root: str) -> str:
    root = str(root).rstrip("/")
    return root if is_address(root) else str(Path(root).expanduser())


def set_folder(root: str, cache: str | Path) -> Path:
    """The folder in which a set's files are read: the set itself, or its cache."""
    return Path(cache) / f"stream-{digest(root)[:8]}" if is_address(root) else Path(root)


def open_set(root: str, cache: str | Path) -> tuple[Path, dict[str, Any]]:
    """The folder in which a set's files are read, and its index; fetched first from an address.

    Raises:
        ValueError: ``root`` is not a set of shards, or ``cache`` cannot be written.
        UserError: the set is unfinished, damaged or cannot be fetched.
    """
    folder = set_folder(root, cache)
    if is_address(root):
        check_address(root)
        _fetch_index(root, folder)
        return folder, _read_index(folder)
    if not (folder / DONE).is_file():
        if (folder / UNFINISHED).is_file():
            raise UserError(
                f"The shards in {folder} are unfinished; write them again with the same settings, "
                f"which completes them."
            )
        raise ValueError(
            f"root={root}: no folder of shards (it has no {DONE}); allowed: a folder that shards "
            f"were written into."
        )
    index = _read_index(folder)
    for name, size, _ in index["shards"]:
        shard = folder / name
        actual = shard.stat().st_size if shard.is_file() else None
        if actual != size:
            state = "is missing" if actual is None else f"has {actual} bytes"
            raise UserError(f"{shard} {state}, {INDEX} says {size} bytes; copy it again.")
    return folder, index


def _fetch_index(root: str, folder: Path) -> None:
    """Bring the cache up to date with the set behind an address."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".index.lock"):
            new = folder / f"new-{INDEX}"
            download(f"{root}/{DONE}", folder / DONE)  # fails for an incomplete set
            download(f"{root}/{INDEX}", new)
            current = folder / INDEX
            if current.is_file() and current.read_bytes() == new.read_bytes():
                return
            current.unlink(missing_ok=True)
            with deletion_lock(folder):
                for shard in folder.glob("*.tar"):  # from the previous set at this address
                    shard.unlink(missing_ok=True)
            download(f"{root}/{SAMPLES}", folder / SAMPLES)
            new.replace(current)
    except OSError as error:
        raise ValueError(
            f"cache={folder.parent}: shards cannot be cached there: {error.strerror or error}; "
            f"choose another place."
        ) from None


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = read_json(folder / INDEX, dict)
        assert index["columns"] and index["shards"]
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(f"{folder / INDEX} is damaged: {reason(error)}.") from None
    return index


class StreamStore:
    """A ``PictureStore`` that reads pictures from shards and decodes them on every access.

    Args:
        samples: rows of the table from ``read_stream``, which checks the set.
        root, cache: as for ``read_stream``.
        size: height and width in pixels.
        fit: see ``pictures.resize``.
        window: shuffling window in pictures, see ``ShardSampler``.
        cache_gb: gigabytes of shards that the cache of an address may hold.

    Attributes:
        ids: ids of the pictures, in the order of ``samples``.
        shards, offsets, sizes: int64 ``[N]``: number of the shard, byte offset in it, and size in
            bytes of each picture.

    Raises:
        ValueError: whatever ``check_shape`` refuses.
        UserError: a damaged index.
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
        root = _normalized(root)
        folder = set_folder(root, cache)
        names, bytes_, _ = zip(*_read_index(folder)["shards"], strict=True)
        limit = int(cache_gb * GIGABYTE)
        self.files = ShardFiles(root, folder, list(names), list(bytes_), limit)
        self.size, self.fit, self.window = size, fit, window
        self.ids: list[str] = samples["id"].tolist()
        shard_numbers = {name: k for k, name in enumerate(names)}
        places = [place_in_shard(path) for path in samples["path"]]
        rows = [(shard_numbers[Path(p[0]).name], p[1], p[2]) for p in places if p is not None]
        self.shards, self.offsets, self.sizes = np.array(rows, np.int64).reshape(-1, 3).T

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of ``ids``, int64 ``[len(ids)]``.

        Raises:
            KeyError: the store does not hold one of the ids.
        """
        return rows_of(ids, self.ids)

    def picture(self, row: int) -> np.ndarray:
        """One picture, RGB uint8 ``[H, W, 3]``; the caller may change it.

        Raises:
            ShardError: its shard cannot be read or fetched, or holds no picture at its place.
        """
        shard, offset = int(self.shards[row]), int(self.offsets[row])
        data = self.files.read(shard, offset, int(self.sizes[row]))
        try:
            # A copy: a picture that already has the right size is Pillow's read-only array.
            return np.array(resize(load_picture(BytesIO(data)), self.size, self.fit))
        except (OSError, cv2.error) as error:
            why = reason(error).partition(" <_io.")[0]  # Pillow adds the BytesIO object's repr
            raise ShardError(
                f"{self.files.names[shard]} of {self.files.root} holds no picture at byte "
                f"{offset}: {why}; copy the shard again, or write it anew."
            ) from None

    def sampler(
        self, rows: np.ndarray, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> ShardSampler:
        """A sampler over positions in ``rows`` that needs few shards at a time."""
        return ShardSampler(
            self.shards[rows],
            self.offsets[rows],
            window=self.window,
            fetch=self.files.fetch_soon,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    def check_room(self, rows: np.ndarray) -> None:
        """Refuse a cache that would fetch the same shards again and again during training.

        Args:
            rows: int64 ``[N]``, rows of the training pictures.

        Raises:
            ValueError: the cache of an address holds fewer shards than are in use at a time.
        """
        count = shards_in_use(self.shards[rows], self.window)
        needed = sum(sorted(self.files.sizes)[-count:])
        if self.files.remote and self.files.limit < needed:
            least = math.ceil(needed / GIGABYTE * 1000) / 1000
            raise ValueError(
                f"cache_gb={self.files.limit / GIGABYTE:g} holds fewer than the {count} shards "
                f"that a window of {self.window} pictures reads from; allowed: {least:g} or more, "
                f"or a smaller window."
            )
