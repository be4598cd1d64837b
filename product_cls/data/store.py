"""Image store: decoded pictures in one memory-mapped file, shared read-only by all processes.

A store is a folder with ``pixels.npy`` (uint8 ``[N, H, W, 3]``, RGB) and ``index.json`` (ids and a
fingerprint of the source files and the size). It is built under a lock in a temporary folder beside
it, which is renamed when complete, so a folder with the store's name is always complete.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest
from product_cls.core.progress import progress_bar
from product_cls.data.picture_store import rows_of
from product_cls.data.pictures import Fit, check_shape, load_picture, resize
from product_cls.data.samplers import EpochSampler

OnUnreadable = Literal["stop", "drop"]
VERSION = 2  # raise it after a change of decoding or resizing, so that old stores are rebuilt
SHOWN = 20  # unreadable pictures listed in the message; the report file lists all


class UnreadablePicturesError(ValueError):
    """Some pictures cannot be decoded, and ``on_unreadable`` is ``stop``.

    Attributes:
        reasons: path -> reason, for every unreadable picture.
    """

    def __init__(self, reasons: dict[str, str], report: Path) -> None:
        self.reasons = reasons
        lines = [f"\n  {path}: {why}" for path, why in list(reasons.items())[:SHOWN]]
        rest = f"\n  ... {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        super().__init__(
            f"on_unreadable=stop: {len(reasons)} pictures cannot be decoded (full list: {report}); "
            f"repair or remove them, or set it to drop to leave them out:{''.join(lines)}{rest}"
        )


@dataclass(frozen=True)
class ImageStore:
    """An open image store; a ``PictureStore``.

    ``pixels`` is memory-mapped: opening reads no pixels, and processes share the pages.

    Attributes:
        folder: the store's folder.
        ids: ids of the pictures, in the order of ``pixels``.
        pixels: uint8 ``[N, H, W, 3]``, RGB, read-only.
        fingerprint: digest of the sources, from ``sources_fingerprint``.
        unreadable: path -> reason, for dropped pictures.
    """

    folder: Path
    ids: list[str]
    pixels: np.ndarray
    fingerprint: str
    unreadable: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> "ImageStore":
        """Map a store that ``build_store`` wrote.

        Raises:
            UserError: there is no store, a file is damaged, or its files disagree.
        """
        try:
            index = json.loads((folder / "index.json").read_text())
            pixels = np.load(folder / "pixels.npy", mmap_mode="r")
            store = cls(folder, index["ids"], pixels, index["fingerprint"], index["unreadable"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} is not an image store: {reason(error)}.") from None
        if len(store.ids) != len(pixels):
            raise UserError(
                f"{folder} holds {len(pixels)} pictures for {len(store.ids)} ids; delete it."
            )
        return store

    def __reduce__(self) -> tuple[Callable[[Path], "ImageStore"], tuple[Path]]:
        # A pickled memory map would carry all pixels to a spawned worker; reopen it there instead.
        return ImageStore.open, (self.folder,)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of ``ids`` in ``pixels``, int64 ``[len(ids)]``.

        Raises:
            KeyError: the store does not hold one of the ids.
        """
        return rows_of(ids, self.ids)

    def picture(self, row: int) -> np.ndarray:
        """One picture, RGB uint8 ``[H, W, 3]``; the caller may change it."""
        return np.array(self.pixels[row])

    def sampler(
        self, rows: np.ndarray, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> EpochSampler:
        """A sampler over positions in ``rows``; every order is equally fast here."""
        return EpochSampler(len(rows), shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)

    def check_room(self, rows: np.ndarray) -> None:
        """Accept any rows: the store has no cache that could be too small."""


def sources_fingerprint(samples: pd.DataFrame, size: tuple[int, int], fit: Fit) -> str:
    """Digest of a store's sources: picture size and fit, and id, size and time of each file."""
    files = [
        [name, *_stamp(path)] for name, path in zip(samples["id"], samples["path"], strict=True)
    ]
    return digest([VERSION, list(size), fit, files])


def _stamp(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; (-1, -1) for a missing file."""
    try:
        stat = os.stat(path)
    except OSError:  # the build reports the file as unreadable
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def build_store(
    samples: pd.DataFrame,
    folder: Path,
    size: tuple[int, int],
    *,
    fit: Fit = "squash",
    on_unreadable: OnUnreadable = "stop",
    threads: int | None = None,
    warn: Callable[[str], None] = print,
) -> ImageStore:
    """Open the store at ``folder``; build it first if it is missing or stale.

    Args:
        samples: the sample table (``id``, ``path``).
        folder: the store's folder.
        size: height and width in pixels.
        fit: see ``pictures.resize``.
        on_unreadable: for pictures that cannot be decoded: ``stop`` with an error that names them
            all, or ``drop`` them with a warning; the store then lacks their ids.
        threads: decoding threads (decoding releases the GIL); None uses one per core.
        warn: called with the warning.

    Raises:
        UnreadablePicturesError: with ``stop``, after all pictures were tried.
        ValueError: an argument out of range, or a folder that cannot be written.
        UserError: no picture can be decoded.
    """
    check_shape(size, fit)
    if on_unreadable not in get_args(OnUnreadable):
        allowed = ", ".join(get_args(OnUnreadable))
        raise ValueError(f"on_unreadable={on_unreadable}; allowed: {allowed}.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            fingerprint = sources_fingerprint(samples, size, fit)
            if not _is_current(folder, fingerprint):
                _build(samples, folder, size, fit, on_unreadable, threads, fingerprint)
            # Still under the lock, after which another process may build a store of other samples.
            store = ImageStore.open(folder)
            report = write_report(folder, store.unreadable)
    except OSError as error:
        raise ValueError(
            f"folder={folder}: the image store cannot be written there: "
            f"{error.strerror or error}; choose another place."
        ) from error
    if store.unreadable and on_unreadable == "stop":  # an earlier call built it with ``drop``
        raise UnreadablePicturesError(store.unreadable, report)
    if dropped := len(samples) - len(store.ids):
        warn(f"{dropped} pictures cannot be decoded and are left out: {report}.")
    return store


def write_report(folder: Path, reasons: dict[str, str]) -> Path:
    """Write ``FOLDER-unreadable.txt`` with each path and reason; delete it if there are none."""
    report = folder.with_name(f"{folder.name}-unreadable.txt")
    text = "".join(f"{path}\t{why}\n" for path, why in reasons.items())
    report.unlink(missing_ok=True)
    if reasons:
        report.write_text(text, encoding="utf-8", errors="backslashreplace")
    return report


def _is_current(folder: Path, fingerprint: str) -> bool:
    try:
        return ImageStore.open(folder).fingerprint == fingerprint
    except UserError:
        return False


def _build(
    samples: pd.DataFrame,
    folder: Path,
    size: tuple[int, int],
    fit: Fit,
    on_unreadable: str,
    threads: int | None,
    fingerprint: str,
) -> None:
    """Build the store in a temporary folder and rename it; the caller holds the lock."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # from builds that were killed
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        pixels = _allocate(partial / "pixels.npy", (len(samples), *size, 3))

        def decode(job: tuple[int, str]) -> tuple[str, str] | None:
            row, path = job
            try:
                pixels[row] = resize(load_picture(path), size, fit)
            except (OSError, cv2.error) as error:
                return path, reason(error)
            return None

        jobs = list(enumerate(samples["path"]))
        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            failures = progress_bar(
                pool.map(decode, jobs), "image store", len(jobs), unit="img", leave=False
            )
            try:
                reasons = dict(filter(None, failures))
            except BaseException:  # Ctrl-C must not wait for the remaining pictures
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        keep = [row for row, path in jobs if path not in reasons]
        if reasons:
            report = write_report(folder, reasons)
            if on_unreadable == "stop":
                raise UnreadablePicturesError(reasons, report)
            if not keep:
                raise UserError(f"None of the {len(samples)} pictures can be decoded: {report}.")
            kept_pixels = _allocate(partial / "kept.npy", (len(keep), *size, 3))
            for row, source in enumerate(keep):
                kept_pixels[row] = pixels[source]
            kept_pixels.flush()
            os.replace(partial / "kept.npy", partial / "pixels.npy")
        pixels.flush()
        ids = samples["id"].iloc[keep].tolist()
        index = {"fingerprint": fingerprint, "size": list(size), "ids": ids, "unreadable": reasons}
        (partial / "index.json").write_text(json.dumps(index))
        # Processes that have the old store open keep its pages until they close it.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _allocate(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """Create a uint8 ``.npy`` file and reserve its disk space at once.

    A full disk then raises OSError here. If it filled up later, while a mapped page is written, the
    process would be killed with SIGBUS.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    with file.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array
