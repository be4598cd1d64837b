"""A sweep on a local Ray."""

from pathlib import Path

import pytest
from typed_sweeps import Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_sweep_with_two_crashes(tmp_path: Path, tiny_root: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    launcher = ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
    sweep = Sweep(tmp_path, tiny_root, *launcher, "seed=0,1,2,3")
    status, output = sweep.end(sweep.start({"seed=1": "raise", "seed=2": "kill"}))
    assert status == 1, output
    assert sweep.states() == ["done", "failed", "failed", "done"], output
    for sentence in ("RuntimeError: out of luck", "SIGKILL", "2 done", "2 failed"):
        assert sentence in output, output
    # Ray restarts workers that die. The worker of a killed job does not die, so the job ran once.
    assert sweep.run("seed=2").console_file.read_text().count("hydra.mode=RUN") == 1
    sweep.check_continues(["seed=1", "seed=2"])
