"""Sweeps of real training jobs, as a user types them."""

import signal
from pathlib import Path

import pytest
from runs_in_process import train, weights
from typed_sweeps import Sweep

pytestmark = pytest.mark.slow

FAULTS = {"fold=0,seed=1": "raise", "fold=1,seed=0": "kill", "fold=1,seed=2": "exit"}


@pytest.mark.timeout(900)  # three sweeps; on busy cores that takes minutes
def test_a_sweep_continues_after_crashes_and_ctrl_c(tmp_path: Path, tiny_root: Path) -> None:
    grid = ("fold=0,1", "seed=0,1,2")
    sweep = Sweep(tmp_path, tiny_root, *grid, "hydra.launcher.jobs=2")
    status, output = sweep.end(sweep.start(FAULTS))
    assert status != 0
    names = [f"fold={fold},seed={seed}" for fold in (0, 1) for seed in (0, 1, 2)]
    states = {name: run.status()["state"] for name, run in sweep.runs.items()}
    assert states == {name: "failed" if name in FAULTS else "done" for name in names}, output
    for sentence in ("RuntimeError: out of luck", "SIGKILL", "status 3", "3 done", "3 failed"):
        assert sentence in output, output
    finished = sweep.finished()

    # One at a time, so that the jobs after the interrupted one do not start.
    alone = Sweep(tmp_path, tiny_root, *grid, "hydra.launcher.jobs=1")
    typed = alone.start({"fold=1,seed=0": "wait"})
    alone.wait_for(typed, "fold=1,seed=0")
    typed.send_signal(signal.SIGINT)
    status, output = alone.end(typed)
    assert status == 130, output
    assert "Traceback" not in output and "hydra.launcher.preload" not in output
    waited, queued = (sweep.run(name) for name in ("fold=1,seed=0", "fold=1,seed=2"))
    assert waited.status()["state"] == "failed" and "Interrupted" in waited.status()["error"]
    for part in ("2 skipped", "1 done", "1 interrupted", "2 queued"):
        assert part in output, output
    assert queued.console_file.read_text().count("hydra.mode=RUN") == 1
    assert sweep.finished().keys() == finished.keys() | {"fold=0,seed=1"}

    sweep.check_continues(["fold=1,seed=0", "fold=1,seed=2"])
    for name in names:
        resumed = "Resuming from" in sweep.run(name).console_file.read_text()
        assert resumed is (name in FAULTS), name
    assert finished.items() <= sweep.finished().items()

    # Forked jobs learn the same weights as a single run.
    settings = sweep.settings[:-1]
    lone = train(tmp_path / "lone", tiny_root, *settings, "fold=0", "seed=0")
    assert all(value.equal(weights(sweep.run(names[0]))[k]) for k, value in weights(lone).items())


def test_a_mistake_in_the_last_job_is_found_before_any_starts(
    tmp_path: Path, tiny_root: Path
) -> None:
    sweep = Sweep(tmp_path, tiny_root, "optimizer=adam,adamw,adagrad")
    status, output = sweep.end(sweep.start({}))
    assert status != 0
    assert "adagrad" in output and "adamp" in output and "Traceback" not in output
    assert not sweep.runs
