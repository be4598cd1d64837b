"""A sweep of tiny trainings as a user types it, on this machine or a cluster, with bombs in it."""

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
    """What is typed, two epochs a run, and its runs by the names of their folders.

    Args:
        tmp_path: where its results and caches go.
        data: the competition's layout.
        grid: overrides that vary, and more that name no folder (``hydra``, ``data.size``, ...).
        before: words before the command, such as a script that brings a cluster.
        bomb: the callback that ends runs; None: ``sweep_bombs.Bomb``, told by ``start``.
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
        """Those that have begun, by name."""
        files = sorted(self.folder.glob("*/status.json"))
        return {file.parent.name: RunFolder(file.parent) for file in files}

    def start(self, deeds: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Type the command in the background; ``deeds``: what ``sweep_bombs`` does to which run."""
        self.bombs.write_text(json.dumps(deeds))
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
        """Wait for it: exit status and output. One that hangs is killed with its children."""
        try:
            sweep.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.wait()
        return sweep.returncode, self.log.read_text()

    def states(self) -> list[str]:
        """Of those that have begun, in the order of their names."""
        return [str(run.status().get("state")) for run in self.runs.values()]

    def finished(self) -> dict[str, int]:
        """Runs that are done, with the time when their best checkpoint was written."""
        return {
            name: run.best_checkpoint.stat().st_mtime_ns
            for name, run in self.runs.items()
            if run.status()["state"] == "done"
        }

    def wait_for(self, sweep: "subprocess.Popen[str]", name: str, timeout: float = 600) -> None:
        """Until a run whose deed is ``wait`` does so."""
        deadline = time.monotonic() + timeout
        while not (self.run(name).path / "waiting").exists():
            if time.monotonic() > deadline or sweep.poll() is not None:
                raise AssertionError(self.end(sweep, timeout=0)[1])
            time.sleep(0.2)

    def check_typed_again(self, resumed: Sequence[str]) -> None:
        """Type it without faults: what is done is skipped, ``resumed`` goes on, all are done."""
        finished = self.finished()
        status, output = self.end(self.start({}))
        assert status == 0, output
        assert f"{len(finished)} skipped" in output and f"{len(resumed)} done" in output, output
        assert self.states() == ["done"] * (len(finished) + len(resumed))
        for name in resumed:
            assert "Resuming from" in self.run(name).console_file.read_text(), name
            assert self.run(name).metrics()["steps"] == 6, name
        for name, when in finished.items():
            assert self.finished()[name] == when, name
