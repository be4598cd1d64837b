"""A sweep of four tiny trainings on a cluster, typed twice; for test_slurm.py and test_ray.py."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from runs_in_process import ROOT, TINY

from product_cls.runs import RunFolder


class Sweep:
    """What is typed, and its runs ``seed=0`` to ``seed=3``.

    Args:
        tmp_path: where its results and caches go.
        data: the competition's layout.
        before: words before the command, such as a script that brings a cluster.
        launcher: overrides that choose it.
    """

    def __init__(
        self, tmp_path: Path, data: Path, before: Sequence[str], launcher: Sequence[str]
    ) -> None:
        self.bombs = tmp_path / "bombs.json"
        self.runs = {f"seed={k}": RunFolder(tmp_path / "sweep" / f"seed={k}") for k in range(4)}
        self.log = tmp_path / "sweep.log"
        exclude = [word.partition("=")[0] for word in TINY]
        self.words = [
            *before,
            sys.executable,
            "train.py",
            "-m",
            *TINY,
            "trainer.max_epochs=2",
            "logger=none",
            f"data.root={data}",
            f"paths.cache={tmp_path / 'cache'}",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
            f"hydra.job.config.override_dirname.exclude_keys=[{','.join(exclude)},trainer,data.root"
            ",logger,paths.cache,callbacks]",
            f"+callbacks={{bomb: {{_target_: sweep_bombs.Bomb, file: '{self.bombs}'}}}}",
            *launcher,
            "seed=0,1,2,3",
        ]

    def start(self, deeds: dict[str, str]) -> subprocess.Popen[str]:
        """Type the command in the background; ``deeds``: what ``sweep_bombs`` does to which run."""
        self.bombs.write_text(json.dumps(deeds))
        with self.log.open("w") as log:
            return subprocess.Popen(
                self.words,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def end(self, sweep: subprocess.Popen[str], timeout: float = 600) -> tuple[int, str]:
        """Wait for it: exit status and output. One that hangs is killed with its children."""
        try:
            sweep.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        return sweep.returncode, self.log.read_text()

    def states(self) -> list[str]:
        return [str(run.status().get("state")) for run in self.runs.values()]

    def wait_for(self, sweep: subprocess.Popen[str], name: str, timeout: float = 600) -> None:
        """Until a run whose deed is ``wait`` does so."""
        deadline = time.monotonic() + timeout
        while not (self.runs[name].path / "waiting").exists():
            if time.monotonic() > deadline or sweep.poll() is not None:
                raise AssertionError(self.end(sweep, timeout=0)[1])
            time.sleep(0.2)

    def check_typed_again(self, resumed: Sequence[str]) -> None:
        """Type it without faults: what is done is skipped, ``resumed`` goes on, all are done."""
        written = {
            name: run.best_checkpoint.stat().st_mtime_ns
            for name, run in self.runs.items()
            if name not in resumed
        }
        status, output = self.end(self.start({}))
        assert status == 0, output
        assert f"{len(written)} skipped" in output and f"{len(resumed)} done" in output, output
        assert self.states() == ["done"] * 4
        for name in resumed:
            assert "Resuming from" in self.runs[name].console_file.read_text(), name
            assert self.runs[name].metrics()["steps"] == 6, name
        for name, when in written.items():
            assert self.runs[name].best_checkpoint.stat().st_mtime_ns == when, name
