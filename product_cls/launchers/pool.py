"""A pool of processes that runs jobs a few at a time, for sweeps and for searches."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from product_cls.launchers.fork_server import ForkServer
from product_cls.launchers.job import Job
from product_cls.launchers.table import Display, number_of_jobs

POLL = 0.1  # seconds between two looks at the jobs; also the longest reaction time to Ctrl-C
AFTER_SIGTERM = 3.0  # seconds; short, because the process has already ignored SIGINT
AFTER_SIGKILL = 10.0  # seconds; a process that waits for a dead disk cannot be killed
IMPATIENT = 1.0  # seconds; a second signal within this time is a repeat (`timeout` sends two)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class JobSource(Protocol):
    """Supplies the jobs of a pool and is told of their progress."""

    @property
    def jobs(self) -> Sequence[Job]:
        """The jobs to show in the live table; it may grow."""

    def has_next(self) -> bool:
        """Whether another job should start as soon as a slot is free.

        The answer may change when a job ends.
        """

    def next_job(self) -> Job:
        """The next job to start; called only after ``has_next`` is true."""

    def on_poll(self, job: Job) -> None:
        """Called for each running job every ``POLL`` seconds, before the pool checks its end."""

    def on_end(self, job: Job) -> None:
        """Called when a job has ended by itself, or could not be started."""


class JobQueue:
    """A fixed list of jobs, started in order.

    Args:
        jobs: changed in place while they run.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.queue = deque(jobs)

    def has_next(self) -> bool:
        return bool(self.queue)

    def next_job(self) -> Job:
        return self.queue.popleft()

    def on_poll(self, job: Job) -> None:
        pass

    def on_end(self, job: Job) -> None:
        pass


class JobPool:
    """Runs as many jobs at once as there are environments.

    Args:
        environments: environment variables of a slot; a running job has one slot to itself.
        grace: seconds between SIGINT and SIGTERM when the pool is stopped.
        server: forks the jobs; None: each job is a new process.
    """

    def __init__(
        self,
        environments: Sequence[Mapping[str, str]],
        grace: float,
        server: ForkServer | None = None,
    ) -> None:
        self.free = deque(environments)
        self.grace, self.server = grace, server
        self.running: list[tuple[Job, Mapping[str, str]]] = []

    def run(self, source: JobSource) -> int | None:
        """Run jobs until the source has no more; no job outlives this call.

        Jobs that are stopped by a signal are not passed to ``source.on_end``.

        Returns:
            The signal that stopped the pool, or None.
        """
        with catch_signals() as received, Display(source.jobs) as display:
            try:
                while (source.has_next() or self.running) and not received:
                    self._start(source, display)
                    self._poll(source, display)
                    display.refresh()
                    time.sleep(POLL)
                if received and self.running:
                    display.say(
                        f"Stopping {number_of_jobs(len(self.running))} within {self.grace:g} "
                        "seconds; a second signal stops them at once."
                    )
            finally:  # also when the display fails, for example because its pipe is closed
                stop([job for job, _ in self.running], self.grace, received)
        return received[0][0] if received else None

    def _start(self, source: JobSource, display: Display) -> None:
        """Fill the free slots, once the fork server is ready."""
        if self.server is not None and not self.server.ready():
            return
        while self.free and source.has_next():
            job = source.next_job()
            job.start(self.free[0], self.server)
            display.started(job)
            if job.process is None:  # it could not be started, so the slot stays free
                source.on_end(job)
                display.ended(job)
            else:
                self.running.append((job, self.free.popleft()))

    def _poll(self, source: JobSource, display: Display) -> None:
        """Look at the running jobs and free the slots of those that have ended."""
        for job, environment in list(self.running):
            source.on_poll(job)
            if job.ended(interrupted=False):
                self.running.remove((job, environment))
                self.free.append(environment)
                source.on_end(job)
                display.ended(job)
        if self.server is not None:
            self.server.reap([job.process.pid for job, _ in self.running if job.process])


def stop(running: list[Job], grace: float, received: Sequence[tuple[int, float]]) -> None:
    """End jobs: SIGINT first, so that they can save their work, then SIGTERM, then SIGKILL.

    Args:
        running: jobs whose processes have not ended.
        grace: seconds between SIGINT and SIGTERM.
        received: (signal, ``time.monotonic()``) of each signal; the list may grow meanwhile.
    """

    def urgent() -> bool:
        return bool(received) and received[-1][1] - received[0][1] > IMPATIENT

    stages = (
        (signal.SIGINT, grace),
        (signal.SIGTERM, AFTER_SIGTERM),
        (signal.SIGKILL, AFTER_SIGKILL),
    )
    for signum, patience in stages:
        for job in running:
            job.send(signum)
        deadline = time.monotonic() + patience
        while running and time.monotonic() < deadline:
            if urgent() and signum != signal.SIGKILL:
                break
            running = [job for job in running if not job.ended(interrupted=True)]
            time.sleep(POLL)


@contextmanager
def catch_signals() -> Iterator[list[tuple[int, float]]]:
    """Collect SIGINT, SIGTERM and SIGHUP with their times, instead of ending the process.

    A handler that raises could do so between the start of a child and the line that records it.
    Ignored signals (``nohup``, ``&`` in a script) stay ignored.
    """
    received: list[tuple[int, float]] = []

    def record(signum: int, frame: FrameType | None) -> None:
        received.append((signum, time.monotonic()))

    caught = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]
    earlier = {signum: signal.signal(signum, record) for signum in caught}
    try:
        yield received
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler)
