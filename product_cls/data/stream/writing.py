"""Writes the pictures of a sample table into a set of shards; can resume an interrupted call."""

import io
import json
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
from product_cls.core.extras import missing_extra
from product_cls.core.files import digest, file_checksum, whole_file, write_text_whole
from product_cls.core.progress import progress_bar
from product_cls.core.tables import csv_text
from product_cls.data.decoding_room import ROOM
from product_cls.data.pictures import (
    MAX_PIXELS,
    check_max_pixels,
    load_picture,
    picture_file,
    resize,
)
from product_cls.data.samples import SPLITS, check_samples, samples_fingerprint
from product_cls.data.store import OnUnreadable, UnreadablePicturesError, write_report
from product_cls.data.stream.index import DONE, INDEX, SAMPLES, UNFINISHED
from product_cls.data.synthetic_sets import SetKind, make_once

VERSION = 1  # raise it after a change of the written bytes
QUALITY = 95  # JPEG quality of downsized pictures, at which losses are hard to see
KIND = SetKind("shards", DONE, UNFINISHED)


@dataclass(frozen=True)
class Shard:
    """A shard to be written.

    Attributes:
        name: file name.
        rows: int64 ``[N]``, rows of the sample table, in the order of writing.
    """

    name: str
    rows: np.ndarray


def plan_shards(samples: pd.DataFrame, shard_size: int) -> list[Shard]:
    """Distribute the pictures over shards.

    Splits do not share shards. Training and validation pictures are shuffled once, so that each
    shard is a sample of all classes; test pictures keep their order.

    Args:
        samples: the sample table.
        shard_size: pictures in each shard but the last of its split.
    """
    shards = []
    for split in SPLITS:
        rows = np.flatnonzero(samples["split"] == split)
        if split != "test":
            rows = np.random.default_rng(0).permutation(rows)
        starts = range(0, len(rows), shard_size)
        shards += [
            Shard(f"{split}-{k:06d}.tar", rows[start : start + shard_size])
            for k, start in enumerate(starts)
        ]
    return shards


def write_stream(
    samples: pd.DataFrame,
    out: Path,
    *,
    shard_size: int,
    side: int | None,
    on_unreadable: OnUnreadable,
    max_pixels: int = MAX_PIXELS,
    warn: Callable[[str], None] = print,
) -> None:
    """Write a set of shards to ``out`` unless the set there is complete.

    Every picture is decoded once, so that an unreadable one is noticed here.

    Args:
        samples: the sample table.
        out: the set's folder; after an interruption, the same call resumes from its shards.
        shard_size: pictures in a shard.
        side: larger pictures are reduced to this shorter side, in pixels, as JPEG; None keeps every
            file's own bytes.
        on_unreadable: for pictures that cannot be decoded: ``stop`` with an error that names them
            all, or ``drop`` them with a warning.
        max_pixels: larger pictures count as undecodable.
        warn: called with the warning.

    Raises:
        UnreadablePicturesError: with ``stop``, after all pictures were tried.
        ValueError: an argument out of range.
        UserError: WebDataset is missing, the folder holds something else or cannot be written, or
            no training picture is left.
    """
    if not 1 <= shard_size <= 10**6:
        raise ValueError(f"shard_size={shard_size}; allowed: 1 to {10**6}.")
    if side is not None and not 8 <= side <= 10**5:
        raise ValueError(f"side={side}; allowed: 8 to {10**5}, or null.")
    check_max_pixels(max_pixels)
    columns = [str(column) for column in samples if column != "path"]
    parameters = {
        "version": VERSION,
        "samples": samples_fingerprint(samples, columns),
        "pictures": len(samples),
        "shard": shard_size,
        "side": side,
    }

    def require() -> None:
        try:
            import webdataset  # noqa: F401
        except ImportError:
            raise missing_extra("Writing shards needs WebDataset", "streaming") from None

    def fill() -> None:
        plan = plan_shards(samples, shard_size)
        reasons = _write_shards(samples, plan, out, side, max_pixels, stop=on_unreadable == "stop")
        report = write_report(out, reasons)
        if reasons and on_unreadable == "stop":
            raise UnreadablePicturesError(reasons, report)
        dropped = _write_index(samples, plan, out)
        if dropped:
            warn(
                f"{len(dropped)} pictures cannot be decoded and are left out, the first is "
                f"{dropped[0]}."
            )

    make_once(out, KIND, parameters, require=require, fill=fill)


def _write_shards(
    samples: pd.DataFrame,
    plan: list[Shard],
    out: Path,
    side: int | None,
    max_pixels: int,
    *,
    stop: bool,
) -> dict[str, str]:
    """Write the missing shards; return path -> reason for pictures that cannot be decoded."""
    paths = samples["path"].tolist()
    reasons: dict[str, str] = {}

    def encode(row: int) -> bytes | None:
        try:
            with ROOM.held():
                return encode_picture(Path(paths[row]), side, max_pixels)
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
                    contents = list(pool.map(encode, shard.rows.tolist()))
                except BaseException:  # Ctrl-C must not wait for the remaining pictures
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                if not (stop and reasons):  # after a failure, only collect all unreadable pictures
                    _write_shard(out / shard.name, shard.rows, paths, contents)
            bar.update(len(shard.rows))
    return reasons


def encode_picture(path: Path, side: int | None, max_pixels: int) -> bytes:
    """The bytes of a picture for a shard: those of its file, or a smaller JPEG.

    Args:
        path: the picture's file.
        side: shorter side in pixels, as for ``write_stream``.
        max_pixels: larger pictures are refused.

    Raises:
        OSError: the picture cannot be decoded.
    """
    picture_file(path)  # refuses a pipe, which would block for ever
    data = path.read_bytes()
    picture = load_picture(io.BytesIO(data), max_pixels=max_pixels)
    height, width = picture.shape[:2]
    if side is None or min(height, width) <= side:
        return data
    scale = side / min(height, width)
    smaller = resize(picture, (round(height * scale), round(width * scale)))
    buffer = io.BytesIO()
    Image.fromarray(smaller).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _write_shard(
    file: Path, rows: np.ndarray, paths: list[str], contents: list[bytes | None]
) -> None:
    from webdataset import TarWriter

    with (
        whole_file(file) as partial,
        partial.open("wb") as stream,
        # No times and user names, so that the same pictures give the same shard.
        TarWriter(stream, encoder=False, mtime=0, user="", group="") as tar,
    ):
        for row, data in zip(rows.tolist(), contents, strict=True):
            if data is not None:
                jpeg = data[:2] == b"\xff\xd8"
                suffix = "jpg" if jpeg else Path(paths[row]).suffix.lower().lstrip(".")
                tar.write({"__key__": f"{row:09d}", suffix: data})


def _write_index(samples: pd.DataFrame, plan: list[Shard], out: Path) -> list[str]:
    """Write the sample table and the index from the finished shards; return the dropped ids."""
    places = np.full(len(samples), None, dtype=object)
    for shard in plan:
        for row, offset, size in _members(out / shard.name):
            places[row] = f"{shard.name}/{offset}+{size}"
    kept = np.array([place is not None for place in places])
    table = samples.assign(path=places)[kept]
    check_samples(table, out, label=None)  # fails if no training picture is readable
    text = csv_text(table)
    shards = [
        [shard.name, (out / shard.name).stat().st_size, int(kept[shard.rows].sum())]
        for shard in plan
    ]
    index = {
        "shards": shards,
        "columns": {str(column): _dtype(table[column]) for column in table},
        "samples": digest(text),
        "checksums": {shard.name: file_checksum(out / shard.name) for shard in plan},
    }
    write_text_whole(out / SAMPLES, text)
    write_text_whole(out / INDEX, json.dumps(index))
    return samples["id"][~kept].tolist()


def _members(file: Path) -> Iterator[tuple[int, int, int]]:
    """Row, offset and size in bytes of each picture in a shard."""
    with tarfile.open(file) as tar:
        for member in tar:
            yield int(member.name.partition(".")[0]), member.offset_data, member.size


def _dtype(column: "pd.Series[Any]") -> str:
    """The dtype to read a column with, so that '01' stays text and 1 stays a number."""
    if pd.api.types.is_numeric_dtype(column):
        return str(column.dtype)
    values = column.dropna()
    if not all(isinstance(value, str) for value in values):
        raise UserError(
            f"The column '{column.name}' of the sample table mixes text with other values; it must "
            f"be all text or all numbers."
        )
    return "str"
