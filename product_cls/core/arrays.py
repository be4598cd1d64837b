"""Files of named arrays (.npz), written atomically and without pickle."""

import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.core.files import whole_file
from product_cls.core.names import nfc

T = TypeVar("T")


@dataclass(frozen=True)
class StoredArray:
    """An array that is read from its file on each access and not kept in memory.

    Attributes:
        file: a file that ``save_arrays`` wrote.
        name: name of the array in the file.
    """

    file: Path
    name: str

    def read(self) -> np.ndarray:
        """Read the array, of any shape and dtype, from the file.

        Raises:
            UserError: the file can no longer be read.
        """
        try:
            with np.load(self.file, allow_pickle=False) as stored:
                array: np.ndarray = stored[self.name]
                return array
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.file} cannot be read: {reason(error)}.") from None


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a file; its folder is created.

    Args:
        file: the ``.npz`` file.
        arrays: name -> array of any shape ``[...]`` and any dtype but object.
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
) -> T:
    """Read the arrays that ``save_arrays`` wrote and build an object from them.

    Args:
        build: called with name -> array; raises ValueError, KeyError or TypeError if the file
            does not hold the arrays that it needs.
        description: kind of the file, for the message: "predictions file".
        stored: names of arrays that are left in the file and passed as ``StoredArray``.

    Raises:
        UserError: the file is missing, or is not of this kind.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            by_name: dict[str, Any] = {
                name: StoredArray(file, name) if name in stored else arrays[name]
                for name in arrays.files
            }
        return build(composed_names(by_name))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is not a {description}: {reason(error)}.") from None


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
