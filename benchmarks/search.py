"""Time and memory of each kind of search, and how many nearest pictures it misses.

    python benchmarks/search.py queries=72000 gallery=48000 dimension=5120 k=5

prints a table and writes benchmarks/results/search.json. ``--help`` lists the settings.
"""

import json
import resource
import shlex
import sys
import tempfile
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import RESULTS, PrivateMemory, environment, in_fresh_process

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.device import pick_device
from product_cls.core.errors import UserError
from product_cls.core.files import now, write_text_whole
from product_cls.display.tables import print_table
from product_cls.neighbours.searchers import KINDS, build_searcher

BLOCK = 4096  # rows written at a time
PICTURES = 48  # gallery pictures of a product
DIRECTIONS = 16  # in which pictures of a product differ: roll, pitch, light, ...
SIZES = ("queries", "gallery", "dimension", "k")


@dataclass
class Arguments:
    """Measure kinds of search over synthetic embeddings, each in a fresh process.

    The pictures of a product lie around its centre, mostly along a few directions that all products
    share, as with a moving camera. Fully random embeddings would have no neighbours to find. The
    gallery has 48 pictures of each product. Embeddings are float32 in memory-mapped files.

    limit: fewer queries for a kind, such as 'limit={exact: 8192, ivfpq: 8192}' (in quotes, with the
    space). The total time is then extrapolated in proportion, and marked. Whole blocks of 4096
    queries extrapolate best. Misses are counted against exact, if it is among the kinds. device: of
    exact search (auto, cpu, cuda, cuda:<n>); FAISS runs on the CPU. folder: holds the embeddings,
    4 bytes per number.
    """

    queries: int = 72000
    gallery: int = 48000
    dimension: int = 5120
    k: int = 5
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    limit: dict[str, int] = field(default_factory=dict)
    device: str = "cpu"
    seed: int = 0
    folder: str = tempfile.gettempdir()
    out: str = str(RESULTS / "search.json")


def write_embeddings(file: Path, rows: int, dimension: int, products: int, seed: list[int]) -> None:
    """Normalised rows in blocks; row ``i`` is a picture of product ``i % products``.

    Args:
        seed: of the products and of the pictures.
    """
    shared = np.random.default_rng(seed[0])
    centres = shared.standard_normal((products, dimension), np.float32)
    directions = shared.standard_normal((DIRECTIONS, dimension), np.float32)
    own = np.random.default_rng(seed)
    out = np.lib.format.open_memmap(file, "w+", np.float32, (rows, dimension))
    for start in range(0, rows, BLOCK):
        block = out[start : start + BLOCK]
        views = own.standard_normal((len(block), DIRECTIONS), np.float32)
        found = centres[np.arange(start, start + len(block)) % products]
        found += 0.7 / np.sqrt(DIRECTIONS) * views @ directions
        found += 0.3 * own.standard_normal(found.shape, np.float32)
        block[:] = found / np.linalg.norm(found, axis=1, keepdims=True)
    out.flush()


def measure(kind: str, folder: Path, k: int, count: int, device: str | None) -> dict[str, Any]:
    """Build and search once in its own process; nearest positions go to ``<kind>.npy``."""
    gallery = np.load(folder / "gallery.npy", mmap_mode="r")
    queries = np.load(folder / "queries.npy", mmap_mode="r")[:count]
    with PrivateMemory() as memory:
        started = time.perf_counter()
        searcher = build_searcher(
            kind, gallery, device=torch.device(device) if device is not None else None
        )
        built = time.perf_counter()
        found = searcher.search(queries, k)
        searched = time.perf_counter()
    np.save(folder / f"{kind}.npy", found.position[:, 0])
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return {
        "build_seconds": built - started,
        "search_seconds": searched - built,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "private_start_mib": memory.start,
        "private_peak_mib": memory.peak,
        "gpu_peak_mib": torch.cuda.max_memory_allocated(device) / 2**20
        if device is not None and device.startswith("cuda")
        else None,
        "threads": torch.get_num_threads(),
    }


def measure_kinds(arguments: Arguments, folder: Path) -> list[dict[str, Any]]:
    """One row for each kind; a failed one has an ``error`` instead of figures."""
    products = max(1, arguments.gallery // PICTURES)
    for part, (name, rows) in enumerate(
        (("gallery", arguments.gallery), ("queries", arguments.queries))
    ):
        seed = [arguments.seed, part]
        file = folder / f"{name}.npy"
        in_fresh_process(write_embeddings, file, rows, arguments.dimension, products, seed)
    rows_of = {}
    for kind in sorted(arguments.kinds, key=KINDS.index):  # exact first, to compare with
        count = min(arguments.limit.get(kind, arguments.queries), arguments.queries)
        row: dict[str, Any] = {"kind": kind, "queries": count}
        device = arguments.device if kind == "exact" else None
        try:
            row |= in_fresh_process(measure, kind, folder, arguments.k, count, device)
        except (UserError, BrokenProcessPool) as error:
            row["error"] = str(error)
        else:
            row["queries_per_second"] = count / row["search_seconds"]
            row["extrapolated"] = count < arguments.queries
            row["search_seconds_all"] = row["search_seconds"] * arguments.queries / count
            row["recall@1"] = recall(folder, kind)
        rows_of[kind] = row
        print(f"{kind}: {row.get('error', 'done')}", file=sys.stderr)
    return list(rows_of.values())


def recall(folder: Path, kind: str) -> float | None:
    """Share of queries with the exact nearest picture, among queries that both searched."""
    if not (folder / "exact.npy").exists():
        return None
    exact, found = np.load(folder / "exact.npy"), np.load(folder / f"{kind}.npy")
    both = min(len(exact), len(found))
    return float((exact[:both] == found[:both]).mean())


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The printed table; an extrapolated time says from how many queries.

    ``peak`` is resident memory, including imports and the pages of mapped files; ``own`` is the
    memory of building and searching beyond these.
    """

    def shown(row: dict[str, Any]) -> dict[str, Any]:
        if "error" in row:
            return {"kind": row["kind"], "search s": "failed"}
        own = row["private_start_mib"]
        search = f"{row['search_seconds_all']:.1f}"
        if row["extrapolated"]:
            search += f" (extrapolated: {row['search_seconds']:.1f} s for {row['queries']:,})"
        return {
            "kind": row["kind"],
            "build s": row["build_seconds"],
            "search s": search,
            "queries/s": row["queries_per_second"],
            "peak MiB": row["peak_mib"],
            "own MiB": None if own is None else row["private_peak_mib"] - own,
            "recall@1": "-" if row["recall@1"] is None else f"{row['recall@1']:.4f}",
        }

    return pd.DataFrame([shown(row) for row in rows]).astype(object)


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/search.py")
    for name, kinds in (("kinds", arguments.kinds), ("limit", arguments.limit)):
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise UserError(f"{name} has {', '.join(unknown)}; allowed: {', '.join(KINDS)}.")
    sizes = [(name, getattr(arguments, name)) for name in SIZES]
    for name, count in (*sizes, *arguments.limit.items()):
        if count < 1:
            raise UserError(f"{name}={count}; allowed: 1 or more.")
    arguments.device = str(pick_device(arguments.device))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = measure_kinds(arguments, Path(folder))
    size = {name: getattr(arguments, name) for name in (*SIZES, "seed")}
    command = shlex.join(["python", "benchmarks/search.py", *sys.argv[1:]])
    machine = environment("numpy", "faiss-cpu")
    record = {"date": now(), "command": command, **machine, **size, "rows": rows}
    write_text_whole(Path(arguments.out), json.dumps(record, indent=2) + "\n")
    print_table(
        table(rows),
        f"{arguments.queries:,} queries, {arguments.gallery:,} pictures, "
        f"{arguments.dimension} dimensions, k={arguments.k}",
    )
    print(arguments.out)
    if any("error" in row for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    guard(main)
