"""Builds an image store, and decides whether an existing one is still right.

A store is built under a lock in a temporary folder beside it, which is renamed when complete, so a
folder with the store's name is always complete.
"""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest, file_checksum
from product_cls.core.progress import progress_bar
from product_cls.data.decoding_room import ROOM
from product_cls.data.image_store import INDEX, PIXELS, ImageStore
from product_cls.data.pictures import (
    MAX_PIXELS,
    Fit,
    check_max_pixels,
    check_shape,
    load_picture,
    resize,
)

OnUnreadable = Literal["stop", "drop"]
VERSION = 3  # raise it after a change of decoding or resizing, so that old stores are rebuilt
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


def sources_fingerprint(
    samples: pd.DataFrame, size: tuple[int, int], fit: Fit, max_pixels: int
) -> str:
    """Digest of a store's sources: its settings, and id, size and times of each file."""
    files = [
        [name, *_stamp(path)] for name, path in zip(samples["id"], samples["path"], strict=True)
    ]
    return digest([VERSION, list(size), fit, max_pixels, files])


def _stamp(path: str) -> tuple[int, int, int]:
    """Size in bytes, and times of modification and of change in nanoseconds; -1 without a file.

    A program that changes a file can set its modification time back, but not its time of change.
    """
    try:
        stat = os.stat(path)
    except OSError:  # the build reports the file as unreadable
        return -1, -1, -1
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def build_store(
    samples: pd.DataFrame,
    folder: Path,
    size: tuple[int, int],
    *,
    fit: Fit = "squash",
    on_unreadable: OnUnreadable = "stop",
    max_pixels: int = MAX_PIXELS,
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
        max_pixels: larger pictures count as undecodable.
        threads: decoding threads (decoding releases the GIL); None uses one per core.
        warn: called with the warning.

    Raises:
        UnreadablePicturesError: with ``stop``, after all pictures were tried.
        ValueError: an argument out of range, or a folder that cannot be written.
        UserError: no picture can be decoded.
    """
    check_shape(size, fit)
    check_max_pixels(max_pixels)
    if on_unreadable not in get_args(OnUnreadable):
        allowed = ", ".join(get_args(OnUnreadable))
        raise ValueError(f"on_unreadable={on_unreadable}; allowed: {allowed}.")
    fingerprint = sources_fingerprint(samples, size, fit, max_pixels)
    report = _report_file(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            current = _current_store(folder, fingerprint, size)
            if current is None:
                _build(samples, folder, size, fit, on_unreadable, max_pixels, threads, fingerprint)
                # Opened under the lock: after it another process may build one of other samples.
                current = ImageStore.open(folder)
            store = current
            write_report(folder, store.unreadable)
    except OSError as error:
        # A read-only cache takes no lock, and needs none if its store is whole.
        whole = _current_store(folder, fingerprint, size)
        if whole is None:
            raise ValueError(
                f"folder={folder}: the image store cannot be written there: "
                f"{error.strerror or error}; choose another place."
            ) from error
        store = whole
    if store.unreadable and on_unreadable == "stop":  # an earlier call built it with ``drop``
        raise UnreadablePicturesError(store.unreadable, report)
    if dropped := len(samples) - len(store.ids):
        warn(f"{dropped} pictures cannot be decoded and are left out: {report}.")
    return store


def write_report(folder: Path, reasons: dict[str, str]) -> Path:
    """Write ``FOLDER-unreadable.txt`` with each path and reason; delete it if there are none."""
    report = _report_file(folder)
    lines = "".join(f"{path}\t{why}\n" for path, why in reasons.items())
    text = lines.encode("utf-8", "backslashreplace")
    if (report.read_bytes() if report.exists() else b"") != text:
        report.unlink(missing_ok=True)
        if reasons:
            report.write_bytes(text)
    return report


def _report_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-unreadable.txt")


def _current_store(folder: Path, fingerprint: str, size: tuple[int, int]) -> ImageStore | None:
    """The store at ``folder`` if it is of these sources, of this size and undamaged."""
    try:
        store = ImageStore.open(folder)
        current = store.fingerprint == fingerprint and store.pixels.shape[1:3] == tuple(size)
        return store if current and store.is_verified() else None
    except (UserError, OSError):
        return None


def _build(
    samples: pd.DataFrame,
    folder: Path,
    size: tuple[int, int],
    fit: Fit,
    on_unreadable: str,
    max_pixels: int,
    threads: int | None,
    fingerprint: str,
) -> None:
    """Build the store in a temporary folder and rename it; the caller holds the lock."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # from builds that were killed
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        pixels = allocate(partial / PIXELS, (len(samples), *size, 3))

        def decode(job: tuple[int, str]) -> tuple[str, str] | None:
            row, path = job
            try:
                with ROOM.held():
                    pixels[row] = resize(load_picture(path, max_pixels=max_pixels), size, fit)
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
            kept_pixels = allocate(partial / "kept.npy", (len(keep), *size, 3))
            for row, source in enumerate(keep):
                kept_pixels[row] = pixels[source]
            kept_pixels.flush()
            os.replace(partial / "kept.npy", partial / PIXELS)
        pixels.flush()
        ids = samples["id"].iloc[keep].tolist()
        index = {
            "fingerprint": fingerprint,
            "size": list(size),
            "ids": ids,
            "unreadable": reasons,
            "pixels": file_checksum(partial / PIXELS),
        }
        index["checksum"] = digest(index)
        (partial / INDEX).write_text(json.dumps(index))
        # Processes that have the old store open keep its pages until they close it.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def allocate(file: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> np.memmap:
    """Create a ``.npy`` file and reserve its disk space at once.

    A full disk then raises OSError here. If it filled up later, while a mapped page is written, the
    process would be killed with SIGBUS.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array
