"""A sweep's jobs together: run a few at a time, shown in a table from their start to their end."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from product_cls.launchers.fork_server import ForkServer
from product_cls.launchers.job import Job
from product_cls.launchers.table import Display, plural

POLL = 0.1  # seconds; also the longest wait for an answer to Ctrl-C


AFTER_SIGTERM = 3.0  # seconds; who ignored SIGINT for `grace` seconds gets few more


AFTER_SIGKILL = 10.0  # seconds; a process that waits for a dead disk cannot be killed


IMPATIENT = 1.0  # seconds; a second signal sooner is the same one (`timeout` sends two)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_jobs(
    jobs: Sequence[Job],
    environments: Sequence[Mapping[str, str]],
    grace: float,
    original: ForkServer | None,
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
