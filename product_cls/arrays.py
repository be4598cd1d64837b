"""Files of named arrays (.npz), written whole or not at all and without pickle."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from product_cls.errors import UserError, reason

Made = TypeVar("Made")


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays``, none of objects; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.npz")
    given: dict[str, Any] = dict(arrays)
    np.savez(partial, **given)
    os.replace(partial, file)


def load_arrays(file: Path, make: Callable[[dict[str, Any]], Made], what: str) -> Made:
    """What ``make`` makes of the arrays that ``save_arrays`` wrote.

    Args:
        make: name -> array; raises ValueError, KeyError or TypeError at a file of other arrays.
        what: the file should be, for the message.

    Raises:
        UserError: it is missing or no such file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return make({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is no {what}: {reason(error)}.") from None
