"""Pictures to be named: which they are, and from their files in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.data.readers import list_pictures

Read = TypeVar("Read")


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


def read_ahead(
    read: Callable[[int], Read],
    count: int,
    batch_size: int,
    failed: Callable[[int, str], None],
) -> Iterator[dict[int, Read]]:
    """Number -> what was read, a batch at a time; meanwhile threads read the next.

    Args:
        read: reads one of ``count``, or raises OSError.
        failed: is told the number and why of each that cannot be read, which is left out. A batch
            of which nothing is left comes empty.
    """

    def attempt(number: int) -> Read | OSError:
        try:
            return read(number)
        except OSError as error:
            return error

    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding releases the GIL

        def begin(start: int) -> Iterator[tuple[int, Read | OSError]]:
            batch = range(start, min(start + batch_size, count))
            return zip(batch, pool.map(attempt, batch), strict=True)

        coming = begin(0)
        for start in range(0, count, batch_size):
            current, coming = coming, begin(start + batch_size)
            batch: dict[int, Read] = {}
            for number, found in current:
                if isinstance(found, OSError):
                    failed(number, reason(found))
                else:
                    batch[number] = found
            yield batch


def read_batches(
    picture: Callable[[Path], Tensor],
    images: Sequence[tuple[str, Path]],
    batch_size: int,
    unreadable: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """Batches for ``predict_scores``; while the network works on one, the next is decoded.

    Args:
        picture: reads one as uint8 ``[3, H, W]``, or raises OSError.
        images: names and paths.
        unreadable: takes name -> why of the pictures that cannot be decoded, which are left out.
    """

    def failed(number: int, why: str) -> None:
        unreadable[images[number][0]] = why

    for batch in read_ahead(
        lambda number: picture(images[number][1]), len(images), batch_size, failed
    ):
        if batch:
            yield {"image": torch.stack(list(batch.values())), "index": np.array(list(batch))}
