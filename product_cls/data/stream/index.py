"""The index of a set of shards, with every value checked before it is used."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from product_cls.core.errors import UserError, reason
from product_cls.data.pictures import place_in_shard

DONE, UNFINISHED = "stream.json", "stream-unfinished.json"
INDEX, SAMPLES = "index.json", "samples.csv"
INDEX_LIMIT, SAMPLES_LIMIT = 10**8, 4 * 10**9  # bytes; a million shards, tens of millions of rows
LARGEST_SHARD = 2**50  # bytes
SHARD_NAME = re.compile(r"[\w-][\w.-]*\.tar")
NUMBERS = re.compile(r"u?int\d+|float\d+|bool")  # dtypes of columns


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a set, with every value checked.

    Raises:
        UserError: it is missing or damaged.
    """
    file = folder / INDEX
    try:
        if file.stat().st_size > INDEX_LIMIT:
            raise ValueError(f"it is larger than {INDEX_LIMIT} bytes")
        index = json.loads(file.read_text())
        _check_index(index)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {reason(error)}.") from None
    assert isinstance(index, dict)
    return index


def _check_index(index: Any) -> None:
    """Check the types and ranges of an index; raises what ``read_index`` catches."""
    if not index["shards"] or not index["columns"] or not isinstance(index["samples"], str):
        raise ValueError("it lists no shards or no columns")
    for name, size, count in index["shards"]:
        if not SHARD_NAME.fullmatch(name):
            raise ValueError(f"a shard is called '{name}'; allowed: names such as train-000000.tar")
        for number in (size, count):
            if type(number) is not int or not 0 <= number <= LARGEST_SHARD:
                raise ValueError(f"{name} has the size or count {number}")
    for column, dtype in index["columns"].items():
        if dtype != "str" and not NUMBERS.fullmatch(dtype):
            raise ValueError(f"the column '{column}' is of type '{dtype}'")
    names = [name for name, _, _ in index["shards"]]
    if len(set(names)) < len(names):
        raise ValueError("two shards have one name")
    if not all(isinstance(value, str) for value in index.get("checksums", {}).values()):
        raise ValueError("a checksum is no text")


def picture_places(paths: Iterable[str], shards: list[list[Any]]) -> np.ndarray:
    """Where pictures are, from the paths of a sample table.

    Args:
        paths: ``SHARD.tar/OFFSET+SIZE``, with or without a folder or an address before it.
        shards: name, size in bytes and number of pictures of each shard.

    Returns:
        int64 ``[N, 3]``: number of the shard, offset and size in bytes.

    Raises:
        ValueError: a path that is of another form, names another shard or lies outside it.
    """
    numbers = {name: number for number, (name, _, _) in enumerate(shards)}
    places = []
    for path in paths:
        place = place_in_shard(path)
        shard = None if place is None else numbers.get(place[0].rpartition("/")[2])
        if place is None or shard is None or place[1] + place[2] > shards[shard][1]:
            raise ValueError(f"no picture of these shards is at '{path}'")
        places.append((shard, place[1], place[2]))
    return np.array(places, np.int64).reshape(-1, 3)
