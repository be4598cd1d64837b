"""Shared by the speed benchmarks: paired timing, memory, the machine, tables and result files."""

import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from product_cls.core.cpu_count import usable_cores
from product_cls.core.files import now, write_text_whole
from product_cls.display.tables import print_table

RESULTS = Path(__file__).parent / "results"
SAMPLED = 0.02  # seconds between two samples of the memory


def paired_seconds(
    ways: dict[str, Callable[[], Any]], repeats: int, *, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of each call. The candidates take turns, so that other load affects them equally.

    Args:
        ways: candidates by name; each is called once before, uncounted.
        repeats: calls of each candidate.
        device: a GPU is synchronised after each call.
    """

    def wait() -> None:
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)

    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            wait()
            started = time.perf_counter()
            way()
            wait()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """Speed ratio: computed within each turn, as the median over the turns and quartiles."""
    turns = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    low, _, high = statistics.quantiles(turns, n=4)
    return {"ratio": statistics.median(turns), "ratio_q1": low, "ratio_q3": high}


def waves(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Pictures with areas and edges, uint8 ``[N, H, W, 3]``; noise would be edges only."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    phase = draw.uniform(0, 20, (count, 1, 1, 3))
    return (127 + 120 * np.sin(phase * x[..., None] + 9 * y[..., None] ** 2)).astype(np.uint8)


class PrivateMemory:
    """Peak private memory of this process in MiB; None without /proc.

    Resident memory would include pages of mapped files, which the system may drop.
    """

    def __enter__(self) -> "PrivateMemory":
        self.start = self.peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.peak is not None and not self._stop.wait(SAMPLED):
            self.peak = max(self.peak, self._now() or 0)

    @staticmethod
    def _now() -> float | None:
        status = Path("/proc/self/status")
        if not status.exists():
            return None
        return next(
            int(line.split()[1]) / 1024
            for line in status.read_text().splitlines()
            if line.startswith("RssAnon")
        )


def in_fresh_process(function: Any, *arguments: Any, start: str = "spawn") -> Any:
    """Call a function in a fresh process, so that peak memory is its own.

    Args:
        start: ``fork`` saves the imports, if this process has only imported so far.
    """
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def environment(*packages: str) -> dict[str, Any]:
    """The machine and the versions."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "device": {
            "cpu": names[0] if names else platform.processor() or platform.machine(),
            "cores": usable_cores(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("torch", *packages)},
        },
    }


def report(
    name: str, rows: list[dict[str, Any]], title: str, out: str | None, *packages: str
) -> None:
    """Print a table, and write it with the command, the machine and the versions.

    Args:
        name: of the script, without ``.py``.
        rows: lines of the table.
        title: above it.
        out: the file; None for ``results/<name>.json``.
        packages: further packages whose versions are recorded, beside torch.
    """
    command = shlex.join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    record = {"date": now(), "command": command, **environment(*packages), "rows": rows}
    file = RESULTS / f"{name}.json" if out is None else Path(out)
    write_text_whole(file, json.dumps(record, indent=2) + "\n")
    print_table(pd.DataFrame(rows).astype(object), title)
    print(file)
