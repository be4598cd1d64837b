"""Files of named arrays (.npz), written atomically and without pickle, and read with suspicion.

A file may be damaged, or made by someone else. Its arrays are numbers, truth values or text. What
a header claims is compared with the bytes that are there before any memory is taken, and each
array's bytes are compared with the checksum (CRC-32) that the ZIP format keeps.
"""

import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.core.files import whole_file
from product_cls.core.names import nfc, shown

T = TypeVar("T")

KINDS = "biufU"  # of dtypes: truth values, whole numbers, numbers, text
CHUNK = 2**24  # bytes read at once
UNICODE = 0x10FFFF  # the last character
DEFLATE_LIMIT = 1032  # deflate packs at most so many bytes into one
HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What reading a damaged ZIP archive, or a file of another kind, raises besides ValueError.
DAMAGED = (OSError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class StoredArray:
    """An array that is read from its file on each access and not kept in memory.

    Attributes:
        file: a file that ``save_arrays`` wrote.
        name: name of the array in the file.
        shape: of the array.
    """

    file: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Read the array from the file.

        Raises:
            UserError: the file can no longer be read, or has been damaged or replaced meanwhile.
        """
        try:
            with zipfile.ZipFile(self.file) as archive:
                array = _read(archive, archive.getinfo(f"{self.name}.npy"))
            if array.shape != self.shape:
                raise ValueError(f"'{self.name}' has changed")
        except (*DAMAGED, ValueError, KeyError) as error:
            raise UserError(f"{self.file} cannot be read: {_why(error)}.") from None
        return array


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a file; its folder is created.

    Args:
        file: the ``.npz`` file.
        arrays: name -> array of any shape ``[...]``: truth values, numbers or text.
    """
    by_name: dict[str, Any] = dict(arrays)
    # A stream, because savez would add `.npz` to the name of the partial file.
    with whole_file(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **by_name)


def load_arrays(
    file: Path,
    build: Callable[[dict[str, Any]], T],
    description: str,
    *,
    stored: Collection[str] = (),
    check: Callable[[str, np.ndarray], None] | None = None,
) -> T:
    """Read the arrays that ``save_arrays`` wrote and build an object from them.

    Each array is read and compared with its checksum, also one that stays in the file.

    Args:
        build: called with name -> array; raises ValueError, KeyError or TypeError if the file
            does not hold the arrays that it needs.
        description: kind of the file, for the message: "predictions file".
        stored: names of arrays that are left in the file and passed as ``StoredArray``.
        check: called with the name and the content of each array; raises ValueError if the file
            cannot be of this kind.

    Raises:
        UserError: the file is missing, damaged, or not of this kind.
    """
    try:
        by_name: dict[str, Any] = {}
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in by_name:
                    raise ValueError(f"it holds '{shown(name)}' twice")
                array = _read(archive, member)
                if check is not None:
                    check(name, array)
                by_name[name] = StoredArray(file, name, array.shape) if name in stored else array
        return build(composed_names(by_name))
    except (*DAMAGED, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a {description}: {_why(error)}.") from None


def composed_names(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays with ids and names of classes in Unicode NFC, which older versions did not ensure.

    Args:
        arrays: by name; ``id`` and ``classes``, text ``[N]``, are optional.
    """
    names = {
        name: np.array([nfc(text) for text in arrays[name].tolist()], np.str_)
        for name in ("id", "classes")
        if name in arrays and arrays[name].dtype.kind == "U" and arrays[name].ndim == 1
    }
    return {**arrays, **names}


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive.

    Raises:
        ValueError: the member is no array of numbers or text, or its header claims another size
            than the archive holds. Reading damaged archives raises ``DAMAGED``, too.
    """
    name = f"'{shown(member.filename.removesuffix('.npy'))}'"
    with archive.open(member) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            shape, fortran, dtype = HEADERS[version](stream)
            claimed = prod(shape) * dtype.itemsize
        except DAMAGED:
            raise
        except Exception:  # the header is Python's text of a dict, which NumPy evaluates in parts
            raise ValueError(f"{name} has no readable header of an array") from None
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are never read")
        if dtype.kind not in KINDS or not dtype.itemsize:
            raise ValueError(f"{name} is of type {dtype}; allowed: numbers and text")
        held = member.file_size - stream.tell()
        possible = DEFLATE_LIMIT * member.compress_size
        if min(shape, default=0) < 0 or claimed != held or member.file_size > possible:
            raise ValueError(
                f"the header of {name} claims a shape of {list(shape)}, whose {claimed:,} bytes "
                "are not there"
            )
        content = np.empty(held, np.uint8)
        place = 0
        while chunk := stream.read(CHUNK):  # the last one is followed by the test of the checksum
            content[place : place + len(chunk)] = np.frombuffer(chunk, np.uint8)
            place += len(chunk)
    array = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if dtype.kind == "U" and array.ravel().view(np.uint32).max(initial=0) > UNICODE:
        raise ValueError(f"{name} holds characters that do not exist")
    return array


def _why(error: BaseException) -> str:
    """The end of a sentence; a few messages of others are replaced by plainer ones."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, zipfile.BadZipFile):
        checksum = "CRC" in str(error)
        return "it is damaged (wrong checksum)" if checksum else "it is no ZIP archive of arrays"
    if isinstance(error, KeyError):
        return f"it holds no {error}" if error.args else "an array is missing"
    return reason(error)
