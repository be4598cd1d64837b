"""Wall time of a sweep against the training time of its jobs, forked and as new processes.

    python benchmarks/sweeps.py jobs=15 at_once=[1,2]

prints a table and writes benchmarks/results/sweeps.json. ``--help`` lists the settings. This
measures wall time, so nothing else should run. The CPU seconds are of the launcher and all its
processes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import report
from start_up import tiny, write_pictures

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.cpu_count import usable_cores
from product_cls.core.errors import UserError

TRAIN = Path(__file__).resolve().parents[1] / "train.py"


@dataclass
class Arguments:
    """Sweeps over seeds of a tiny network on 40 pictures of 32 pixels, epochs of three steps.

    at_once: concurrent jobs. fit: training seconds of all jobs. lost a job: wall time beyond an
    even share of the training seconds for each core in use, divided by the jobs.
    """

    jobs: int = 15
    at_once: list[int] = field(default_factory=lambda: [1, 2])
    epochs: int = 20
    out: str | None = None


def sweep(
    folder: Path, name: str, arguments: Arguments, at_once: int, *words: str
) -> dict[str, Any]:
    """Run one sweep and read the seconds of its jobs.

    Args:
        folder: of pictures and results.
        name: of the sweep, and so of its folder there.
        words: further overrides.
    """
    command = [
        *(sys.executable, str(TRAIN), "-m", *tiny(folder)),
        *(f"trainer.max_epochs={arguments.epochs}", f"hydra.launcher.jobs={at_once}"),
        *(f"hydra.sweep.dir={folder / name}", "hydra.sweep.subdir='seed=${seed}'"),
        f"seed={','.join(map(str, range(arguments.jobs)))}",
        *words,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise UserError(f"The sweep failed: {(done.stdout + done.stderr)[-2000:]}")
    files = sorted((folder / name).glob("*/metrics.json"))
    assert len(files) == arguments.jobs
    fit = sum(json.loads(file.read_text())["seconds"]["fit"] for file in files)
    used = min(at_once, usable_cores())
    return {
        "wall s": round(wall, 1),
        "fit s, all jobs": round(fit, 1),
        "lost a job, s": round((wall * used - fit) / arguments.jobs, 2),
        "CPU s": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            1,
        ),
    }


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/sweeps.py")
    if arguments.jobs < 2 or min(arguments.at_once, default=0) < 1 or arguments.epochs < 1:
        raise UserError("jobs: 2 or more; at_once, epochs: 1 or more.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures")
        for at_once in arguments.at_once:
            for way, words in (("copies", ()), ("new processes", ("hydra.launcher.preload=[]",))):
                row = sweep(
                    folder, f"{way}-{at_once}".replace(" ", "-"), arguments, at_once, *words
                )
                rows.append({"at once": at_once, "jobs are": way, "jobs": arguments.jobs} | row)
                print(f"{way}, {at_once} at once: {row['wall s']} s", file=sys.stderr)
    title = "Sweeps of tiny jobs"
    report("sweeps", rows, title, arguments.out, "pytorch-lightning", "timm", "hydra-core")


if __name__ == "__main__":
    guard(main)
