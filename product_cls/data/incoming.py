"""Pictures to be named: which they are, and from their files in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from product_cls.cores import usable_cores
from product_cls.data.readers import list_pictures
from product_cls.errors import UserError, reason


def list_images(source: Path) -> list[tuple[str, Path]]:
    """Names and paths of the pictures in a folder, a CSV, or of one picture.

    Raises:
        UserError: nothing there, or a CSV without such a column.
    """
    if source.is_dir():
        found = [(str(path.relative_to(source)), path) for path in list_pictures(source)]
        if not found:
            raise UserError(f"{source} holds no pictures.")
        return found
    if not source.is_file():
        raise UserError(f"There is no folder or file {source}.")
    if source.suffix.lower() != ".csv":
        return [(source.name, source)]
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{source} is not a CSV that can be read: {reason(error)}.") from None
    column = next((name for name in ("path", "filename") if name in table), None)
    if column is None or table.empty or (table[column] == "").any():
        raise UserError(f"{source} needs a column 'path' or 'filename', with a path in every row.")
    return [(name, source.parent / name) for name in table[column]]


def read_batches(
    picture: Callable[[Path], Tensor],
    images: Sequence[tuple[str, Path]],
    batch_size: int,
    unreadable: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """Batches for ``predict_scores``; while the network works on one, threads decode the next.

    Args:
        picture: reads one as uint8 ``[3, H, W]``, or raises OSError.
        images: names and paths.
        unreadable: takes name -> why of the pictures that cannot be decoded, which are left out.
    """

    def read(index: int) -> tuple[int, Tensor | OSError]:
        try:
            return index, picture(images[index][1])
        except OSError as error:
            return index, error

    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding releases the GIL

        def begin(start: int) -> Iterator[tuple[int, Tensor | OSError]]:
            return pool.map(read, range(start, min(start + batch_size, len(images))))

        coming = begin(0)
        for start in range(0, len(images), batch_size):
            current, coming = coming, begin(start + batch_size)
            read_now: list[tuple[int, Tensor]] = []
            for index, found in current:
                if isinstance(found, OSError):
                    unreadable[images[index][0]] = reason(found)
                else:
                    read_now.append((index, found))
            if read_now:
                index_of, pictures = zip(*read_now, strict=True)
                yield {"image": torch.stack(pictures), "index": np.array(index_of)}
