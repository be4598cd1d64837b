"""The image store: decoded pictures in one memory-mapped file, shared read-only by all processes.

A store is a folder with ``pixels.npy`` (uint8 ``[N, H, W, 3]``, RGB), ``index.json`` (ids,
checksums, and a fingerprint of the source files and the size) and ``verified.json`` (size and times
of ``pixels.npy`` when its checksum was last right: it is read for this only after a change).
``store.build_store`` builds it.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest, file_checksum, write_text_whole
from product_cls.data.picture_store import rows_of
from product_cls.data.samplers import EpochSampler

PIXELS, INDEX, VERIFIED = "pixels.npy", "index.json", "verified.json"
# What reading a damaged index or array raises.
DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


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
        checksum: of ``pixels.npy`` when it was written, see ``core.files.file_checksum``.
    """

    folder: Path
    ids: list[str]
    pixels: np.ndarray
    fingerprint: str
    unreadable: dict[str, str]
    checksum: str

    @classmethod
    def open(cls, folder: Path) -> "ImageStore":
        """Map a store that ``build_store`` wrote. Its pixels are not read, see ``is_verified``.

        Raises:
            UserError: there is no store, a file is damaged, or its files disagree.
        """
        try:
            index = json.loads((folder / INDEX).read_text())
            if index.pop("checksum") != digest(index):
                raise ValueError(f"the checksum of {INDEX} is wrong")
            pixels = np.load(folder / PIXELS, mmap_mode="r")
            shape = (len(index["ids"]), *index["size"], 3)
            if pixels.dtype != np.uint8 or pixels.shape != shape:
                raise ValueError(
                    f"{PIXELS} is {pixels.dtype} {list(pixels.shape)}, and {INDEX} says uint8 "
                    f"{list(shape)}"
                )
            return cls(
                folder,
                index["ids"],
                pixels,
                index["fingerprint"],
                index["unreadable"],
                index["pixels"],
            )
        except DAMAGED as error:
            raise UserError(f"{folder} is not an image store: {reason(error)}.") from None

    @property
    def contents(self) -> str:
        """Digest of ids and pixels."""
        return digest([self.ids, self.checksum])

    def is_verified(self) -> bool:
        """Whether the pixels are those that were written; reads them only if the file changed.

        Raises:
            OSError: the file cannot be read.
        """
        file, note = self.folder / PIXELS, self.folder / VERIFIED
        stat = file.stat()
        stamp = json.dumps([stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
        with suppress(OSError, ValueError):
            if note.read_text() == stamp:
                return True
        if file_checksum(file) != self.checksum:
            return False
        with suppress(OSError):  # in a read-only place, every run reads the file
            write_text_whole(note, stamp)
        return True

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
