"""Runs the trials of a study, a few at a time, and gives up those that are not worth their time."""

import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import Trial, TrialState

from product_cls.core.files import now
from product_cls.launchers.fork_server import ForkServer
from product_cls.launchers.job import Job
from product_cls.launchers.run_jobs import POLL, signals_noted, stop
from product_cls.launchers.table import Display
from product_cls.tune.study import Search, is_result

# Failed trials that end a search in which none has succeeded. Some fail by what was drawn (out of
# memory, a loss that became nan), others because none can succeed (a folder that is not there).
FAILURES = 5


@dataclass
class Running:
    """A trial whose process runs."""

    trial: Trial
    job: Job
    environment: Mapping[str, str]
    epoch: int = 0  # the last that was told to the study
    given_up: str = ""  # why it was asked to end
    forced: float = float("inf")  # time.monotonic() from when it is no longer asked


def run_trials(
    search: Search,
    total: int,
    environments: Sequence[Mapping[str, str]],
    grace: float,
    original: ForkServer | None = None,
) -> int | None:
    """Run trials until the study has ``total``, or ``FAILURES`` have failed and none succeeded.

    Interrupted ones of earlier searches go first.

    Args:
        environments: one for each trial that may run at once.
        grace: seconds of a trial to end after SIGINT.
        original: what trials are copies of; None: each is a new process.

    Returns:
        The signal that stopped the search, or None.
    """
    free = deque(environments)
    running: list[Running] = []
    jobs: list[Job] = []
    again = deque(search.interrupted())
    missing, failures = search.missing(total), 0

    def wanted() -> bool:
        hopeless = failures >= FAILURES and search.first_success() is None
        return not hopeless and (bool(again) or missing > 0)

    with signals_noted() as received, Display(jobs) as display:

        def concluded(trial: Trial, job: Job, given_up: str) -> None:
            nonlocal missing, failures
            conclude(search, trial, job, given_up=given_up)
            display.ended(job)
            missing, failures = search.missing(total), failures + (job.state == "failed")

        try:
            # After FAILURES what still runs ends first: if it succeeds, the search goes on.
            while (wanted() or running) and not received:
                ready = original is None or original.ready()
                while ready and free and wanted():
                    if again:
                        trial, epoch = again.popleft()
                    else:
                        trial, epoch, missing = search.ask(), 0, missing - 1
                    job = search.job(trial)
                    jobs.append(job)
                    job.start(free[0], original)
                    display.started(job)
                    if job.process is None:
                        concluded(trial, job, "")
                    else:
                        running.append(Running(trial, job, free.popleft(), epoch))
                for each in list(running):
                    watch(each, grace)
                    if each.job.ended(interrupted=False):
                        running.remove(each)
                        free.append(each.environment)
                        concluded(each.trial, each.job, each.given_up)
                if original is not None:
                    original.reap([each.job.process.pid for each in running if each.job.process])
                display.refresh()
                time.sleep(POLL)
            if received and running:
                display.say(f"Stopping, within {grace:g} seconds; again: at once.")
        finally:
            # Their trials stay open in the study, so that the next search goes on with them.
            stop([each.job for each in running], grace, received)
    return received[0][0] if received else None


def watch(each: Running, grace: float) -> None:
    """Tell the study of a new epoch, and end the trial if it is not worth more."""
    if each.given_up:
        if time.monotonic() > each.forced:
            each.job.send(signal.SIGKILL)
        return
    status = each.job.status()
    epoch, value = status.get("epoch"), status.get("value")
    if not isinstance(epoch, int) or epoch <= each.epoch or not is_result(value):
        return
    each.epoch = epoch
    each.trial.report(value, epoch)
    if epoch < status.get("epochs", 0) and each.trial.should_prune():
        each.given_up = f"given up after epoch {epoch}, {status['metric']} {value:.4f}"
        each.forced = time.monotonic() + grace
        each.job.send(signal.SIGINT)


def conclude(search: Search, trial: Trial, job: Job, *, given_up: str) -> None:
    """Write into the study, and for a pruned trial into its run, what came of it."""
    value = job.folder.status().get("value")
    if job.state in ("done", "skipped") and is_result(value):
        search.study.tell(trial, value)
    elif given_up and job.state != "done":
        job.state, job.error = "pruned", given_up
        job.folder.update_status(
            state="failed", error=f"Pruned by the search: {given_up}.", finished=now()
        )
        search.study.tell(trial, state=TrialState.PRUNED)
    else:
        job.state = "failed"
        job.error = job.error or f"its metric is {value}"
        trial.set_user_attr("error", job.error)
        search.study.tell(trial, state=TrialState.FAIL)
