"""What a job does before and around its training, in CPU seconds, as a new process and as a copy.

    python benchmarks/start_up.py repeats=5

prints a table and writes benchmarks/results/start_up.json. ``--help`` lists the settings. CPU
seconds, for they say the same while other programs run; a sweep's wall time: sweeps.py.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen

from common import report, waves
from PIL import Image

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.launchers.fork_server import ForkedJob, ForkServer, fork_server
from product_cls.launchers.processes import ProcessesConf

JOB = Path(__file__).with_name("start_up_job.py")
REST = "end of the process"


@dataclass
class Arguments:
    """A tiny job, all of whose time is start-up: 40 pictures of 32 pixels, one epoch, a CPU.

    new process: as `python train.py` is. unfrozen: the same without its `gc.freeze()`. copy: of a
    process that has imported what jobs need, as jobs of a sweep are (`hydra.launcher.preload`).
    They take turns; the rows are medians.
    """

    repeats: int = 5
    out: str | None = None


def write_pictures(root: Path, side: int = 32) -> None:
    """Four classes of ten JPEG files, in a folder a class."""
    for k, picture in enumerate(waves(40, side)):
        file = root / f"class{k % 4}" / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file, quality=92)


def tiny(folder: Path) -> list[str]:
    """Overrides of a job that takes no time on the pictures in ``folder``."""
    return [
        *("data=folder", f"data.root={folder / 'pictures'}", f"paths.cache={folder / 'cache'}"),
        *("data.size=32", "data.batch_size=8", "model=tiny", "logger=none"),
        *("trainer.accelerator=cpu", "trainer.max_epochs=1", "folds.n_splits=2"),
    ]


def stages(
    folder: Path, run: str, source: ForkServer | None, *, freeze: bool = True
) -> dict[str, float]:
    """CPU seconds of a job's stages, and of all.

    Args:
        folder: of pictures and results.
        run: name of its folder there.
        source: what it is a copy of; None: a new process.
        freeze: what it has imported.
    """
    marks, console = folder / f"{run}.json", folder / f"{run}.log"
    environment = os.environ | {
        "START_UP_STAGES": str(marks),
        "START_UP_FREEZE": "yes" if freeze else "no",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, str(JOB), *tiny(folder), f"hydra.run.dir={folder / run}"]
    process: Popen[bytes] | ForkedJob | None
    if source is None:
        with console.open("wb") as output:
            process = Popen(command, env=environment, stdin=DEVNULL, stdout=output, stderr=output)
    else:
        process = source.fork(command, environment, console)
    assert process is not None
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise UserError(f"The job failed: {console.read_text()[-2000:]}")
    spent: dict[str, float] = json.loads(marks.read_text())
    spent[REST] = used.ru_utime + used.ru_stime - sum(spent.values())
    return spent | {"all": used.ru_utime + used.ru_stime}


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/start_up.py")
    if arguments.repeats < 1:
        raise UserError(f"repeats={arguments.repeats}; allowed: 1 or more.")
    modules = ProcessesConf().preload
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(JOB.parents[1]), *filter(None, paths)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures")
        with fork_server(modules, os.environ) as source:
            if source is None:
                raise UserError("Jobs begin as copies on Linux only.")
            while not source.ready():
                time.sleep(0.1)
            stages(folder, "warm", source)  # makes the image store and the folds
            turns = [
                {
                    "unfrozen, CPU s": stages(folder, f"unfrozen{k}", None, freeze=False),
                    "new process, CPU s": stages(folder, f"new{k}", None),
                    "copy, CPU s": stages(folder, f"copy{k}", source),
                }
                for k in range(arguments.repeats)
            ]
    rows = [
        {"stage": stage}
        | {way: round(median(turn[way][stage] for turn in turns), 3) for way in turns[0]}
        for stage in turns[0]["copy, CPU s"]
    ]
    title = "A tiny job, stage by stage"
    report("start_up", rows, title, arguments.out, "pytorch-lightning", "timm", "torchmetrics")


if __name__ == "__main__":
    guard(main)
