"""The jobs of a sweep: run a few at a time, shown in a table from their start to their end.

Knows nothing of Hydra: a job is a command, an environment and a run folder. ``launcher.py`` makes
them.
"""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from product_cls.errors import UserError
from product_cls.runs import RunFolder, now

State = Literal["queued", "running", "done", "skipped", "failed", "interrupted"]
STYLES = {"running": "cyan", "done": "green", "skipped": "dim", "queued": "dim", "failed": "red"}

POLL = 0.1  # seconds; also the longest wait for an answer to Ctrl-C
REFRESH = 1.0  # seconds between two drawings of the live table
AFTER_SIGTERM = 3.0  # seconds; who ignored SIGINT for `grace` seconds gets few more
AFTER_SIGKILL = 10.0  # seconds; a process that waits for a dead disk cannot be killed
IMPATIENT = 1.0  # seconds; a second signal sooner is the same one (`timeout` sends two)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# What a logger, `cli.guard` and an exception (its name is kept, but for UserError) say last.
ERROR_LINE = re.compile(
    r"(\[.*\]\[(ERROR|CRITICAL)\] - |error: |product_cls\.errors\.UserError: )?"
    r"(?P<sentence>(?(1).+|(\w+\.)*\w*(Error|Exception)\b.*))"
)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Job:
    """One job: what to run and where, then how it goes."""

    number: int
    label: str  # the overrides that tell it from the others
    folder: RunFolder
    command: list[str]
    result: Any  # of no concern here: what Hydra wants to have back
    state: State = "queued"
    error: str = ""  # one sentence, of a job that failed or was interrupted
    begun: float = 0.0  # time.monotonic()
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    before: dict[str, Any] = field(default_factory=dict)  # status.json when the job was started
    version_before: tuple[int, int] | None = None
    log_before: int = 0  # bytes of console.log from earlier attempts

    def status(self) -> dict[str, Any]:
        """What this run has written; empty as long as ``status.json`` is of an earlier one."""
        mine = (
            self.state == "skipped" or file_version(self.folder.status_file) != self.version_before
        )
        return self.folder.status() if mine else {}

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; a job that cannot even be started has failed."""
        self.state, self.begun = "running", time.monotonic()
        self.before = self.folder.status()
        self.version_before = file_version(self.folder.status_file)
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            with self.folder.console_file.open("ab") as console:  # earlier attempts stay readable
                console.write(f"\n{now()} $ {shlex.join(self.command)}\n".encode())
                console.flush()
                self.log_before = console.tell()
                self.process = subprocess.Popen(
                    self.command,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # the terminal's Ctrl-C reaches the launcher alone
                    preexec_fn=die_with(os.getpid()),
                )
        except OSError as error:
            self.state, self.error = "failed", f"could not be started: {error}"

    def send(self, signum: int) -> None:
        """Send a signal to the job with its workers and ranks."""
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses for zombies
            os.killpg(self.process.pid, signum)

    def ended(self, *, interrupted: bool) -> bool:
        """Whether the process has ended; if so, note what came of the job."""
        assert self.process is not None
        pid = self.process.pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        # Ranks and workers that outlive their parent hold the GPU. While the parent is not reaped
        # its number cannot have become that of another group.
        self.send(signal.SIGKILL)
        code = self.process.wait()
        self.seconds = time.monotonic() - self.begun
        changed = file_version(self.folder.status_file) != self.version_before
        self.state, self.error = outcome(code, self.before, self.folder.status(), changed=changed)
        if code in (1, 2) and self.error == f"exited with status {code}":  # which says nothing
            self.error = last_error(self.folder.console_file, self.log_before) or self.error
        if self.state == "failed" and interrupted:
            self.state, self.error = "interrupted", "interrupted before it was done"
        if self.error:
            self.correct_status()
        return True

    def correct_status(self) -> None:
        """A run that was killed has left its state at ``running``: reports must not believe it."""
        # The lock is held where the same command runs in another terminal: then it does run.
        with suppress(UserError, OSError), self.folder.locked():
            if self.folder.status().get("state") == "running":
                self.folder.update_status(state="failed", error=self.error, finished=now())


def file_version(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file is replaced; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the job, so that it does not outlive a killed launcher.

    ``preexec_fn`` is safe here because the launcher has no other threads (the live table is drawn
    from its loop). Other systems than Linux cannot do this.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored, and so inherited, after `&`
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the call
                os._exit(1)

    return prepare


def outcome(
    code: int, before: Mapping[str, Any], after: Mapping[str, Any], *, changed: bool
) -> tuple[State, str]:
    """What came of a job, and the error of one that failed.

    Args:
        code: of the process; negative: the signal that killed it.
        before, after: ``status.json`` when the process was started and when it had ended.
        changed: whether it was written in between.
    """
    state = after.get("state")
    if code == 0 and state == "done":
        # A run that is skipped leaves its status alone; one that was made anew has a new time.
        again = before.get("state") == "done" and before.get("finished") == after.get("finished")
        return ("skipped" if again else "done"), ""
    if changed and state == "failed" and after.get("error"):
        return "failed", str(after["error"]).splitlines()[0]
    if code == -signal.SIGKILL:
        return "failed", "killed by SIGKILL (by the system, probably: out of memory)"
    if code < 0:
        return "failed", f"killed by {signal.Signals(-code).name}"
    ending = f"exited with status {code}"
    if changed and state == "done":
        return "failed", f"{ending} after its results were written"
    return "failed", ending if code else f"{ending} before it was done"


def last_error(log: Path, start: int) -> str:
    """The last line of a log that names an error, without what comes before its sentence.

    Args:
        log: ``console.log``.
        start: bytes of earlier attempts, to be left out.

    Returns:
        At most 200 letters; empty where there is no such line.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 50_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if match := ERROR_LINE.match(line):
            return match["sentence"][:200]
    return ""


def run_jobs(
    jobs: Sequence[Job], environments: Sequence[Mapping[str, str]], grace: float
) -> int | None:
    """Run all jobs, as many at once as there are environments; none outlives this call.

    Args:
        jobs: changed in place.
        environments: a job has one of them for itself while it runs.
        grace: seconds between SIGINT and SIGTERM when the sweep is stopped.

    Returns:
        The signal that stopped the sweep, or None.
    """
    queue, free = deque(jobs), deque(environments)
    running: list[tuple[Job, Mapping[str, str]]] = []
    with signals_noted() as received, Display(jobs) as display:
        try:
            while (queue or running) and not received:
                while queue and free:
                    job = queue.popleft()
                    job.start(free[0])
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
    if job.state == "failed":
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
