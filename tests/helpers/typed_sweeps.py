"""A sweep of tiny runs as a user types it, on this machine or a cluster, with planned faults."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runs_in_process import ROOT, TINY

from product_cls.runs.folder import RunFolder


class Sweep:
    """The command of a sweep with two epochs per run, and its runs by the names of their folders.

    Args:
        tmp_path: where results and caches go.
        data: pictures in the competition's layout.
        grid: overrides that vary, and others that are left out of folder names (``hydra``,
            ``data.size``, ...).
        before: words before the command, such as a script that starts a cluster.
        bomb: the callback that ends runs; None: ``sweep_bombs.Bomb``, with the faults of ``start``.
    """

    def __init__(
        self,
        tmp_path: Path,
        data: Path,
        *grid: str,
        before: Sequence[str] = (),
        bomb: str | None = None,
    ) -> None:
        self.bombs, self.log = tmp_path / "bombs.json", tmp_path / "sweep.log"
        self.folder = tmp_path / "sweep"
        bomb = bomb or f"{{_target_: sweep_bombs.Bomb, file: '{self.bombs}'}}"
        self.settings = [
            *TINY,
            "trainer.max_epochs=2",
            "logger=none",
            f"data.root={data}",
            f"paths.cache={tmp_path / 'cache'}",
            f"+callbacks={{bomb: {bomb}}}",
        ]
        unnamed = [word.partition("=")[0].lstrip("+") for word in self.settings]
        self.words = [
            *before,
            *(sys.executable, "train.py", "-m", *self.settings),
            f"hydra.sweep.dir={self.folder}",
            "hydra.job.config.override_dirname.exclude_keys="
            f"[{','.join(unnamed)},trainer,trainer.devices]",
            *grid,
        ]

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name)

    @property
    def runs(self) -> dict[str, RunFolder]:
        """Runs that have started, by name."""
        files = sorted(self.folder.glob("*/status.json"))
        return {file.parent.name: RunFolder(file.parent) for file in files}

    def start(self, faults: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Start the sweep in the background.

        Args:
            faults: name of a run -> what ``sweep_bombs.Bomb`` does to it.
        """
        self.bombs.write_text(json.dumps(faults))
        with self.log.open("w") as log:
            return subprocess.Popen(
                self.words,
                cwd=ROOT,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def end(self, sweep: "subprocess.Popen[str]", timeout: float = 600) -> tuple[int, str]:
        """Wait for the exit status and the output; a hanging sweep is killed with its children."""
        try:
            sweep.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        return sweep.returncode, self.log.read_text()

    def states(self) -> list[str]:
        """States of the runs that have started, in the order of their names."""
        return [str(run.status().get("state")) for run in self.runs.values()]

    def finished(self) -> dict[str, int]:
        """Finished runs, with the time when their best checkpoint was written."""
        return {
            name: run.best_checkpoint.stat().st_mtime_ns
            for name, run in self.runs.items()
            if run.status()["state"] == "done"
        }

    def wait_for(self, sweep: "subprocess.Popen[str]", name: str, timeout: float = 600) -> None:
        """Wait until a run whose fault is ``wait`` has reached it."""
        deadline = time.monotonic() + timeout
        while not (self.run(name).path / "waiting").exists():
            if time.monotonic() > deadline or sweep.poll() is not None:
                raise AssertionError(self.end(sweep, timeout=0)[1])
            time.sleep(0.2)

    def check_continues(self, resumed: Sequence[str]) -> None:
        """Run the command again without faults: finished runs are skipped, ``resumed`` resume."""
        finished = self.finished()
        status, output = self.end(self.start({}))
        assert status == 0, output
        assert f"{len(finished)} skipped" in output and f"{len(resumed)} done" in output, output
        assert self.states() == ["done"] * (len(finished) + len(resumed))
        for name in resumed:
            assert "Resuming from" in self.run(name).console_file.read_text(), name
            assert self.run(name).metrics()["steps"] == 6, name
        for name, written in finished.items():
            assert self.finished()[name] == written, name
