"""A sweep's jobs together: run a few at a time, shown in a table from their start to their end."""

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from product_cls.launcher_copies import Original
from product_cls.launcher_jobs import Job

STYLES = {
    "running": "cyan",
    "done": "green",
    "skipped": "dim",
    "queued": "dim",
    "failed": "red",
    "pruned": "yellow",
}

POLL = 0.1  # seconds; also the longest wait for an answer to Ctrl-C
REFRESH = 1.0  # seconds between two drawings of the live table
AFTER_SIGTERM = 3.0  # seconds; who ignored SIGINT for `grace` seconds gets few more
AFTER_SIGKILL = 10.0  # seconds; a process that waits for a dead disk cannot be killed
IMPATIENT = 1.0  # seconds; a second signal sooner is the same one (`timeout` sends two)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_jobs(
    jobs: Sequence[Job],
    environments: Sequence[Mapping[str, str]],
    grace: float,
    original: Original | None,
) -> int | None:
    """Run all jobs, as many at once as there are environments; none outlives this call.

    Args:
        jobs: changed in place.
        environments: a job has one of them for itself while it runs.
        grace: seconds between SIGINT and SIGTERM when the sweep is stopped.
        original: what they are copies of; None: each is a new process.

    Returns:
        The signal that stopped the sweep, or None.
    """
    queue, free = deque(jobs), deque(environments)
    running: list[tuple[Job, Mapping[str, str]]] = []
    with signals_noted() as received, Display(jobs) as display:
        try:
            while (queue or running) and not received:
                while queue and free and (original is None or original.ready()):
                    job = queue.popleft()
                    job.start(free[0], original)
                    display.started(job)
                    if job.process is None:
                        display.ended(job)
                    else:
                        running.append((job, free.popleft()))
                for job, environment in list(running):
                    if job.ended(interrupted=False):
                        running.remove((job, environment))
                        free.append(environment)
                        display.ended(job)
                if original is not None:
                    original.reap([job.process.pid for job, _ in running if job.process])
                display.refresh()
                time.sleep(POLL)
            if received and running:
                display.say(
                    f"Stopping {plural(len(running))}, within {grace:g} seconds; again: at once."
                )
        finally:  # also when the display fails, for example into a closed pipe
            stop([job for job, _ in running], grace, received)
    display.summary(stopped=bool(received))
    return received[0][0] if received else None


def stop(running: list[Job], grace: float, received: Sequence[tuple[int, float]]) -> None:
    """End jobs: asked first, so that they keep what they have, then forced.

    Args:
        running: jobs whose processes have not ended.
        grace: seconds between SIGINT and SIGTERM.
        received: signals with their times; it grows while this runs.
    """

    def urgent() -> bool:
        return bool(received) and received[-1][1] - received[0][1] > IMPATIENT

    steps = (signal.SIGINT, grace), (signal.SIGTERM, AFTER_SIGTERM), (signal.SIGKILL, AFTER_SIGKILL)
    for signum, patience in steps:
        for job in running:
            job.send(signum)
        deadline = time.monotonic() + patience
        while running and time.monotonic() < deadline:
            if urgent() and signum != signal.SIGKILL:
                break
            running = [job for job in running if not job.ended(interrupted=True)]
            time.sleep(POLL)


@contextmanager
def signals_noted() -> Iterator[list[tuple[int, float]]]:
    """Note Ctrl-C, SIGTERM and SIGHUP, with their times, instead of dying of them.

    An exception out of the handler could strike between the start of a child and the line that
    remembers it. What is ignored (``nohup``, ``&`` in a script) stays ignored.
    """
    received: list[tuple[int, float]] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append((signum, time.monotonic()))

    noted = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
    earlier = {signum: signal.signal(signum, note) for signum in noted}
    try:
        yield received
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)


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
