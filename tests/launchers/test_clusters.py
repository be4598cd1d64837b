"""What the cluster launchers do without a cluster: a worker's task, and the sweep's end."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from product_cls.core.files import now
from product_cls.launchers.clusters import (
    ClusterTask,
    JobOutcome,
    RayLauncher,
    SlurmLauncher,
    record_outcome,
    worker_config,
)
from product_cls.launchers.job import Job
from product_cls.runs.folder import RunFolder

Work = Callable[..., JobOutcome]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A worker elsewhere is given a job of a few lines of Python, in ``tmp_path / "run"``."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = OmegaConf.create({"hydra": {"job": {"num": 4}}})
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: config.hydra))

    def run(program: str) -> JobOutcome:
        job = Job(4, "fold=4", RunFolder(tmp_path / "run"), [sys.executable, "-c", program], None)
        task = ClusterTask({4: job}, tmp_path)
        try:
            return task(config)
        finally:
            pickle.dumps(task)  # as submitit does, to queue it again

    return run


DONE = """
import json, os, signal
from pathlib import Path
status = {"state": "done", "finished": "now", "value": 0.5}
Path("run/status.json").write_text(json.dumps(status))
Path("run/seen.json").write_text(json.dumps(dict(os.environ)))
os.kill(os.getpid(), signal.SIGUSR2)
"""


def test_job_is_a_process_without_ranks(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It also outlives the signal by which Slurm warns of the time limit."""
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "RANK"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "5")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    ending = work(DONE)
    assert (ending.state, ending.error) == ("done", "")
    seen = json.loads((tmp_path / "run" / "seen.json").read_text())
    assert not {"SLURM_NTASKS", "SLURM_PROCID", "RANK"} & set(seen)
    assert seen["OMP_NUM_THREADS"] == "5" and seen["SLURM_JOB_ID"] == "17"
    assert os.environ["SLURM_NTASKS"] == "3"  # submitit's own, by which it finds its files


HANGING = """
import os, time
from pathlib import Path
Path("run/starting").write_text(str(os.getpid()))
os.rename("run/starting", "run/pid")
time.sleep(600)
"""


def test_killed_job_is_an_ending_and_no_error(work: Work) -> None:
    ending = work("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert ending.state == "failed" and "SIGKILL" in ending.error


@pytest.mark.parametrize(
    "error", [SystemExit(-1), subprocess.CalledProcessError(-signal.SIGTERM, ["scontrol"])]
)
def test_job_ends_with_its_worker(work: Work, tmp_path: Path, error: BaseException) -> None:
    """submitit's signal handler exits when it has queued the job again, by a command that Slurm may
    end together with the job."""

    def leave(*_: Any) -> None:
        raise error

    def leave_when_it_works() -> None:
        while not (tmp_path / "run" / "pid").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGALRM)

    earlier = signal.signal(signal.SIGALRM, leave)
    threading.Thread(target=leave_when_it_works, daemon=True).start()
    try:
        with pytest.raises(SystemExit):
            work(HANGING)
    finally:
        signal.signal(signal.SIGALRM, earlier)
    pid = int((tmp_path / "run" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


class Engine:
    """Finishes job 0, then fails as an engine does whose worker is gone."""

    def __init__(self, error: type[BaseException] | None) -> None:
        self.error = error

    def setup(self, *, task_function: ClusterTask, **_: Any) -> None:
        self.jobs = task_function.jobs

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        returned = []
        for number in range(len(job_overrides)):
            self.jobs[number].folder.update_status(
                state="done" if number == 0 else "running", finished=now(), value=0.25
            )
            ending = (
                JobOutcome("done", "", 1.0) if number == 0 else JobOutcome("failed", "no disk", 2.0)
            )
            returned.append(JobReturn(_return_value=ending, status=JobStatus.COMPLETED))
        if self.error is not None:
            raise self.error("node 7 does not answer")
        return returned


@pytest.fixture
def sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[type[BaseException] | None], tuple[int, str]]:
    """Two jobs with an engine that ends as given: exit status and output."""

    def run(error: type[BaseException] | None) -> tuple[int, str]:
        jobs = [
            Job(k, f"fold={k}", RunFolder(tmp_path / f"fold={k}"), [], JobReturn()) for k in (0, 1)
        ]
        launcher = SlurmLauncher()
        launcher.config = OmegaConf.create(
            {
                "hydra": {
                    "hydra_logging": None,
                    "verbose": False,
                    "overrides": {"hydra": []},
                    "sweep": {"dir": str(tmp_path)},
                    "sweeper": {
                        "_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
                    },
                }
            }
        )
        launcher.hydra_context = object()  # type: ignore[assignment]
        monkeypatch.setattr(SlurmLauncher, "engine", lambda self: Engine(error))
        monkeypatch.setattr(SlurmLauncher, "compose", lambda self, overrides, first: jobs)
        with pytest.raises(SystemExit) as exit_:
            launcher.launch([["fold=0"], ["fold=1"]], 0)
        captured = capsys.readouterr()
        return int(str(exit_.value.code)), captured.out + captured.err

    return run


def test_failed_job_is_told_in_the_table(sweep: Any) -> None:
    status, output = sweep(None)
    assert status == 1
    assert "no disk" in output and "2 jobs: 1 done, 1 failed." in output


def test_worker_that_fails_costs_its_job(tmp_path: Path) -> None:
    job = Job(0, "", RunFolder(tmp_path), [], None)
    record_outcome(job, JobReturn(_return_value=OSError("no disk"), status=JobStatus.FAILED))
    assert (job.state, job.error) == ("failed", "its worker failed: no disk")


def test_lost_worker_is_told_and_what_is_done_stays_done(sweep: Any) -> None:
    status, output = sweep(RuntimeError)
    assert status == 1
    assert "Slurm gave up on a job: node 7 does not answer. Queued jobs stay" in output
    assert "2 jobs: 1 done, 1 interrupted." in output


def test_a_cluster_that_takes_no_job_has_none(sweep: Any) -> None:
    class Refused(RuntimeError):
        def __str__(self) -> str:
            return "sbatch: error: Unknown host"

    status, output = sweep(Refused)
    assert status == 2 and "error: Slurm took no job: sbatch: error: Unknown host." in output
    assert "queue" not in output


def test_ctrl_c_says_what_goes_on(sweep: Any) -> None:
    status, output = sweep(KeyboardInterrupt)
    assert status == 130
    assert "scancel" in output and "1 interrupted" in output


def test_skipped_job_without_a_worker_to_say_so(tmp_path: Path) -> None:
    job = Job(0, "", RunFolder(tmp_path), [], None)
    job.folder.update_status(state="done", finished="yesterday")
    job.status_before = job.folder.status()
    record_outcome(job, None)
    assert job.state == "skipped"


def test_workers_compose_the_sweeps_folder_as_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.create(
        {"hydra": {"sweep": {"dir": "multirun/a"}, "overrides": {"hydra": ["hydra.verbose=true"]}}}
    )
    OmegaConf.set_readonly(config, True)
    changed = worker_config(config)
    assert changed.hydra.sweep.dir == str(tmp_path / "multirun/a")
    assert changed.hydra.overrides.hydra[1] == f"hydra.sweep.dir='{tmp_path}/multirun/a'"
    assert config.hydra.sweep.dir == "multirun/a"


def test_mistakes_before_a_job_is_handed_over(
    refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused("tasks_per_node=2"):
        SlurmLauncher(tasks_per_node=2).engine()
    monkeypatch.setattr(RayLauncher, "module", "no_such_plugin")
    with refused("pip install -e '.[ray]'"):
        RayLauncher().engine()
