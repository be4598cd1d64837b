"""Files of named arrays (.npz), written whole or not at all and without pickle."""

import math
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from product_cls.core.errors import UserError, reason

Made = TypeVar("Made")


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays``, none of objects; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.npz")
    given: dict[str, Any] = dict(arrays)
    np.savez(partial, **given)
    os.replace(partial, file)


def load_arrays(
    file: Path,
    make: Callable[[dict[str, Any]], Made],
    what: str,
    *,
    mapped: Collection[str] = (),
) -> Made:
    """What ``make`` makes of the arrays that ``save_arrays`` wrote.

    Args:
        make: name -> array; raises ValueError, KeyError or TypeError at a file of other arrays.
        what: the file should be, for the message.
        mapped: names of arrays to leave in the file, read-only, of which the system keeps in memory
            what it has room for; others are read.

    Raises:
        UserError: it is missing or no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            left = [name for name in stored.files if name in mapped]
            read = {name: stored[name] for name in stored.files if name not in left}
            places = {name: stored.zip.getinfo(f"{name}.npy").header_offset for name in left}
        return make(read | _mapped(file, places))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is no {what}: {reason(error)}.") from None


def _mapped(file: Path, places: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Arrays of uncompressed members of a zip file, of one map: each map holds the file open.

    Args:
        places: of the members' own headers, 30 bytes (APPNOTE 4.3.7) and two fields of text.
    """
    if not places:
        return {}
    with file.open("rb") as opened:
        buffer = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return {name: _view(opened, buffer, place) for name, place in places.items()}


def _view(opened: BinaryIO, buffer: mmap.mmap, place: int) -> np.ndarray:
    opened.seek(place)
    header = opened.read(30)
    compression, name, extra = (struct.unpack_from("<H", header, at)[0] for at in (8, 26, 28))
    if compression != zipfile.ZIP_STORED:
        raise ValueError("its arrays are compressed")
    opened.seek(name + extra, os.SEEK_CUR)
    version = np.lib.format.read_magic(opened)
    if version != (1, 0):
        raise ValueError(f"arrays of version {version}")
    shape, columns_first, kind = np.lib.format.read_array_header_1_0(opened)
    flat = np.frombuffer(buffer, kind, math.prod(shape), opened.tell())
    return flat.reshape(shape, order="F" if columns_first else "C")
