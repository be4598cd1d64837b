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
REFRESH = 1.0  # seconds between two updates of the live table


class Display:
    """A live table in a terminal; elsewhere, one line when a job starts and one when it ends.

    Args:
        jobs: the rows; the sequence may grow.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.console = Console()
        self.live: Live | None = None
        if sys.stdout.isatty() and self.console.is_interactive:
            self.live = Live(console=self.console, auto_refresh=False, transient=True)
        else:
            # Files have no width; a path broken over two lines can neither be searched nor copied.
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
            line = f"{self.name(job)}: {job.state} after {elapsed_time(job)} {result_text(job)}"
            self.say(line.rstrip())

    def name(self, job: Job) -> str:
        return f"job {job.number} ({job.label})"

    def refresh(self) -> None:
        if self.live is None or time.monotonic() - self.drawn < REFRESH:
            return
        # A table that is taller than the screen cannot be redrawn.
        fits = len(self.jobs) < self.console.height - 6
        shown = [job for job in self.jobs if fits or job.state == "running"]
        table = jobs_table(shown[: self.console.height - 6], logs=False)
        table.caption = state_counts(self.jobs)
        self.live.update(table, refresh=True)
        self.drawn = time.monotonic()

    def summary(self, *, stopped: bool) -> None:
        """Print the final table and the counts.

        Args:
            stopped: a signal stopped the sweep.
        """
        self.console.print(jobs_table(self.jobs, logs=True))
        advice = ""
        if stopped:
            advice = " Interrupted; the same command continues the sweep."
        elif any(job.state == "failed" for job in self.jobs):
            advice = " The same command runs only the failed jobs again."
        self.say(f"{number_of_jobs(len(self.jobs))}: {state_counts(self.jobs)}.{advice}")


def jobs_table(jobs: Sequence[Job], *, logs: bool) -> Table:
    """A table with a row per job; ``logs`` adds the paths of their output."""
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
        cells = [str(job.number), job.label, job.state, epoch, result_text(job), elapsed_time(job)]
        if logs:
            cells.append(str(job.folder.console_file) if job.state != "queued" else "")
        # Text, because rich reads [a,b] in a string as markup.
        table.add_row(*map(Text, cells), style=STYLES.get(job.state))
    return table


def result_text(job: Job) -> str:
    """The error, or the best metric so far with 4 decimals."""
    if job.state in ("failed", "pruned"):
        return job.error
    status = job.status() if job.state != "queued" else {}
    value = status.get("value")
    return "" if value is None else f"{status.get('metric', 'metric')} {value:.4f}"


def elapsed_time(job: Job) -> str:
    """Time since the start as ``hours:minutes:seconds``; empty for a queued job."""
    if job.state == "queued":
        return ""
    seconds = time.monotonic() - job.started_at if job.state == "running" else job.seconds
    return str(timedelta(seconds=int(seconds)))


def number_of_jobs(number: int) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} job" + ("s" if number != 1 else "")


def state_counts(jobs: Sequence[Job]) -> str:
    """The number of jobs in each state: ``3 done, 1 failed``."""
    states = [job.state for job in jobs]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
