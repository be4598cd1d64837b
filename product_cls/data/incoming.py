"""Pictures to predict: lists them, and decodes them in batches ahead of the network."""

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.core.names import is_text, nfc, shown
from product_cls.data.class_folders import picture_ids
from product_cls.data.decoding_room import ROOM
from product_cls.data.listing import (
    SUFFIXES,
    leads_to_file,
    leads_to_folder,
    list_pictures,
    not_text_sentence,
)
from product_cls.data.pictures import resize
from product_cls.data.source_files import FileFinder
from product_cls.data.source_tables import read_table

# Height and width in pixels, and how pictures are resized to them (``data.pictures.resize``).
Shape = tuple[tuple[int, int], Any]


def list_images(source: Path) -> list[tuple[str, Path]]:
    """Names and paths of the pictures in a folder or a CSV, or of a single picture.

    Names are in Unicode NFC. Logs a warning that counts the files of a folder that are left out.

    Raises:
        UserError: there is no such file or folder, the folder holds no picture, a name is not
            UTF-8, or the CSV has no column of paths.
    """
    if leads_to_folder(source):
        pictures = list_pictures(source)
        if not pictures:
            raise UserError(f"{shown(source)} holds no pictures ({', '.join(SUFFIXES)}).")
        return list(zip(picture_ids(pictures, source), pictures, strict=True))
    if not leads_to_file(source):
        if os.path.lexists(source):  # a pipe or a device could be waited for without end
            raise UserError(f"{shown(source)} is not a regular file.")
        raise UserError(f"There is no folder or file {shown(source)}.")
    if sentence := not_text_sentence([] if is_text(str(source)) else [source]):
        raise UserError(sentence)
    if not is_image_table(source):
        return [(nfc(source.name), source)]
    table = read_image_table(source)
    finder = FileFinder(source.parent)
    # A picture that does not exist is reported with those that cannot be decoded.
    return [(name, finder.find(name) or source.parent / name) for name in table["path"]]


def is_image_table(source: Path) -> bool:
    """Whether a file is a table of pictures instead of a picture."""
    return source.suffix.lower() in (".csv", ".tsv")


def read_image_table(source: Path) -> pd.DataFrame:
    """A CSV of pictures as text; the column ``path`` names them.

    Raises:
        UserError: it cannot be read, or has no column ``path`` or ``filename`` with a path in every
            row.
    """
    try:
        table = read_table(source, [], dtype=str)
    except UserError:
        raise
    except ValueError:
        raise UserError(
            f"{shown(source)} cannot be read: it is neither UTF-8 nor UTF-16 nor CP949; save it as "
            f"UTF-8."
        ) from None
    column = next((name for name in ("path", "filename") if name in table), None)
    if column is None or table[column].isna().any():
        raise UserError(
            f"{shown(source)} needs a column 'path' or 'filename', with a path in every row."
        )
    return table.assign(path=table[column])


def decoded_batches(
    pixels: Callable[[int], np.ndarray],
    count: int,
    shapes: Collection[Shape],
    batch_size: int,
    failed: Callable[[int, str], None],
) -> Iterator[tuple[list[int], dict[Shape, Tensor]]]:
    """Decode and resize pictures in batches; threads work on the next while the caller uses one.

    Args:
        pixels: decodes the picture with a number in [0, ``count``) to RGB uint8 ``[H, W, 3]``, or
            raises OSError.
        count: number of pictures.
        shapes: what to resize each picture to; it is decoded once for all of them.
        batch_size: pictures in a batch.
        failed: called with number and reason for each picture that cannot be decoded, which is left
            out.

    Yields:
        The numbers of the B decoded pictures of a batch, and the pictures by shape, each uint8
        ``[B, 3, H, W]``. A batch of which no picture can be decoded is skipped.
    """

    def attempt(number: int) -> dict[Shape, Tensor] | OSError:
        try:
            with ROOM.held():
                picture = pixels(number)
                return {
                    shape: torch.from_numpy(resize(picture, *shape).transpose(2, 0, 1).copy())
                    for shape in shapes
                }
        except OSError as error:
            return error

    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding releases the GIL

        def start(first: int) -> Iterator[tuple[int, dict[Shape, Tensor] | OSError]]:
            numbers = range(first, min(first + batch_size, count))
            return zip(numbers, pool.map(attempt, numbers), strict=True)

        next_batch = start(0)
        for first in range(0, count, batch_size):
            current, next_batch = next_batch, start(first + batch_size)
            decoded: dict[int, dict[Shape, Tensor]] = {}
            for number, result in current:
                if isinstance(result, OSError):
                    failed(number, reason(result))
                else:
                    decoded[number] = result
            if decoded:
                yield (
                    list(decoded),
                    {
                        shape: torch.stack([by_shape[shape] for by_shape in decoded.values()])
                        for shape in shapes
                    },
                )
