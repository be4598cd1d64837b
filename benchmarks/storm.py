"""Sweeps killed at random and typed again: is each equal to the unbroken sweep, bit for bit?

    python benchmarks/storm.py kills=100 seed=0

trains one sweep of six tiny jobs in peace. Then it types the sweep in fresh folders and kills the
launcher, a job, the fork server or all of them, until it has killed often enough; each sweep is
typed again until it is done, and compared with the unbroken one. It prints a table and writes
benchmarks/results/storm.json; a difference is named, and the exit status is 1. A hundred kills
take half an hour on one CPU core. ``--help`` lists the settings. Linux only.
"""

import os
import shutil
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

from common import report
from storm_parts import (
    TARGETS,
    Place,
    TypedSweep,
    differences,
    enlarge,
    kilobytes,
    tmpfs,
    write_data,
)

from product_cls.core.cli import check_at_least_one, guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder

PLACES = ("plain", "small TMPDIR", "nearly full disk")
FULL = "nearly full disk"
SMALL_TMPDIR = 64  # KiB; less than a checkpoint
FIRST = 0.2  # seconds until Python itself has started
MOST_WRITES = 60  # file changes that a kill waits for; about half of an unbroken sweep's


@dataclass
class Arguments:
    """Kills of sweeps of six jobs (two folds, three seeds) of a tiny network on 40 pictures.

    kills: in all sweeps together. each: kills of one sweep, at most. seed: of targets and moments.
    Half of the kills come at a random second, half right after a file was written. Sweeps take
    turns: in a plain folder, with a TMPDIR on another, small file system, and on a disk that is
    full at first; that the disk is full counts as one kill. The last two need the right to mount.
    """

    kills: int = 100
    each: int = 4
    seed: int = 0
    seeds: int = 3
    epochs: int = 5
    mounts: bool = True
    out: str | None = None


class Storm:
    """The storm over sweeps in one folder.

    Args:
        root: folder of pictures and sweeps.
        arguments: the settings.
    """

    def __init__(self, root: Path, arguments: Arguments) -> None:
        self.root, self.arguments = root, arguments
        self.draw = Random(arguments.seed)
        self.typed = 0  # sweeps typed so far
        self.hits: Counter[tuple[str, str]] = Counter()  # (target, place)
        self.unequal: Counter[tuple[str, str]] = Counter()  # kills of sweeps that differ
        self.faults: list[str] = []
        self.unequal_sweeps = 0
        self.reference = self.place("unbroken")
        write_data(root)
        started = time.monotonic()
        sweep = self.type(self.reference)
        if status := sweep.end():
            raise UserError(f"The unbroken sweep ends with {status}: {sweep.output()[-2000:]}")
        self.seconds = time.monotonic() - started
        self.size = kilobytes(self.reference.folder)

    def place(self, name: str) -> Place:
        return Place(self.root / "pictures", self.root / name, self.root / f"{name}-tmp")

    def type(self, place: Place) -> TypedSweep:
        self.typed += 1
        mark = f"{os.getpid()}-{self.root.name}-{self.typed}"
        return TypedSweep(place, self.arguments.seeds, self.arguments.epochs, mark)

    def over(self, number: int, where: str, kills: int) -> int:
        """Kill one new sweep up to ``kills`` times, then let it end and compare it.

        Returns:
            The number of kills that hit.
        """
        place = self.place(f"sweep-{number}")
        hit: list[str] = []
        with ExitStack() as mounts:
            if where == "small TMPDIR":
                mounts.enter_context(tmpfs(place.temporary, SMALL_TMPDIR))
            if where == FULL:
                size = round(self.size * self.draw.uniform(0.05, 0.95))
                mounts.enter_context(tmpfs(place.folder, size))
            try:
                faults = self.blows(place, where, kills, hit)
            except UserError as error:
                faults = [str(error)]
            if faults:
                kept = self.root / f"unequal-{number}"
                shutil.copytree(place.folder, kept, dirs_exist_ok=True)
                faults = [f"{kept} ({where}; {', '.join(hit)}): {fault}" for fault in faults]
                print("\n".join(faults), file=sys.stderr, flush=True)
        if not faults:
            shutil.rmtree(place.folder)
            shutil.rmtree(place.temporary)
        self.faults += faults
        self.unequal_sweeps += bool(faults)
        for target in hit:
            self.hits[target, where] += 1
            self.unequal[target, where] += bool(faults)
        return len(hit)

    def blows(self, place: Place, where: str, kills: int, hit: list[str]) -> list[str]:
        """Kill the sweep at ``place``, type it again, and compare it.

        Args:
            hit: the targets that were hit are added to it.

        Returns:
            What was not as it should be.

        Raises:
            UserError: a sweep hangs, or processes are left.
        """
        faults: list[str] = []
        if where == FULL:
            faults += self.full_disk(place, hit)
        while len(hit) < kills:
            target = self.draw.choice(list(TARGETS))
            sweep = self.type(place)
            struck = self.strike(sweep, target)
            status = sweep.end()
            if "Traceback" in sweep.output():
                faults.append(f"a traceback after {target}: {sweep.output()[-3000:]}")
            if struck and status in TARGETS[target]:
                hit.append(target)
            elif status != 0:
                faults.append(f"exit status {status} after {target}: {sweep.output()[-3000:]}")
            if status == 0:  # it is done, perhaps because the kill came too late
                break
        sweep = self.type(place)
        if status := sweep.end():
            faults.append(f"typed again, it ends with {status}: {sweep.output()[-3000:]}")
        return faults + differences(place, self.reference)

    def strike(self, sweep: TypedSweep, target: str) -> bool:
        """Kill a target at a random moment; False if the sweep has ended before."""
        if self.draw.random() < 0.5:
            deadline = time.monotonic() + self.draw.uniform(FIRST, self.seconds)
            while sweep.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
        else:
            sweep.wait_for_writes(self.draw.randint(1, MOST_WRITES))
        while sweep.alive():
            if sweep.hit(target, self.draw):
                return True
            time.sleep(0.01)
        return False

    def full_disk(self, place: Place, hit: list[str]) -> list[str]:
        """Type the sweep on a disk that is nearly full, and make room then.

        Returns:
            Tracebacks, and runs that count as running though nothing runs.
        """
        sweep = self.type(place)
        if sweep.end() != 0:
            hit.append("full disk")
        texts = {place.log: sweep.output()}
        for file in place.sweep.glob("*/console.log"):
            texts[file] = file.read_text(errors="replace")
        faults = [
            f"a traceback on a full disk in {file}: {text[-3000:]}"
            for file, text in texts.items()
            if "Traceback" in text
        ]
        for file in place.sweep.glob("*/status.json"):
            if (state := RunFolder(file.parent).status().get("state")) not in ("done", "failed"):
                faults.append(f"{file.parent.name} is {state} on a full disk")
        enlarge(place.folder, 10 * self.size)
        return faults

    def rows(self) -> list[dict[str, Any]]:
        """A row for each target: kills by place, and how many of them are of unequal sweeps."""
        targets = list(dict.fromkeys(["full disk", *TARGETS]))
        return [
            {"killed": target}
            | {where: self.hits[target, where] for where in PLACES}
            | {"kills": sum(self.hits[target, where] for where in PLACES)}
            | {"in unequal sweeps": sum(self.unequal[target, where] for where in PLACES)}
            for target in targets
        ]


def may_mount(folder: Path) -> bool:
    """Whether this user may mount; says so if not."""
    try:
        with tmpfs(folder, 64):
            return True
    except UserError as error:
        print(f"Only plain folders, as nothing can be mounted: {error}.", file=sys.stderr)
        return False


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/storm.py")
    check_at_least_one(arguments, "kills", "each", "seeds", "epochs")
    if not sys.platform.startswith("linux"):
        raise UserError("The processes of a sweep are found in /proc, which only Linux has.")
    os.environ["OMP_NUM_THREADS"] = "1"
    root = Path(mkdtemp(prefix="product_cls-storm-"))
    storm = Storm(root, arguments)
    places = PLACES if arguments.mounts and may_mount(root / "mount") else PLACES[:1]
    kills = sweeps = 0
    while kills < arguments.kills:
        where = places[sweeps % len(places)]
        kills += storm.over(sweeps, where, min(arguments.each, arguments.kills - kills))
        sweeps += 1
        print(f"{kills} kills of {sweeps} sweeps", file=sys.stderr, flush=True)
    equal = f"{sweeps - storm.unequal_sweeps} of {sweeps} sweeps equal the unbroken one"
    report("storm", storm.rows(), f"{kills} kills: {equal}", arguments.out, "pytorch-lightning")
    if storm.faults:
        print(f"What differs is kept in {root}.", file=sys.stderr)
        raise SystemExit(1)
    shutil.rmtree(root)


if __name__ == "__main__":
    guard(main)
