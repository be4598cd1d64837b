"""Features of pictures in one memory-mapped file, computed once.

A file is of one network, one picture store and one view. It is filled block by block, so that an
interrupted computation goes on where it stopped. A file that is complete carries a checksum, which
is read again only after the file has changed.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest, file_checksum, write_text_whole
from product_cls.data.store import allocate

VERSION = 1  # raise it after a change of what the features are
SAVED_EVERY = 1024  # pictures, after which finished features are noted on the disk

# Yields rows of the file, int64 [B], and their features, float32 [B, V, D].
Computed = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on.

    Attributes:
        weights: digest of the network without its head.
        store: digest of ids and pixels.
        size: height and width of the pictures in pixels.
        view: of test-time augmentation, by name.
    """

    weights: str
    store: str
    size: tuple[int, int]
    view: str

    def record(self) -> dict[str, Any]:
        """Plain values for a file."""
        return json.loads(json.dumps(asdict(self) | {"version": VERSION}))


class FeatureFile:
    """Features of N pictures, float32 ``[N, V, D]``: V batches of a view, D features.

    Attributes:
        array: memory-mapped.
        stem: path without suffix; the files ``.npy``, ``.done.npy`` and ``.json`` belong to it.

    Args:
        folder: of the file.
        key: what the features are of.
        rows: N.
    """

    def __init__(self, folder: Path, key: FeatureKey, rows: int) -> None:
        self.stem = folder / f"features-{digest(key.record())[:16]}"
        self.key, self.rows = key, rows
        self.array: np.ndarray = np.empty((0, 1, 0), np.float32)

    @property
    def data_file(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.npy")

    @property
    def done_file(self) -> Path:
        """Which rows are computed, bool ``[N]``; gone once all are."""
        return self.stem.with_name(f"{self.stem.name}.done.npy")

    @property
    def note_file(self) -> Path:
        """The key, and checksum and times of a complete file."""
        return self.stem.with_name(f"{self.stem.name}.json")

    def open(self) -> bool:
        """Map a complete file.

        Returns:
            Whether there is one. A damaged file counts as missing.

        Raises:
            UserError: the file is of other weights or pictures than its name says.
        """
        note = self._note()
        if note is None:
            return False
        self._check_key(note)
        if "checksum" not in note:
            return False
        try:
            array = np.load(self.data_file, mmap_mode="r")
            if array.dtype != np.float32 or array.ndim != 3 or len(array) != self.rows:
                return False
            if note.get("stamp") != self._stamp():
                if file_checksum(self.data_file) != note["checksum"]:
                    return False
                with suppress(OSError):  # in a read-only place, every run reads the file
                    self._write_note(note["checksum"])
        except (OSError, ValueError, EOFError):
            return False
        self.array = array
        return True

    def fill(self, shape: tuple[int, int], compute: Callable[[np.ndarray], Computed]) -> None:
        """Open the file; compute the rows that it lacks first.

        Args:
            shape: V and D.
            compute: yields the features of some rows, int64 ``[M]``, in any order.

        Raises:
            UserError: the file is of other weights or pictures, or cannot be written.
        """
        try:
            self.stem.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.stem.with_name(f".{self.stem.name}.lock")):
                if not self.open():
                    self._fill(shape, compute)
        except OSError as error:
            if self.open():  # a read-only cache takes no lock, and needs none
                return
            raise UserError(
                f"The features cannot be written to {self.data_file}: {reason(error)}; set "
                f"paths.cache to another place."
            ) from error

    def _fill(self, shape: tuple[int, int], compute: Callable[[np.ndarray], Computed]) -> None:
        array, done = self._partial(shape)
        pending = 0
        for some, features in compute(np.flatnonzero(~done)):
            array[some] = features
            done[some] = True
            pending += len(some)
            if pending >= SAVED_EVERY:
                self._save(array, done)
                pending = 0
        self._save(array, done)
        if not done.all():
            raise UserError(f"{int((~done).sum())} of {self.rows} pictures have got no features.")
        self._write_note(file_checksum(self.data_file))
        self.done_file.unlink(missing_ok=True)
        self.array = np.load(self.data_file, mmap_mode="r")

    def _partial(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The features so far and which rows they are; new ones if there are none."""
        whole = (self.rows, *shape)
        if self._note() is not None:
            try:
                array = np.load(self.data_file, mmap_mode="r+")
                done = np.load(self.done_file)
                right = array.shape == whole and array.dtype == np.float32
                if right and done.shape == (self.rows,) and done.dtype == np.bool_:
                    return array, done
            except (OSError, ValueError, EOFError):
                pass  # interrupted before the first block, or damaged
        self.done_file.unlink(missing_ok=True)
        self._write_note(None)
        array = allocate(self.data_file, whole, np.float32)
        return array, np.zeros(self.rows, bool)

    def _save(self, array: np.ndarray, done: np.ndarray) -> None:
        array.flush()  # type: ignore[attr-defined]  # a memory map; before the rows count as done
        partial = self.done_file.with_suffix(".tmp")
        with partial.open("wb") as stream:
            np.save(stream, done)
        partial.replace(self.done_file)

    def _stamp(self) -> list[int]:
        stat = self.data_file.stat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]

    def _note(self) -> dict[str, Any] | None:
        try:
            note = json.loads(self.note_file.read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return note if isinstance(note, dict) else None

    def _write_note(self, checksum: str | None) -> None:
        note: dict[str, Any] = {"key": self.key.record()}
        if checksum is not None:
            note |= {"checksum": checksum, "stamp": self._stamp()}
        write_text_whole(self.note_file, json.dumps(note, indent=2) + "\n")

    def _check_key(self, note: Mapping[str, Any]) -> None:
        held, asked = note.get("key"), self.key.record()
        if held == asked:
            return
        odd = [k for k in asked if not isinstance(held, dict) or held.get(k) != asked[k]]
        raise UserError(
            f"{self.data_file} holds features of other {', '.join(odd)} than this run's; delete "
            f"it, and they are computed again."
        )
