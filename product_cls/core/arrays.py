"""Files of named arrays (.npz), written whole or not at all and without pickle."""

import os
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from product_cls.core.errors import UserError, reason

T = TypeVar("T")


@dataclass(frozen=True)
class StoredArray:
    """An array that stays in its file until it is read, and is not kept then.

    Attributes:
        file: a file that ``save_arrays`` wrote.
        name: of the array in it.
    """

    file: Path
    name: str

    def read(self) -> np.ndarray:
        """The array, read anew on each call.

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
    """Write ``arrays``, none of which may hold objects; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.npz")
    by_name: dict[str, Any] = dict(arrays)
    np.savez(partial, **by_name)
    os.replace(partial, file)


def load_arrays(
    file: Path,
    build: Callable[[dict[str, Any]], T],
    description: str,
    *,
    stored: Collection[str] = (),
) -> T:
    """Read the arrays that ``save_arrays`` wrote and build an object from them.

    Args:
        build: called with name -> array; raises ValueError, KeyError or TypeError where the file
            holds other arrays than it needs.
        description: what the file should be, for the message.
        stored: names of arrays that are left in the file and passed as ``StoredArray``.

    Raises:
        UserError: the file is missing, or is not what it should be.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            by_name: dict[str, Any] = {
                name: StoredArray(file, name) if name in stored else arrays[name]
                for name in arrays.files
            }
        return build(by_name)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is no {description}: {reason(error)}.") from None
