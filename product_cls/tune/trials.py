"""Runs the trials of a study, a few at a time, and stops unpromising ones early."""

import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import Trial, TrialState

from product_cls.core.files import now
from product_cls.launchers.fork_server import ForkServer
from product_cls.launchers.job import Job
from product_cls.launchers.pool import JobPool
from product_cls.tune.study import Search, is_result

# A search without a success ends after this many failures. A trial may fail because of its values
# (out of memory, a NaN loss) or because no trial can succeed (a missing folder).
FAILURES = 5


@dataclass
class RunningTrial:
    """A trial whose job is running."""

    trial: Trial
    epoch: int = 0  # the last epoch reported to the study
    prune_reason: str = ""  # why it was told to stop
    kill_at: float = float("inf")  # time.monotonic() of SIGKILL, for a trial that does not stop


class TrialQueue:
    """Supplies the trials of a search to a ``JobPool``.

    Trials that an earlier search left unfinished come first.

    Args:
        search: an open search.
        total: trials that the study should have in the end.
        grace: seconds from SIGINT to SIGKILL for a pruned trial.
    """

    def __init__(self, search: Search, total: int, grace: float) -> None:
        self.search, self.total, self.grace = search, total, grace
        self.jobs: list[Job] = []  # all jobs started so far
        self.unfinished = deque(search.interrupted())
        self.running: dict[int, RunningTrial] = {}  # by number
        self.missing, self.failures = search.missing(total), 0

    def has_next(self) -> bool:
        """Whether to start a trial; not after ``FAILURES`` unless a trial has succeeded."""
        hopeless = self.failures >= FAILURES and self.search.first_success() is None
        return not hopeless and (bool(self.unfinished) or self.missing > 0)

    def next_job(self) -> Job:
        if self.unfinished:
            trial, epoch = self.unfinished.popleft()
        else:
            trial, epoch = self.search.ask(), 0
            self.missing -= 1
        job = self.search.job(trial)
        self.running[job.number] = RunningTrial(trial, epoch)
        self.jobs.append(job)
        return job

    def on_poll(self, job: Job) -> None:
        watch(self.running[job.number], job, self.grace)

    def on_end(self, job: Job) -> None:
        running = self.running.pop(job.number)
        conclude(self.search, running.trial, job, prune_reason=running.prune_reason)
        self.missing = self.search.missing(self.total)
        self.failures += job.state == "failed"


def run_trials(
    search: Search,
    total: int,
    environments: Sequence[Mapping[str, str]],
    grace: float,
    server: ForkServer | None = None,
) -> int | None:
    """Run trials until the study has ``total``, or ``FAILURES`` have failed and none succeeded.

    Trials that a signal stops stay open in the study, and the next search resumes them.

    Args:
        search: an open search.
        total: trials that the study should have in the end.
        environments: environment variables, one mapping per concurrent trial.
        grace: seconds for a trial to end after SIGINT.
        server: forks the trials; None: each is a new process.

    Returns:
        The signal that stopped the search, or None.
    """
    return JobPool(environments, grace, server).run(TrialQueue(search, total, grace))


def watch(running: RunningTrial, job: Job, grace: float) -> None:
    """Report a new epoch to the study, and stop the trial if the study prunes it."""
    if running.prune_reason:
        if time.monotonic() > running.kill_at:
            job.send(signal.SIGKILL)
        return
    status = job.status()
    epoch, value = status.get("epoch"), status.get("value")
    if not isinstance(epoch, int) or epoch <= running.epoch or not is_result(value):
        return
    running.epoch = epoch
    running.trial.report(value, epoch)
    if epoch < status.get("epochs", 0) and running.trial.should_prune():
        running.prune_reason = f"stopped after epoch {epoch}, {status['metric']} {value:.4f}"
        running.kill_at = time.monotonic() + grace
        job.send(signal.SIGINT)


def conclude(search: Search, trial: Trial, job: Job, *, prune_reason: str) -> None:
    """Record the outcome of a trial in the study, and for a pruned trial in its run folder."""
    value = job.folder.status().get("value")
    if job.state in ("done", "skipped") and is_result(value):
        search.study.tell(trial, value)
    elif prune_reason and job.state != "done":
        job.state, job.error = "pruned", prune_reason
        job.folder.update_status(
            state="failed", error=f"Pruned by the search: {prune_reason}.", finished=now()
        )
        search.study.tell(trial, state=TrialState.PRUNED)
    else:
        job.state = "failed"
        job.error = job.error or f"its metric is {value}"
        trial.set_user_attr("error", job.error)
        search.study.tell(trial, state=TrialState.FAIL)
