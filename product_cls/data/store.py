"""Decoded pictures in one memory-mapped file, shared read-only by every worker, fold and process.

A store is a folder with ``pixels.npy`` (uint8 ``[N, H, W, 3]``, RGB) and ``index.json`` (ids,
fingerprint of the sources and of the size). It is built under a lock in a folder beside and renamed
when whole, so what carries the store's name is always complete.
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
from product_cls.data.pictures import Fit, load_picture, resize

OnUnreadable = Literal["stop", "drop"]
VERSION = 2  # raise it when decoding or resizing changes, so that old stores are built anew
SHOWN = 20  # offenders that the message lists; a file lists all of them


class UnreadablePicturesError(UserError):
    """Some pictures cannot be decoded; ``reasons`` maps each path to why."""

    def __init__(self, reasons: dict[str, str], report: Path) -> None:
        self.reasons = reasons
        lines = [f"\n  {path}: {why}" for path, why in list(reasons.items())[:SHOWN]]
        rest = f"\n  ... {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        super().__init__(
            f"{len(reasons)} pictures cannot be decoded (full list: {report}); mend or remove "
            f"them, or leave them out with data.on_unreadable=drop:{''.join(lines)}{rest}"
        )


@dataclass(frozen=True)
class ImageStore:
    """An open store. ``pixels`` is memory-mapped: opening reads nothing, processes share pages.

    Attributes:
        folder: where it lies.
        ids: of the pictures, in the order of ``pixels``.
        pixels: uint8 ``[N, H, W, 3]``, RGB, read-only.
        fingerprint: of what it was made from.
        unreadable: path -> why, of pictures that were left out.
    """

    folder: Path
    ids: list[str]
    pixels: np.ndarray
    fingerprint: str
    unreadable: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> "ImageStore":
        """Map a store that ``build_store`` made.

        Raises:
            UserError: there is none, one of its files is damaged, or they disagree.
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
        # A pickled memory map would carry all its pixels to a spawned worker; open it again there.
        return ImageStore.open, (self.folder,)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of ``pixels`` for ``ids``, int64 ``[len(ids)]``.

        Raises:
            KeyError: an id that the store does not hold.
        """
        return rows_of(ids, self.ids)

    def picture(self, row: int) -> np.ndarray:
        """One picture, uint8 ``[H, W, 3]``, to be changed at will."""
        return np.array(self.pixels[row])

    def check_room(self, rows: np.ndarray) -> None:
        """Accept any rows: an image store holds all its pictures."""


def rows_of(ids: Sequence[str], held: Sequence[str]) -> np.ndarray:
    """Where ``ids`` stand in ``held``, int64 ``[len(ids)]``; a KeyError for one that does not."""
    position = {name: row for row, name in enumerate(held)}
    return np.array([position[name] for name in ids], dtype=np.int64)


def sources_fingerprint(samples: pd.DataFrame, size: tuple[int, int], fit: Fit) -> str:
    """Digest of what a store is made from: ids, each file's size and time of change, the size."""
    files = [
        [name, *_stamp(path)] for name, path in zip(samples["id"], samples["path"], strict=True)
    ]
    return digest([VERSION, list(size), fit, files])


def _stamp(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:  # the build will name it among those that cannot be decoded
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
    """Open the store at ``folder``, building it first where it is missing or stale.

    Args:
        samples: the sample table (``id``, ``path``).
        folder: the store's name; only a whole store ever carries it.
        size: height and width in pixels.
        fit: see ``pictures.resize``.
        on_unreadable: what to do about pictures that cannot be decoded: ``stop`` with all of them
            named, or ``drop`` them with a warning; the store then lacks their ids.
        threads: decoders at once; the number of cores where None (decoding releases the GIL).
        warn: takes the warning.

    Raises:
        UnreadablePicturesError: with ``stop``, after all pictures were tried.
        UserError: no room on the disk, or a folder that cannot be written.
    """
    check_shape(size, fit)
    if on_unreadable not in get_args(OnUnreadable):
        allowed = ", ".join(get_args(OnUnreadable))
        raise UserError(f"data.on_unreadable={on_unreadable}; allowed: {allowed}.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            mark = sources_fingerprint(samples, size, fit)
            if not _is_current(folder, mark):
                _build(samples, folder, size, fit, on_unreadable, threads, mark)
            # Under the lock still: the next one may replace it by a store of other samples.
            store = ImageStore.open(folder)
            report = write_report(folder, store.unreadable)
    except OSError as error:
        raise UserError(
            f"The image store {folder} cannot be built: {error.strerror or error}; "
            f"choose another place with paths.cache."
        ) from error
    if store.unreadable and on_unreadable == "stop":  # it was built with ``drop``
        raise UnreadablePicturesError(store.unreadable, report)
    if dropped := len(samples) - len(store.ids):
        warn(f"{dropped} pictures that cannot be decoded are left out: {report}.")
    return store


def check_shape(size: tuple[int, int], fit: str) -> None:
    """What pictures are brought to.

    Raises:
        UserError: an unknown ``fit``, or fewer than 8 pixels a side.
    """
    if fit not in get_args(Fit):
        raise UserError(f"data.fit={fit}; allowed: {', '.join(get_args(Fit))}.")
    if min(size) < 8:
        raise UserError(f"data.size={size[0]}x{size[1]} is too small; at least 8 pixels a side.")


def write_report(folder: Path, reasons: dict[str, str]) -> Path:
    """List beside ``folder`` what cannot be decoded and why; without any, take the list away."""
    report = folder.with_name(f"{folder.name}-unreadable.txt")
    text = "".join(f"{path}\t{why}\n" for path, why in reasons.items())
    report.unlink(missing_ok=True)
    if reasons:
        report.write_text(text, encoding="utf-8", errors="backslashreplace")
    return report


def _is_current(folder: Path, mark: str) -> bool:
    try:
        return ImageStore.open(folder).fingerprint == mark
    except UserError:
        return False


def _build(
    samples: pd.DataFrame,
    folder: Path,
    size: tuple[int, int],
    fit: Fit,
    on_unreadable: str,
    threads: int | None,
    mark: str,
) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of builds that were killed: we hold the lock
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
            done = progress_bar(
                pool.map(decode, jobs), "image store", len(jobs), unit="img", leave=False
            )
            try:
                reasons = dict(filter(None, done))
            except BaseException:  # Ctrl-C must not wait for the pictures that are still to come
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        keep = [row for row, path in jobs if path not in reasons]
        if reasons:
            report = write_report(folder, reasons)
            if on_unreadable == "stop":
                raise UnreadablePicturesError(reasons, report)
            if not keep:
                raise UserError(f"None of the {len(samples)} pictures can be decoded: {report}.")
            whole = _allocate(partial / "kept.npy", (len(keep), *size, 3))
            for row, source in enumerate(keep):
                whole[row] = pixels[source]
            whole.flush()
            os.replace(partial / "kept.npy", partial / "pixels.npy")
        pixels.flush()
        ids = samples["id"].iloc[keep].tolist()
        index = {"fingerprint": mark, "size": list(size), "ids": ids, "unreadable": reasons}
        (partial / "index.json").write_text(json.dumps(index))
        # Processes that have the old store open keep their pages until they close it.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _allocate(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """A uint8 ``.npy`` whose room on the disk is taken at once.

    A full disk is then an OSError here; found out later, while a mapped page is written, it would
    kill the process with SIGBUS.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    with file.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array
