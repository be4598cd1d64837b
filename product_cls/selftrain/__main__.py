"""Self-training: finished runs teach their successors the unlabelled test pictures.

    python -m product_cls.selftrain runs=multirun/NAME rounds=3

Each round is a sweep of its own, ``multirun/NAME-round-1`` and so on, whose runs go on from their
own weights and learn the labelled pictures and the teachers' answers for the test pictures. The
labels of the test part are never read by the training. The same command continues after an
interruption.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product_cls.core.cli import MISSING, check_at_least_one, guard, parse_arguments
from product_cls.core.csv_style import check_style
from product_cls.core.errors import UserError
from product_cls.runs.folder import find_runs

if TYPE_CHECKING:
    from product_cls.ensemble.members import Member
    from product_cls.launchers.job import Job

PERMITTED = (
    "Self-training learns from the unlabelled test pictures: contests may forbid it, and an "
    "estimate for other pictures needs a test that no round has seen."
)


@dataclass
class Arguments:
    """Let finished runs teach their successors the unlabelled test pictures, in rounds.

    runs: folder of the runs, multirun/NAME; best trained with adapt=batchnorm, whose predictions
      are the better teachers. Pictures of your own are the test part of data.test=FOLDER.
    rounds: how many. The first teaches the pictures that the teachers expect to name right, the
      last one all of them.
    epochs: of a round; null: half of the runs' epochs, rounded up.
    control: true also trains as many steps from the same weights without a teacher, for comparison.
    jobs: concurrent runs; null: as many as the GPUs allow, 1 without GPUs.
    threads: CPU threads of a run; null: cores // jobs.
    grace: seconds for a run to end after Ctrl-C.
    csv: plain, or excel for tables that a spreadsheet opens right (numbers keep their zeros).
    """

    runs: str = MISSING
    rounds: int = 3
    epochs: int | None = None
    control: bool = True
    jobs: int | None = None
    threads: int | None = None
    grace: float = 30.0
    csv: str = "plain"


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python -m product_cls.selftrain")
    check_style(arguments.csv)
    check_at_least_one(arguments, "rounds")
    for key in ("epochs", "jobs", "threads"):
        if getattr(arguments, key) is not None:
            check_at_least_one(arguments, key)
    root = Path(arguments.runs)
    find_runs(root)  # fails before the imports, which take seconds

    from product_cls.display.tables import print_table
    from product_cls.selftrain.outcome import TITLE, results_table, write_outcome
    from product_cls.selftrain.rounds import MULTIRUN, base_name

    rows, notes = run(arguments, root)
    files = write_outcome(
        MULTIRUN / f"{base_name(root)}-selftrain", results_table(rows), notes, arguments.csv
    )
    print_table(results_table(rows), title=f"{root}: {TITLE}")
    print("Written: " + ", ".join(map(str, files)))


def run(arguments: Arguments, root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Train all rounds, and the control.

    Returns:
        Rows of the table of results, and sentences about the rounds.

    Raises:
        UserError: the runs are refused, or a run of a round fails.
        SystemExit: a signal has stopped the training.
    """
    from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus
    from product_cls.selftrain.outcome import step_rows
    from product_cls.selftrain.rounds import (
        MULTIRUN,
        base_name,
        control_job,
        fell,
        lesson,
        load_round,
        load_students,
        student_job,
    )

    students, runs = load_students(root)
    name = base_name(root)
    out = MULTIRUN / f"{name}-selftrain"
    gpus = assign_gpus(visible_gpus(os.environ), arguments.jobs, 1)
    environments = [
        job_environment(os.environ, gpu, threads=arguments.threads, at_once=len(gpus))
        for gpu in gpus
    ]
    rows, notes = step_rows("runs", runs), [PERMITTED]
    print(PERMITTED)

    def note(sentence: str) -> None:
        print(sentence)
        notes.append(sentence)

    def trained(jobs: Sequence[Job], step: str) -> list[Member]:
        """The runs of a step, once they have finished."""
        train(jobs, environments, arguments.grace, step)
        members = load_round([job.folder.path for job in jobs], step)
        rows.extend(step_rows(step, members))
        return members

    teachers, taught = runs, []
    for number in range(1, arguments.rounds + 1):
        jobs, counts = [], []
        lessons: dict[frozenset[str], tuple[Path, int]] = {}
        for k, (student, member) in enumerate(zip(students, teachers, strict=True)):
            if student.held_out not in lessons:
                part = lesson(student, teachers, number, arguments.rounds)
                file = out / f"round-{number}" / f"lesson-{len(lessons)}.npz"
                part.targets.save(file)
                lessons[student.held_out] = file, len(part.targets.id)
                note(f"Round {number}, {file.stem}: {part.sentence()}")
            file, count = lessons[student.held_out]
            counts.append(count)
            jobs.append(
                student_job(student, k, f"{name}-round-{number}", member, arguments.epochs, file)
            )
        before, teachers = teachers, trained(jobs, f"round {number}")
        taught.append(counts)
        if (sentence := fell(before, teachers)) is not None:
            note(f"Stopped after round {number}: {sentence} Use the runs before it.")
            break
    members = runs
    for number, counts in enumerate(taught if arguments.control else [], start=1):
        jobs = [
            control_job(students[k], k, f"{name}-control-{number}", member, arguments.epochs, count)
            for k, (member, count) in enumerate(zip(members, counts, strict=True))
        ]
        members = trained(jobs, f"control {number}")
    if arguments.control:
        notes.append("A control takes as many steps from the same weights, without a teacher.")
    return rows, notes


def train(
    jobs: Sequence[Job], environments: Sequence[Mapping[str, str]], grace: float, step: str
) -> None:
    """Train the runs of a round, a few at a time.

    Raises:
        UserError: a run has failed.
        SystemExit: a signal has stopped them.
    """
    from product_cls.launchers.fork_server import fork_server
    from product_cls.launchers.pool import JobPool, JobQueue
    from product_cls.launchers.processes import ProcessesConf
    from product_cls.launchers.table import Display

    print(f"Training {step}: {len(jobs)} run{'s' if len(jobs) > 1 else ''}.", flush=True)
    modules = ProcessesConf().preload if len(jobs) > 1 else []
    with fork_server(modules, environments[0]) as server:
        signum = JobPool(environments, grace, server).run(JobQueue(jobs))
    Display(jobs).summary(stopped=signum is not None)
    if signum is not None:
        print("Interrupted; the same command continues.", file=sys.stderr)
        raise SystemExit(128 + signum)
    if failed := [j for j in jobs if j.state == "failed"]:
        raise UserError(
            f"{len(failed)} of {len(jobs)} runs of {step} failed, the first: "
            f"{failed[0].label}: {failed[0].error}; the same command continues."
        )


if __name__ == "__main__":
    guard(main)
