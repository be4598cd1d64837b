"""The pool that sweeps and searches share, with jobs that take no time."""

import os
import sys
from pathlib import Path

from product_cls.launchers.job import Job
from product_cls.launchers.pool import JobPool, JobQueue
from product_cls.runs.folder import RunFolder

# Waits until another job runs at the same time, so that a pool with one slot would hang.
MEET = """
import sys, time
from pathlib import Path
mine, partner = map(Path, sys.argv[1:])
mine.touch()
while not partner.exists():
    time.sleep(0.01)
"""


def job(number: int, folder: Path, *command: str) -> Job:
    return Job(number, f"job {number}", RunFolder(folder / str(number)), list(command), None)


class Recorder(JobQueue):
    """Records the hooks, and adds one more job when the first one ends."""

    def __init__(self, jobs: list[Job], late: Job) -> None:
        super().__init__(jobs)
        self.late: Job | None = late
        self.ended: list[int] = []
        self.polled: set[int] = set()

    def on_poll(self, job: Job) -> None:
        self.polled.add(job.number)

    def on_end(self, job: Job) -> None:
        self.ended.append(job.number)
        if self.late is not None:
            self.queue.append(self.late)
            self.late = None


def test_jobs_run_side_by_side_and_a_source_may_grow(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    jobs = [
        job(0, tmp_path, sys.executable, "-c", MEET, str(a), str(b)),
        job(1, tmp_path, sys.executable, "-c", MEET, str(b), str(a)),
        job(2, tmp_path, str(tmp_path / "no such program")),
    ]
    source = Recorder(jobs, late=job(3, tmp_path, sys.executable, "-c", "print(3)"))
    assert JobPool([dict(os.environ)] * 2, grace=5.0).run(source) is None
    assert sorted(source.ended) == [0, 1, 2, 3] and source.ended[-1] == 3
    assert source.polled == {0, 1, 3}  # a job that cannot start is never polled
    assert jobs[2].state == "failed" and "could not be started" in jobs[2].error


def test_an_empty_source_does_not_wait_for_the_fork_server(tmp_path: Path) -> None:
    class NeverReady:
        def ready(self) -> bool:
            return False

    pool = JobPool([{}], grace=5.0, server=NeverReady())  # type: ignore[arg-type]
    assert pool.run(JobQueue([])) is None
