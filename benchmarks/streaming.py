"""Pictures per CPU second from shards (LitData, WebDataset, ours), files and an image store.

    python benchmarks/streaming.py pictures=4000 source=256 size=96

prints a table and writes benchmarks/results/streaming.json. ``--help`` lists the settings. LitData
is in no extra: pip install litdata.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pandas as pd
from common import report, waves
from PIL import Image

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.pictures import load_picture, resize
from product_cls.data.samplers import ShardSampler
from product_cls.data.store import build_store
from product_cls.data.stream.reading import StreamStore, read_stream
from product_cls.data.stream.writing import write_stream

PASSES = 3  # the second and third are timed, with the files in memory
BY_INDEX = 400  # pictures, for the slowest method
MEGABYTE = 2**20
Way = Callable[[int], Iterator[Any]]  # pass number -> the bytes of its pictures, or the pictures


@dataclass
class Arguments:
    """Reads all pictures in a training order, each method in its own single process.

    files: one file per picture. LitData: its own order, and by index in a random order.
    WebDataset: its own order (shards shuffled, a buffer of `window`). ours: tar shards by offset,
    in the order of `window`. store: the image store, with pictures already decoded.
    bytes /s: pictures without decoding. pictures /s: decoded and resized. memory: of reading
    without decoding, in MiB. Seconds are CPU time, so that other work on the machine does not
    count; files are in the page cache.
    """

    pictures: int = 4000
    source: int = 256
    size: int = 96
    shard: int = 500
    window: int = 1000
    out: str | None = None


def write_pictures(root: Path, count: int, side: int) -> pd.DataFrame:
    """JPEG files and their sample table."""
    paths = [root / f"{k:06d}.jpg" for k in range(count)]
    noise = np.random.default_rng(0).normal(0, 8, (side, side, 3))
    for start in range(0, count, 256):
        part = paths[start : start + 256]
        for path, picture in zip(part, waves(len(part), side, seed=start), strict=True):
            noisy = np.roll(noise, start, axis=0) + picture
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    names = [path.name for path in paths]
    return pd.DataFrame(
        {"id": names, "path": list(map(str, paths)), "split": "train", "label": "a"}
    )


def ways(samples: pd.DataFrame, folder: Path, arguments: Arguments) -> dict[str, Way]:
    """The methods, after writing their shards."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter
    from webdataset import WebDataset

    count, size = len(samples), (arguments.size, arguments.size)
    write_stream(
        samples, folder / "tar", shard_size=arguments.shard, side=None, on_unreadable="stop"
    )
    writer = BinaryWriter(str(folder / "lit"), chunk_size=arguments.shard)
    for k, path in enumerate(samples["path"]):
        writer[k] = Path(path).read_bytes()
    writer.done()
    writer.merge()
    store = build_store(samples, folder / "store", size)
    streamed = StreamStore(
        read_stream(str(folder / "tar"), cache=folder),
        str(folder / "tar"),
        size,
        fit="squash",
        window=arguments.window,
        cache_gb=1,
        cache=folder,
    )
    tars = sorted(map(str, (folder / "tar").glob("*.tar")))

    def order(turn: int) -> list[int]:
        return np.random.default_rng(turn).permutation(count).tolist()

    def files(turn: int) -> Iterator[bytes]:
        paths = samples["path"].tolist()
        return (Path(paths[k]).read_bytes() for k in order(turn))

    def lit(turn: int) -> Iterator[bytes]:
        return iter(StreamingDataset(str(folder / "lit"), shuffle=True, seed=turn))

    def lit_by_index(turn: int) -> Iterator[bytes]:
        dataset = StreamingDataset(str(folder / "lit"))
        return (dataset[k] for k in order(turn)[:BY_INDEX])

    def web(turn: int) -> Iterator[bytes]:
        dataset = WebDataset(tars, shardshuffle=len(tars), seed=turn).shuffle(arguments.window)
        return (sample["jpg"] for sample in dataset)

    def ours(turn: int) -> Iterator[bytes]:
        sampler = ShardSampler(
            streamed.shards,
            streamed.offsets,
            window=arguments.window,
            fetch=streamed.files.fetch_soon,
            shuffle=True,
            seed=turn,
        )
        for row, _ in sampler:
            place = int(streamed.shards[row]), int(streamed.offsets[row]), int(streamed.sizes[row])
            yield streamed.files.read(*place)

    def stored(turn: int) -> Iterator[np.ndarray]:
        return (store.picture(k) for k in order(turn))

    return {
        "files": files,
        "LitData, its order": lit,
        "LitData, by index": lit_by_index,
        "WebDataset, its order": web,
        "ours": ours,
        "store (decoded)": stored,
    }


def peak_mib() -> float:
    """Peak memory of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def speed(items: Callable[[int], Iterable[Any]]) -> float:
    """Items per second of CPU time of all threads: the median of the later passes."""
    speeds = []
    for turn in range(PASSES):
        begun = time.process_time()
        count = sum(1 for _ in items(turn))
        speeds.append(count / (time.process_time() - begun))
    return median(speeds[1:])


def measure(name: str, way: Way, size: int, results: Any) -> None:
    """Put one row into ``results``."""
    cv2.setNumThreads(0)

    def decoded(turn: int) -> Iterator[np.ndarray]:
        for item in way(turn):
            data = item if isinstance(item, np.ndarray) else load_picture(BytesIO(item))
            yield resize(data, (size, size))

    before = peak_mib()
    read = speed(way)
    memory = peak_mib() - before
    results.put(
        {"way": name, "bytes /s": read, "pictures /s": speed(decoded), "memory MiB": memory}
    )


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/streaming.py")
    if arguments.pictures < BY_INDEX:
        raise UserError(f"pictures={arguments.pictures}; allowed: {BY_INDEX} or more.")
    context = multiprocessing.get_context("fork")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        samples = write_pictures(folder / "pictures", arguments.pictures, arguments.source)
        kib = sum(Path(path).stat().st_size for path in samples["path"]) / len(samples) / 1024
        for label, way in ways(samples, folder, arguments).items():
            results = context.SimpleQueue()
            process = context.Process(target=measure, args=(label, way, arguments.size, results))
            process.start()
            process.join()
            if process.exitcode != 0:
                raise UserError(f"The way '{label}' ended with status {process.exitcode}.")
            rows.append(results.get())
    title = (
        f"{arguments.pictures} pictures of {arguments.source} px, {kib:.0f} KiB each, "
        f"to {arguments.size} px; one process"
    )
    report("streaming", rows, title, arguments.out, "litdata", "webdataset", "pillow")


if __name__ == "__main__":
    guard(main)
