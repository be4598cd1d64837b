"""Sweeps of real training jobs, as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs_in_process import ROOT, TINY

from product_cls.runs import RunFolder

pytestmark = pytest.mark.slow


def words(tmp_path: Path, data: Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "train.py",
        "-m",
        *TINY,
        "trainer.max_epochs=2",
        "logger=none",
        f"data.root={data}",
        f"paths.cache={tmp_path / 'cache'}",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        "hydra.job.config.override_dirname.exclude_keys="
        "[data,data.root,data.size,data.batch_size,model,logger,trainer.max_epochs,callbacks,"
        "trainer.accelerator,folds.n_splits,paths.cache]",
        f"+callbacks={{bomb: {{_target_: sweep_bombs.Bomb, file: '{tmp_path / 'bombs.json'}'}}}}",
        *overrides,
    ]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "tests")}


def sweep(tmp_path: Path, data: Path, *overrides: str) -> tuple[int, str]:
    done = subprocess.run(
        words(tmp_path, data, *overrides),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_three_of_six_jobs_end_badly(tmp_path: Path, tiny_root: Path) -> None:
    bombs = tmp_path / "bombs.json"
    deeds = {"fold=0,seed=1": "raise", "fold=1,seed=0": "kill", "fold=1,seed=2": "exit"}
    bombs.write_text(json.dumps(deeds))
    grid = ("fold=0,1", "seed=0,1,2", "hydra.launcher.jobs=2")
    status, output = sweep(tmp_path, tiny_root, *grid)
    assert status != 0
    runs = {
        name: RunFolder(tmp_path / "sweep" / name)
        for name in (f"fold={fold},seed={seed}" for fold in (0, 1) for seed in (0, 1, 2))
    }
    states = {name: run.status()["state"] for name, run in runs.items()}
    assert states == {name: "failed" if name in deeds else "done" for name in runs}, output
    for sentence in ("RuntimeError: out of luck", "SIGKILL", "status 3", "3 done", "3 failed"):
        assert sentence in output, output
    finished = {
        name: run.best_checkpoint.stat().st_mtime_ns
        for name, run in runs.items()
        if name not in deeds
    }

    bombs.write_text("{}")
    status, output = sweep(tmp_path, tiny_root, *grid)
    assert status == 0, output
    assert "3 done" in output and "3 skipped" in output
    for name, run in runs.items():
        assert run.status()["state"] == "done"
        resumed = "Resuming from" in run.console_file.read_text()
        assert resumed is (name in deeds), name
    for name, written in finished.items():
        assert runs[name].best_checkpoint.stat().st_mtime_ns == written


def test_ctrl_c_keeps_what_is_finished_and_goes_on_later(tmp_path: Path, tiny_root: Path) -> None:
    bombs = tmp_path / "bombs.json"
    bombs.write_text(json.dumps({"seed=1": "wait"}))
    launched = subprocess.Popen(
        words(tmp_path, tiny_root, "seed=0,1,2", "hydra.launcher.jobs=1"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    waiting = RunFolder(tmp_path / "sweep" / "seed=1")
    deadline = time.monotonic() + 120
    while waiting.status().get("epoch") != 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    launched.send_signal(signal.SIGINT)
    output, _ = launched.communicate(timeout=60)
    assert launched.returncode == 130, output
    assert "Traceback" not in output
    assert RunFolder(tmp_path / "sweep" / "seed=0").status()["state"] == "done"
    assert waiting.status()["state"] == "failed"
    assert "Interrupted" in waiting.status()["error"]
    assert not (tmp_path / "sweep" / "seed=2" / "status.json").exists()

    bombs.write_text("{}")
    status, output = sweep(tmp_path, tiny_root, "seed=0,1,2")
    assert status == 0 and "1 skipped" in output, output
    assert "Resuming from" in waiting.console_file.read_text()
    assert waiting.metrics()["steps"] == 6


def test_a_mistake_in_the_last_job_is_said_before_any_starts(
    tmp_path: Path, tiny_root: Path
) -> None:
    status, output = sweep(tmp_path, tiny_root, "optimizer=adam,adamw,adagrad")
    assert status != 0
    assert "adagrad" in output and "adamp" in output and "Traceback" not in output
    assert not list(tmp_path.glob("sweep/*/status.json"))
