"""Growth of time and memory with the number of pictures and classes.

    python benchmarks/growth.py                                                    # minutes
    python benchmarks/growth.py pictures=[1000,10000,100000] classes=[1000,10000,100000]
    python benchmarks/growth.py only=[folds,ensemble] pictures=[1000,10000,100000]

prints a table and writes benchmarks/results/growth.json. ``--help`` lists the settings.
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import PrivateMemory, in_fresh_process, report
from growth_parts import CLASSES_PARTS, PICTURES_PARTS

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError

WARM_UP = 250  # pictures or classes, uncounted: triggers late imports
# Less than this is start-up and noise, which says nothing about growth.
LEAST_SECONDS, LEAST_MIB = 0.02, 20.0
LINEAR = 1.2  # time or memory ~ size^1.2: allows for noise, and n log n passes


@dataclass
class Arguments:
    """Each part at each size in its own process, with one thread except where the store decodes.

    pictures: JPEG files of 32 pixels (links to a thousand distinct ones), in 50 classes; for
    ensemble and report, the test part, with 50 scores per picture. classes: of heads with batches
    of 64, and with 5 pictures each where there are pictures.

    cpu s: of all threads; a busy machine changes it less than wall time. own MiB: peak memory
    beyond the input, without mapped files. power: p in cpu s ~ size^p since the previous size (1:
    linear), where the time is long enough to tell; memory power likewise. only: names of parts;
    empty means all. A part that fails or runs out of memory gets an error and is not tried at
    larger sizes.
    """

    pictures: list[int] = field(default_factory=lambda: [1000, 10000])
    classes: list[int] = field(default_factory=lambda: [1000, 10000])
    only: list[str] = field(default_factory=list)
    folder: str = tempfile.gettempdir()
    out: str | None = None


def measure(part: str, size: int, place: str) -> dict[str, Any]:
    """Wall seconds, CPU seconds of all threads, and memory."""
    prepare = (PICTURES_PARTS | CLASSES_PARTS)[part]
    with (
        tempfile.TemporaryDirectory(dir=place) as small,
        tempfile.TemporaryDirectory(dir=place) as folder,
    ):
        prepare(WARM_UP, Path(small))()
        work = prepare(size, Path(folder))
        with PrivateMemory() as memory:
            started, begun = time.perf_counter(), time.process_time()
            work()
            seconds, busy = time.perf_counter() - started, time.process_time() - begun
    own = None if memory.peak is None else memory.peak - memory.start
    return {"seconds": seconds, "cpu s": busy, "own MiB": own}


def power(before: dict[str, Any], row: dict[str, Any], key: str, least: float) -> float | None:
    """p of ``key`` ~ size^p between two rows; None if the smaller value is too small to tell."""
    low, high = before.get(key), row.get(key)
    if low is None or high is None or high < least:
        return None
    # A value below the minimum may be anything up to it, so this p is too small, never too large.
    return math.log(high / max(low, least)) / math.log(row["size"] / before["size"])


def measure_part(part: str, of: str, sizes: list[int], place: str) -> list[dict[str, Any]]:
    """One row for each size, ascending."""
    rows: list[dict[str, Any]] = []
    for size in sorted(sizes):
        print(f"{part}, {size:,} {of}", file=sys.stderr)
        row: dict[str, Any] = {"part": part, "of": of, "size": size}
        try:
            row |= in_fresh_process(measure, part, size, place, start="fork")
        except (UserError, BrokenProcessPool, MemoryError) as error:
            rows.append(row | {"error": str(error) or type(error).__name__})
            break
        if rows:
            row["power"] = power(rows[-1], row, "cpu s", LEAST_SECONDS)
            row["memory power"] = power(rows[-1], row, "own MiB", LEAST_MIB)
        rows.append(row)
    return rows


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences about parts whose time or memory outgrows the size."""
    said = []
    for row in rows:
        for key, what, unit in (("power", "cpu s", "s"), ("memory power", "own MiB", "MiB")):
            if (found := row.get(key)) is not None and found > LINEAR:
                said.append(
                    f"More than linear: {row['part']}, {row['size']:,} {row['of']}: "
                    f"{row[what]:.1f} {unit}, size^{found:.2f} since the size before."
                )
    return said


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/growth.py")
    known = [*PICTURES_PARTS, *CLASSES_PARTS]
    if unknown := [part for part in arguments.only if part not in known]:
        raise UserError(f"only has '{unknown[0]}'; allowed: {', '.join(known)}.")
    for key in ("pictures", "classes"):
        if any(size < WARM_UP for size in getattr(arguments, key)):
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: {WARM_UP} or more.")
    groups: list[tuple[str, list[int], dict[str, Callable[..., Any]]]] = [
        ("pictures", arguments.pictures, PICTURES_PARTS),
        ("classes", arguments.classes, CLASSES_PARTS),
    ]
    rows = []
    for of, sizes, parts in groups:
        for part in parts:
            if not arguments.only or part in arguments.only:
                rows += measure_part(part, of, sizes, arguments.folder)
    report("growth", rows, "Growth", arguments.out, "numpy", "pandas", "scikit-learn")
    for sentence in sentences(rows):
        print(sentence)


if __name__ == "__main__":
    guard(main)
