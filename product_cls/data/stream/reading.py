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

from product_cls.core.errors import UserError, reason, without_login
from product_cls.core.files import digest, write_bytes_whole
from product_cls.data.decoding_room import ROOM
from product_cls.data.picture_store import rows_of
from product_cls.data.pictures import (
    MAX_PIXELS,
    Fit,
    check_max_pixels,
    check_shape,
    load_picture,
    resize,
)
from product_cls.data.samplers import ShardSampler, shards_in_use
from product_cls.data.samples import check_samples
from product_cls.data.stream.files import ShardFiles, check_address, deletion_lock, is_address
from product_cls.data.stream.index import (
    DONE,
    INDEX,
    INDEX_LIMIT,
    SAMPLES,
    SAMPLES_LIMIT,
    UNFINISHED,
    picture_places,
    read_index,
)
from product_cls.data.stream.transfer import ShardError, download, fetch_bytes

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
        if file.stat().st_size > SAMPLES_LIMIT:
            raise ValueError(f"it is larger than {SAMPLES_LIMIT} bytes")
        content = file.read_bytes()
        if digest(content.decode()) != index["samples"]:
            raise ValueError("it is not the table that index.json was written with")
        table = pd.read_csv(
            BytesIO(content),
            dtype=index["columns"],
            keep_default_na=False,
            na_values=[""],
        )
        picture_places(table["path"], index["shards"])
        if outside := [path for path in table["path"] if path.count("/") > 1]:
            raise ValueError(f"'{outside[0]}' is not in the set's folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
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
        return folder, read_index(folder)
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
    index = read_index(folder)
    for name, size, _ in index["shards"]:
        shard = folder / name
        actual = shard.stat().st_size if shard.is_file() else None
        if actual != size:
            state = "is missing" if actual is None else f"has {actual} bytes"
            raise UserError(f"{shard} {state}, {INDEX} says {size} bytes; copy it again.")
    return folder, index


def _fetch_index(root: str, folder: Path) -> None:
    """Bring the cache up to date with the set behind an address."""
    fetch_bytes(f"{root}/{DONE}", limit=INDEX_LIMIT)  # fails for an incomplete set
    new = fetch_bytes(f"{root}/{INDEX}", limit=INDEX_LIMIT)
    current = folder / INDEX
    try:
        # An up-to-date cache needs no lock, so it may be read-only.
        same = current.is_file() and current.read_bytes() == new
        if same and _has_table(folder):
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".index.lock"):
            current.unlink(missing_ok=True)
            with deletion_lock(folder):
                # From the previous set at this address.
                for shard in () if same else folder.glob("*.tar"):
                    shard.unlink(missing_ok=True)
            download(f"{root}/{SAMPLES}", folder / SAMPLES, limit=SAMPLES_LIMIT)
            write_bytes_whole(current, new)
    except OSError as error:
        raise ValueError(
            f"cache={folder.parent}: shards cannot be cached there: {error.strerror or error}; "
            f"choose another place."
        ) from None


def _has_table(folder: Path) -> bool:
    """Whether the cached sample table is the one of the cached index."""
    try:
        return digest((folder / SAMPLES).read_bytes().decode()) == read_index(folder)["samples"]
    except (OSError, ValueError):
        return False


class StreamStore:
    """A ``PictureStore`` that reads pictures from shards and decodes them on every access.

    Args:
        samples: rows of the table from ``read_stream``, which checks the set.
        root, cache: as for ``read_stream``.
        size: height and width in pixels.
        fit: see ``pictures.resize``.
        max_pixels: larger pictures cannot be decoded.
        window: shuffling window in pictures, see ``ShardSampler``.
        cache_gb: gigabytes of shards that the cache of an address may hold.

    Attributes:
        ids: ids of the pictures, in the order of ``samples``.
        contents: digest of the index, which holds the checksums of the shards.
        shards, offsets, sizes: int64 ``[N]``: number of the shard, byte offset in it, and size in
            bytes of each picture.

    Raises:
        ValueError: whatever ``check_shape`` refuses.
        UserError: a damaged index, or samples of other shards.
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
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_shape(size, fit)
        check_max_pixels(max_pixels)
        root = _normalized(root)
        folder = set_folder(root, cache)
        index = read_index(folder)
        names, bytes_, _ = zip(*index["shards"], strict=True)
        limit = int(cache_gb * GIGABYTE)
        checksums = [index.get("checksums", {}).get(name) for name in names]
        self.files = ShardFiles(root, folder, list(names), list(bytes_), checksums, limit)
        self.contents = digest(index)
        self.size, self.fit, self.window, self.max_pixels = size, fit, window, max_pixels
        self.ids: list[str] = samples["id"].tolist()
        try:
            places = picture_places(samples["path"], index["shards"])
        except ValueError as error:
            raise UserError(f"{root}/{INDEX} has changed: {reason(error)}.") from None
        self.shards, self.offsets, self.sizes = places.T

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
            with ROOM.held():
                picture = load_picture(BytesIO(data), max_pixels=self.max_pixels)
                return np.ascontiguousarray(resize(picture, self.size, self.fit))
        except (OSError, cv2.error) as error:
            raise ShardError(
                f"{self.files.names[shard]} of {self.files.root} holds no picture at byte "
                f"{offset}: {reason(error)}; copy the shard again, or write it anew."
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
