"""From a sample table to a set of shards; interrupted, the same call goes on."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError, reason
from product_cls.core.files import digest
from product_cls.core.progress import progress_bar
from product_cls.data.pictures import load_picture, resize
from product_cls.data.samples import SPLITS, check_samples, samples_fingerprint
from product_cls.data.store import OnUnreadable, UnreadablePicturesError, write_report
from product_cls.data.stream.files import webdataset
from product_cls.data.stream.reading import DONE, INDEX, SAMPLES, UNFINISHED
from product_cls.data.synthetic_sets import Kind, in_range, make_once, write_whole

VERSION = 1  # raise it when what is written changes
QUALITY = 95  # of pictures that are made smaller; at it JPEG's losses are hard to see
KIND = Kind("shards", DONE, UNFINISHED)


@dataclass(frozen=True)
class Shard:
    """A shard to be.

    Attributes:
        name: of the file.
        rows: int64, rows of the sample table, in the order in which they are written.
    """

    name: str
    rows: np.ndarray


def plan_shards(samples: pd.DataFrame, pictures: int) -> list[Shard]:
    """Which picture goes into which shard.

    Parts do not share shards. The pictures to learn from are shuffled once, so that a shard is a
    sample of all classes; those of the test part keep their order.

    Args:
        samples: the sample table.
        pictures: of each shard but the last of its part.
    """
    shards = []
    for split in SPLITS:
        rows = np.flatnonzero(samples["split"] == split)
        if split != "test":
            rows = np.random.default_rng(0).permutation(rows)
        starts = range(0, len(rows), pictures)
        shards += [
            Shard(f"{split}-{k:06d}.tar", rows[start : start + pictures])
            for k, start in enumerate(starts)
        ]
    return shards


def write_stream(
    samples: pd.DataFrame,
    out: Path,
    *,
    pictures: int,
    side: int | None,
    on_unreadable: OnUnreadable,
    warn: Callable[[str], None] = print,
) -> None:
    """Write a set of shards to ``out``, unless it is there.

    All pictures are decoded to see that they can be.

    Args:
        samples: the sample table.
        out: the set's folder; interrupted, the same call goes on from the shards it has.
        pictures: in a shard.
        side: pixels of the shorter side to which larger pictures are brought, as JPEG; None keeps
            the bytes of every file as they are.
        on_unreadable: ``stop`` with all pictures named that cannot be decoded, or ``drop`` them.
        warn: takes the warning.

    Raises:
        UnreadablePicturesError: with ``stop``, after all pictures were tried.
        UserError: no WebDataset; arguments out of range; a folder that holds something else or
            cannot be written to; no picture to learn from is left.
    """
    in_range("shard", pictures, 1, 10**6)
    if side is not None:
        in_range("side", side, 8, 10**5)
    columns = [str(column) for column in samples if column != "path"]
    parameters = {
        "version": VERSION,
        "samples": samples_fingerprint(samples, columns),
        "pictures": len(samples),
        "shard": pictures,
        "side": side,
    }

    def require() -> None:
        webdataset("Writing shards")

    def fill() -> None:
        plan = plan_shards(samples, pictures)
        reasons = _write_shards(samples, plan, out, side, stop=on_unreadable == "stop")
        report = write_report(out, reasons)
        if reasons and on_unreadable == "stop":
            raise UnreadablePicturesError(reasons, report)
        dropped = _write_index(samples, plan, out)
        if dropped:
            warn(
                f"{len(dropped)} pictures that cannot be decoded are left out, the first is "
                f"{dropped[0]}."
            )

    make_once(out, KIND, parameters, require=require, fill=fill)


def _write_shards(
    samples: pd.DataFrame, plan: list[Shard], out: Path, side: int | None, *, stop: bool
) -> dict[str, str]:
    """Write those that are not there; path -> why of pictures that cannot be decoded."""
    paths = samples["path"].tolist()
    reasons: dict[str, str] = {}

    def encode(row: int) -> bytes | None:
        try:
            return encoded(Path(paths[row]), side)
        except (OSError, cv2.error) as error:
            reasons[paths[row]] = reason(error)
            return None

    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress_bar(total=len(samples), desc="shards", unit="img", leave=False) as bar,
    ):
        for shard in plan:
            if not (out / shard.name).is_file():
                try:
                    made = list(pool.map(encode, shard.rows.tolist()))
                except BaseException:  # Ctrl-C must not wait for the pictures still to come
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                if not (stop and reasons):  # then only the list is of interest
                    _write_shard(out / shard.name, shard.rows, paths, made)
            bar.update(len(shard.rows))
    return reasons


def encoded(path: Path, side: int | None) -> bytes:
    """A picture's bytes as they go into a shard: the file's own, or a smaller JPEG.

    Args:
        path: of the picture.
        side: pixels of the shorter side, as for ``write_stream``.

    Raises:
        OSError: it cannot be decoded.
    """
    data = path.read_bytes()
    picture = load_picture(io.BytesIO(data))
    height, width = picture.shape[:2]
    if side is None or min(height, width) <= side:
        return data
    scale = side / min(height, width)
    smaller = resize(picture, (round(height * scale), round(width * scale)))
    buffer = io.BytesIO()
    Image.fromarray(smaller).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _write_shard(file: Path, rows: np.ndarray, paths: list[str], made: list[bytes | None]) -> None:
    from webdataset import TarWriter

    partial = file.with_name(f"{file.name}.tmp")
    with (
        partial.open("wb") as stream,
        # No times and names, so that the same pictures make the same shard.
        TarWriter(stream, encoder=False, mtime=0, user="", group="") as tar,
    ):
        for row, data in zip(rows.tolist(), made, strict=True):
            if data is not None:
                jpeg = data[:2] == b"\xff\xd8"
                kind = "jpg" if jpeg else Path(paths[row]).suffix.lower().lstrip(".")
                tar.write({"__key__": f"{row:09d}", kind: data})
    os.replace(partial, file)


def _write_index(samples: pd.DataFrame, plan: list[Shard], out: Path) -> list[str]:
    """Write the sample table and the index, from the shards as they are; ids that these lack."""
    places = np.full(len(samples), None, dtype=object)
    for shard in plan:
        for row, offset, size in _members(out / shard.name):
            places[row] = f"{shard.name}/{offset}+{size}"
    there = np.array([place is not None for place in places])
    table = samples.assign(path=places)[there]
    check_samples(table, out, label=None)  # what was left out may be all there was to learn from
    text = table.to_csv(index=False)
    shards = [
        [shard.name, (out / shard.name).stat().st_size, int(there[shard.rows].sum())]
        for shard in plan
    ]
    index = {
        "shards": shards,
        "columns": {str(column): _kind(table[column]) for column in table},
        "samples": digest(text),
    }
    write_whole(out / SAMPLES, text.encode())
    write_whole(out / INDEX, json.dumps(index).encode())
    return samples["id"][~there].tolist()


def _members(file: Path) -> Iterator[tuple[int, int, int]]:
    """Row, offset and size in bytes of each picture in a shard."""
    with tarfile.open(file) as tar:
        for member in tar:
            yield int(member.name.partition(".")[0]), member.offset_data, member.size


def _kind(column: "pd.Series[Any]") -> str:
    """What pandas is to read a column as, so that '01' stays text and 1 a number."""
    if pd.api.types.is_numeric_dtype(column):
        return str(column.dtype)
    known = column.dropna()
    if not all(isinstance(value, str) for value in known):
        raise UserError(
            f"The column '{column.name}' of the sample table holds more than text, or text and "
            f"numbers; it must be of one kind."
        )
    return "str"
