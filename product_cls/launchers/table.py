"""The live table of a sweep's jobs."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from product_cls.launchers.job import Job

STYLES = {
    "running": "cyan",
    "done": "green",
    "skipped": "dim",
    "queued": "dim",
    "failed": "red",
    "pruned": "yellow",
}


REFRESH = 1.0  # seconds between two drawings of the live table


class Display:
    """A live table on a terminal; elsewhere a line when a job starts and one when it ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.console = Console()
        self.live: Live | None = None
        if sys.stdout.isatty() and self.console.is_interactive:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
        else:
            # Files have no width: a path that is broken over two lines can be neither found nor
            # copied.
            self.console = Console(width=1000)
        self.drawn = 0.0

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def started(self, job: Job) -> None:
        if self.live is None:
            self.say(f"{self.name(job)}: started, log in {job.folder.console_file}")

    def ended(self, job: Job) -> None:
        if self.live is None:
            self.say(f"{self.name(job)}: {job.state} after {elapsed(job)} {result(job)}".rstrip())

    def name(self, job: Job) -> str:
        return f"job {job.number} ({job.label})"

    def refresh(self) -> None:
        if self.live is None or time.monotonic() - self.drawn < REFRESH:
            return
        # A table that is higher than the screen cannot be redrawn.
        fits = len(self.jobs) < self.console.height - 6
        shown = [job for job in self.jobs if fits or job.state == "running"]
        table = jobs_table(shown[: self.console.height - 6], logs=False)
        table.caption = count(self.jobs)
        self.live.update(table, refresh=True)
        self.drawn = time.monotonic()

    def summary(self, *, stopped: bool) -> None:
        self.console.print(jobs_table(self.jobs, logs=True))
        again = ""
        if stopped:
            again = " Interrupted: typed again, the sweep goes on."
        elif any(job.state == "failed" for job in self.jobs):
            again = " Typed again, only the failed jobs run."
        self.say(f"{plural(len(self.jobs))}: {count(self.jobs)}.{again}")


def jobs_table(jobs: Sequence[Job], *, logs: bool) -> Table:
    """A row for each job; ``logs`` adds where its output is."""
    table = Table()
    for title in ("#", "job", "state", "epoch", "result", "time"):
        table.add_column(title, overflow="fold")
    if logs:
        table.add_column("log", overflow="fold")
    for job in jobs:
        status = job.status() if job.state != "queued" else {}
        epoch = (
            f"{status['epoch']}/{status.get('epochs')}" if status.get("epoch") is not None else ""
        )
        cells = [str(job.number), job.label, job.state, epoch, result(job), elapsed(job)]
        if logs:
            cells.append(str(job.folder.console_file) if job.state != "queued" else "")
        # Text, because a string's [a,b] would be read as markup.
        table.add_row(*map(Text, cells), style=STYLES.get(job.state))
    return table


def result(job: Job) -> str:
    """The error, or the metric (best so far) with 4 digits."""
    if job.state in ("failed", "pruned"):
        return job.error
    status = job.status() if job.state != "queued" else {}
    value = status.get("value")
    return "" if value is None else f"{status.get('metric', 'metric')} {value:.4f}"


def elapsed(job: Job) -> str:
    """Hours, minutes and seconds since the start."""
    if job.state == "queued":
        return ""
    seconds = time.monotonic() - job.begun if job.state == "running" else job.seconds
    return str(timedelta(seconds=int(seconds)))


def plural(number: int) -> str:
    return f"{number} job" + ("s" if number != 1 else "")


def count(jobs: Sequence[Job]) -> str:
    """How many jobs are in which state: ``3 done, 1 failed``."""
    states = [job.state for job in jobs]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
