"""A sweep on a real one-node Slurm; needs Debian's packages."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from runs_in_process import ROOT
from typed_sweeps import Sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SCRIPT = ROOT / "tests" / "helpers" / "one_node_slurm.sh"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare", "ip", "nsenter")


@pytest.fixture
def needs_slurm() -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    missing = [
        name for name in PROGRAMS if not (shutil.which(name) or shutil.which(name, path=path))
    ]
    if missing:
        pytest.skip(
            f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
        )
    tried = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"no namespaces here: {tried.stderr.strip()}")


def inside(pid: int, *command: str) -> None:
    """Run a command in the namespaces of the child of ``pid``, an ``unshare`` process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    subprocess.run(["nsenter", "--target", child, "--all", *command], check=True)


@pytest.mark.usefixtures("needs_slurm")
def test_sweep_with_a_crash_and_a_requeued_job(tmp_path: Path, tiny_root: Path) -> None:
    grid = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "seed=0,1,2,3")
    slurm = tmp_path / "slurm"
    sweep = Sweep(tmp_path, tiny_root, *grid, before=[str(SCRIPT), str(slurm)])
    typed = sweep.start({"seed=1": "raise", "seed=2": "kill", "seed=3": "wait"})
    sweep.wait_for(typed, "seed=3")
    # As before a time limit, Slurm signals all processes of the job (task 3 of array 1).
    sweep.bombs.write_text(json.dumps({"seed=1": "raise", "seed=2": "kill"}))
    job = ["env", f"SLURM_CONF={slurm / 'slurm.conf'}", "scancel", "--signal=USR2", "1_3"]
    inside(typed.pid, *job)
    status, output = sweep.end(typed)
    assert status == 1, output
    assert sweep.states() == ["done", "failed", "failed", "done"], output
    for sentence in ("RuntimeError: out of luck", "SIGKILL", "2 done", "2 failed"):
        assert sentence in output, output
    assert "Resuming from" in sweep.run("seed=3").console_file.read_text()
    assert "Traceback" not in output
    sweep.check_continues(["seed=1", "seed=2"])
