"""Pictures to predict: lists them, and decodes them in batches ahead of the network."""

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
from product_cls.data.source_files import list_pictures

Read = TypeVar("Read")


def list_images(source: Path) -> list[tuple[str, Path]]:
    """Names and paths of the pictures in a folder or a CSV, or of a single picture.

    Raises:
        UserError: there is no such file or folder, the folder holds no picture, or the CSV has no
            column of paths.
    """
    if source.is_dir():
        images = [(str(path.relative_to(source)), path) for path in list_pictures(source)]
        if not images:
            raise UserError(f"{source} holds no pictures.")
        return images
    if not source.is_file():
        raise UserError(f"There is no folder or file {source}.")
    if source.suffix.lower() != ".csv":
        return [(source.name, source)]
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{source} cannot be read as a CSV: {reason(error)}.") from None
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
    """Read items in batches; while the caller uses one batch, threads read the next.

    Args:
        read: returns the item with a number in [0, ``count``), or raises OSError.
        count: number of items.
        batch_size: items in a batch.
        failed: called with number and reason for each item that cannot be read, which is left out.

    Yields:
        For each batch, number -> item; empty if none of its items can be read.
    """

    def attempt(number: int) -> Read | OSError:
        try:
            return read(number)
        except OSError as error:
            return error

    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding releases the GIL

        def start(first: int) -> Iterator[tuple[int, Read | OSError]]:
            numbers = range(first, min(first + batch_size, count))
            return zip(numbers, pool.map(attempt, numbers), strict=True)

        next_batch = start(0)
        for first in range(0, count, batch_size):
            current, next_batch = next_batch, start(first + batch_size)
            batch: dict[int, Read] = {}
            for number, result in current:
                if isinstance(result, OSError):
                    failed(number, reason(result))
                else:
                    batch[number] = result
            yield batch


def read_batches(
    picture: Callable[[Path], Tensor],
    images: Sequence[tuple[str, Path]],
    batch_size: int,
    unreadable: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """Batches for ``predict_scores``; while the network runs on a batch, the next is decoded.

    Args:
        picture: decodes a file to uint8 ``[3, H, W]``, or raises OSError.
        images: names and paths.
        batch_size: pictures in a batch.
        unreadable: receives name -> reason for pictures that cannot be decoded, which are left out.

    Yields:
        ``{"image": uint8 [B, 3, H, W], "index": int64 [B]}``, the index into ``images``.
    """

    def failed(number: int, why: str) -> None:
        unreadable[images[number][0]] = why

    for batch in read_ahead(
        lambda number: picture(images[number][1]), len(images), batch_size, failed
    ):
        if batch:
            yield {"image": torch.stack(list(batch.values())), "index": np.array(list(batch))}
