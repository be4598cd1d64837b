"""The launcher `processes`, with an application that is fast and fails on request."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from rich.console import Console

from product_cls.core.errors import UserError
from product_cls.launchers import resources
from product_cls.launchers.base import check_folders, gpus_per_job, job_return
from product_cls.launchers.job import Job, last_error, outcome
from product_cls.launchers.processes import ProcessesLauncher
from product_cls.launchers.resources import assign_gpus, job_environment, visible_gpus
from product_cls.launchers.table import jobs_table
from product_cls.runs.folder import RunFolder

SETTINGS = {
    "jobs": None,
    "gpus": None,
    "jobs_per_gpu": None,
    "threads": None,
    "grace": 30.0,
    "preload": [],
}
REPOSITORY = Path(__file__).parents[2]

CONFIG = """
defaults: [_self_, {model: b0}, {override hydra/launcher: processes}]
name: sweep
fold: 0
exclude: []
hydra:
  run: {dir: "multirun/${name}/single"}
  sweep: {dir: "multirun/${name}", subdir: "${hydra.job.override_dirname}"}
  launcher: {preload: [product_cls.launchers.processes]}
"""

# FAULTS says how each fold fails, as in `1:raise 2:kill`. It is an environment variable so that the
# command stays the same when the fault is gone.
APPLICATION = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from product_cls.core.files import now
from product_cls.runs.fingerprint import fingerprint
from product_cls.runs.folder import RunFolder


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    mark = fingerprint(OmegaConf.to_container(config, resolve=True), "samples")
    fault = dict(f.split(":") for f in os.environ.get("FAULTS", "").split()).get(str(config.fold))
    if folder.plan(mark) == "skip":
        print("skipped")
        return
    with folder.locked():
        folder.begin(mark, fresh=True)
        folder.update_status(metric="accuracy", value=0.5 + config.fold / 100, epoch=1, epochs=3)
        seen = {"time": [time.time()], "pids": [os.getpid()], "env": dict(os.environ)}
        seen |= {"torch": "torch" in sys.modules, "mode": str(HydraConfig.get().mode)}
        seen |= {
            "argv": sys.argv,
            "path": sys.path,
            "main": sys.modules["__main__"].main is main,
            "files": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
            "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
            "signals": [str(signal.getsignal(each)) for each in (2, 15, signal.SIGUSR1)],
            "forked": b"launchers.fork_server" in Path("/proc/self/cmdline").read_bytes(),
        } if sys.platform == "linux" else {}
        (folder.path / "seen.json").write_text(json.dumps(seen))
        print("working on", config.fold)
        if fault:  # a worker process that survives its parent
            worker = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
            seen["pids"].append(worker.pid)
            (folder.path / "seen.json").write_text(json.dumps(seen))
        if fault == "raise":
            folder.update_status(state="failed", error="The pictures are gone.")
            raise ValueError("The pictures are gone.")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            os._exit(3)
        if fault in ("hang", "stubborn"):
            if fault == "stubborn":
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (folder.path / "hanging").touch()
            time.sleep(600)
        time.sleep(float(os.environ.get("SECONDS", 0)))
        seen["time"].append(time.time())
        (folder.path / "seen.json").write_text(json.dumps(seen))
        folder.update_status(state="done", finished=now())


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text(CONFIG)
    for name in ("b0", "b1"):
        (tmp_path / f"conf/model/{name}.yaml").write_text(f"name: {name}\n")
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def start(app: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    inherited = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=app,
        env=inherited | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(app: Path, *words: str, **environ: str) -> tuple[int, str]:
    process = start(app, *words, **environ)
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def row(output: str, text: str) -> str:
    """The row of the last table that holds ``text``."""
    return next(line for line in reversed(output.splitlines()) if line[:1] == "│" and text in line)


def seen(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "seen.json").read_text()))


def eventually(condition: Callable[[], bool], seconds: float = 100) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def gone(*folders: Path) -> bool:
    """Whether the processes of the jobs and their workers have ended."""
    pids = [pid for folder in folders for pid in seen(folder)["pids"]]
    return not any(
        # In a container, orphans may stay zombies because nothing reaps them.
        Path(f"/proc/{pid}").exists() and "\tZ" not in Path(f"/proc/{pid}/status").read_text()
        for pid in pids
    )


@pytest.mark.parametrize("preload", ["[product_cls.launchers.processes]", "[no.such.module]"])
def test_three_of_six_jobs_crash(app: Path, preload: str) -> None:
    words = ("app.py", "-m", "hydra.launcher.jobs=3", "fold=0,1,2,3,4,5")
    words += (f"hydra.launcher.preload={preload}",)
    code, output = run(app, *words, FAULTS="1:raise 2:kill 4:exit")
    assert code == 1, output
    for fold, value in ((0, "0.5000"), (3, "0.5300"), (5, "0.5500")):
        assert "done" in row(output, f"fold={fold} "), output
        assert f"accuracy {value}" in row(output, f"fold={fold} ")
    assert "The pictures are gone." in row(output, "fold=1 ")
    assert "killed by SIGKILL" in row(output, "fold=2 ") and "memory" in row(output, "fold=2 ")
    assert "exited with status 3" in row(output, "fold=4 ")
    for fold in (1, 2, 4):
        assert "failed" in row(output, f"fold={fold} ")
        assert f"multirun/sweep/fold={fold}/console.log" in row(output, f"fold={fold} ")
    assert "6 jobs: 3 done, 3 failed." in output
    warning = "hydra.launcher.preload: ModuleNotFoundError: No module named 'no'; each job starts"
    assert (warning in output) == (preload == "[no.such.module]"), output
    sweep = app / "multirun/sweep"
    status = RunFolder(sweep / "fold=2").status()
    assert status["state"] == "failed" and "SIGKILL" in status["error"]
    assert "working on 2" in (sweep / "fold=2/console.log").read_text()
    assert gone(*(sweep / f"fold={fold}" for fold in range(6)))

    code, output = run(app, *words)
    assert code == 0, output
    for fold in range(6):
        expected = "done" if fold in (1, 2, 4) else "skipped"
        assert expected in row(output, f"fold={fold} "), output
        assert f"accuracy {0.5 + fold / 100:.4f}" in row(output, f"fold={fold} ")


def test_limits_and_environment_of_jobs(app: Path) -> None:
    launched_by = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_PORT": "1",
        "NODE_RANK": "0",
    }
    code, output = run(
        app,
        *("-m", "app", "--config-name=config", "--multirun", "fold=0,1,2"),
        *("hydra.launcher.jobs=2", "hydra.launcher.threads=5", "hydra.job.name=mine"),
        SECONDS="0.5",
        TORCHELASTIC_RUN_ID="x",
        CUDA_VISIBLE_DEVICES="2,GPU-a",
        **launched_by,
    )
    assert code == 0, output
    jobs = [seen(app / f"multirun/sweep/fold={fold}") for fold in range(3)]
    overlap = [sum(a["time"][0] <= b["time"][0] < a["time"][1] for a in jobs) for b in jobs]
    assert max(overlap) == 2
    for job in jobs:
        assert not (set(launched_by) | {"TORCHELASTIC_RUN_ID"}) & set(job["env"])
        assert job["env"]["OMP_NUM_THREADS"] == "5"
        assert not job["torch"] and job["mode"] == "RunMode.RUN"
    assert {job["env"]["CUDA_VISIBLE_DEVICES"] for job in jobs} == {"2", "GPU-a"}
    for a in jobs:  # those that overlap are on different GPUs
        for b in jobs:
            if a is not b and a["time"][0] <= b["time"][0] < a["time"][1]:
                assert a["env"]["CUDA_VISIBLE_DEVICES"] != b["env"]["CUDA_VISIBLE_DEVICES"]
        assert job["argv"][0] == str(app / "app.py")
    hydra = OmegaConf.load(app / "multirun/sweep/fold=2/.hydra/hydra.yaml").hydra
    assert hydra.job.name == "mine" and hydra.job.num == 2
    assert list(hydra.overrides.task) == ["fold=2"]


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")
@pytest.mark.parametrize("program", [("app.py",), ("-m", "app")])
def test_a_forked_job_sees_what_its_command_would_see(app: Path, program: tuple[str, ...]) -> None:
    views = []
    for name, preload in (("forked", "[product_cls.launchers.processes]"), ("commands", "[]")):
        words = (*program, "--multirun", f"name={name}", f"hydra.launcher.preload={preload}")
        code, output = run(app, *words, "fold=0,1", PYTHONHASHSEED="7")
        assert code == 0, output
        job = seen(app / f"multirun/{name}/fold=1,name={name}")
        assert job.pop("forked") is (name == "forked")
        del job["pids"], job["time"]
        views.append(json.loads(json.dumps(job).replace("commands", "forked")))
    forked, command = views
    assert forked == command
    assert forked["leads"] and forked["main"] and forked["files"][1].endswith("console.log")
    assert "default_int_handler" in forked["signals"][0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_no_process(app: Path, signum: int) -> None:
    # SIGINT: a long grace period and an impatient user; SIGTERM: the reverse.
    grace = "hydra.launcher.grace=" + ("300" if signum == signal.SIGINT else "0.5")
    preload = "[product_cls.launchers.processes]" if signum == signal.SIGINT else "[]"
    words = ("-m", "app", "--multirun", "hydra.launcher.jobs=2", grace, "fold=1,2,3")
    words += (f"hydra.launcher.preload={preload}",)
    launched = start(app, *words, FAULTS="1:hang 2:stubborn")
    folders = [app / f"multirun/sweep/fold={fold}" for fold in (1, 2)]
    assert eventually(lambda: all((folder / "hanging").exists() for folder in folders))
    launched.send_signal(signum)
    time.sleep(0.05)
    launched.send_signal(signum)  # as `timeout` does; only a later signal means impatience
    if signum == signal.SIGINT:
        time.sleep(1.2)
        launched.send_signal(signum)
    output, _ = launched.communicate(timeout=100)
    assert launched.returncode == 128 + signum
    assert gone(*folders)
    assert "queued" in row(output, "fold=3 ")
    for fold in (1, 2):
        assert "interrupted" in row(output, f"fold={fold} ")
        assert RunFolder(app / f"multirun/sweep/fold={fold}").status()["state"] == "failed"
    assert "the same command continues the sweep" in output
    assert "Traceback" not in output


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
@pytest.mark.parametrize("preload", ["[product_cls.launchers.processes]", "[]"])
def test_jobs_die_with_a_killed_launcher(app: Path, preload: str) -> None:
    words = ("app.py", "--multirun", f"hydra.launcher.preload={preload}", "fold=0,1")
    launched = start(app, *words, FAULTS="0:hang")
    folder = app / "multirun/sweep/fold=0"
    assert eventually((folder / "hanging").exists)
    launched.kill()
    launched.wait()
    _, worker = seen(folder)["pids"]
    os.kill(worker, signal.SIGKILL)  # the dead launcher cannot end it
    launched.communicate(timeout=60)
    assert eventually(lambda: gone(folder), 20)


def test_mistakes_end_the_sweep_before_any_job(app: Path) -> None:
    code, output = run(app, "app.py", "--multirun", "model=b0,b7")
    assert code == 1 and "b7" in output and "Traceback" not in output
    code, output = run(app, "app.py", "--multirun", "fold=0,1", "hydra.sweep.subdir=same")
    assert code == 2 and "multirun/sweep/same" in output and "Traceback" not in output
    assert not list(app.rglob("status.json"))


def test_odd_folder_names_and_multirun_in_the_config(app: Path) -> None:
    # The folder's name has quotes, commas, brackets and equals signs; the config says MULTIRUN.
    config = app / "conf/config.yaml"
    config.write_text(config.read_text() + "  mode: MULTIRUN\n")
    words = (
        "app.py",
        r"name='it\'s, [a=b]'",
        "exclude=[a,b],[c]",
        "model=b1",
        "fold=7",
    )
    code, output = run(app, *words)
    assert code == 0, output
    folder = app / "multirun/it's, [a=b]"
    runs = sorted(file.parent.name for file in folder.rglob("status.json"))
    assert len(runs) == 2 and "exclude=[a,b]" in runs[0] and "exclude=[c]" in runs[1]
    assert "exclude=[a,b]" in row(output, "exclude=[a,b]")


def test_a_single_run_uses_no_launcher(app: Path) -> None:
    code, output = run(app, "app.py", "fold=2")
    assert code == 0 and output.splitlines() == ["working on 2"]
    folder = RunFolder(app / "multirun/sweep/single")
    assert folder.status()["state"] == "done" and not folder.console_file.exists()


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [
        ("2,5", ["2", "5"]),
        ("GPU-8932f937, MIG-1/2", ["GPU-8932f937", "MIG-1/2"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("NoDevFiles", []),
    ],
)
def test_visible_gpus(variable: str, gpus: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": variable}) == gpus


def test_gpus_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-a)'\necho '  MIG 1g.10gb'\n"
                    "echo 'GPU 1: NVIDIA H100 (UUID: GPU-b)'\n")  # fmt: skip
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus({}) == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert visible_gpus({}) == []
    code = (
        "import sys, product_cls.launchers.processes; "
        "print({'torch', 'pytorch_lightning'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=REPOSITORY, text=True).strip() == "set()"


def test_assign_gpus() -> None:
    assert assign_gpus(["2", "5"], None, 1) == ["2", "5"]
    assert assign_gpus(["2", "5"], 1, 1) == ["2"]
    assert assign_gpus(["2", "5"], 3, 1) == ["2", "5", "2"]
    assert assign_gpus(["0", "1", "2", "3"], None, 2) == ["0,1", "2,3"]
    assert assign_gpus([], None, 1) == [None]
    assert assign_gpus([], 3, 1) == [None] * 3
    assert assign_gpus(["2", "5"], None, 1, 2) == ["2", "5", "2", "5"]
    assert assign_gpus(["0", "1", "2"], None, 2, 2) == ["0,1", "2,0", "1,2"]
    with pytest.raises(ValueError, match=r"^gpus_per_job=2 exceeds the 1 GPUs of this machine"):
        assign_gpus(["2"], None, 2)


def test_slots_of_jobs_on_several_gpus(
    monkeypatch: pytest.MonkeyPatch, composed: Callable[..., dict[str, Any]]
) -> None:
    def slots(count: int, *overrides: str, **changed: int) -> list[str | None]:
        settings: dict[str, Any] = dict(SETTINGS) | changed
        config = OmegaConf.create(composed(*overrides))
        return ProcessesLauncher(**settings).assign_slots(count, gpus_per_job(config))

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert slots(9, "trainer=ddp") == ["4,5", "6,7"]
    assert slots(9, "trainer=ddp", "trainer.devices=4") == ["4,5,6,7"]
    assert slots(9, "trainer=ddp", jobs_per_gpu=2) == ["4,5", "6,7", "4,5", "6,7"]
    assert slots(9, jobs_per_gpu=2) == ["4", "5", "6", "7"] * 2
    assert slots(9, "trainer=ddp", "trainer.accelerator=cpu") == ["4", "5", "6", "7"]
    with pytest.raises(UserError, match=r"jobs_per_gpu=2 and .*jobs contradict"):
        slots(9, jobs_per_gpu=2, jobs=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="jobs_per_gpu=2 without a GPU"):
        slots(9, jobs_per_gpu=2)


def test_threads_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "usable_cores", lambda: 8)

    def threads(environ: Mapping[str, str], number: int | None, at_once: int) -> str | None:
        return job_environment(environ, None, threads=number, at_once=at_once).get(
            "OMP_NUM_THREADS"
        )

    assert threads({}, None, 3) == "2"
    assert threads({}, None, 20) == "1"
    assert threads({}, None, 1) is None
    assert threads({"OMP_NUM_THREADS": "7"}, None, 3) == "7"
    assert threads({"OMP_NUM_THREADS": "7"}, 5, 3) == "5"


def test_settings_out_of_range_are_refused() -> None:
    for words in ({"jobs": 0}, {"gpus": 0}, {"jobs_per_gpu": 0}, {"threads": 0}, {"grace": -1.0}):
        settings: dict[str, Any] = dict(SETTINGS) | words
        with pytest.raises(UserError, match=f"hydra.launcher.{next(iter(words))}="):
            ProcessesLauncher(**settings).assign_slots(1, 1)


def test_results_for_sweepers(tmp_path: Path) -> None:
    RunFolder(tmp_path).update_status(state="done", value=0.75)
    done = Job(0, "fold=0", RunFolder(tmp_path), [], JobReturn(), state="done")
    assert job_return(done).return_value == 0.75
    failed = Job(1, "fold=1", RunFolder(tmp_path), [], JobReturn(), state="failed", error="gone")
    with pytest.raises(CompactHydraException, match=r"Job 1 \(fold=1\) failed: gone"):
        _ = job_return(failed).return_value


def test_folders_must_differ_and_have_valid_names() -> None:
    def job(number: int, path: str) -> Job:
        return Job(number, f"fold={number}", RunFolder(Path(path)), [], None)

    check_folders([job(0, "a/x"), job(1, "a/y")])
    with pytest.raises(UserError, match=r"Jobs 0 \(fold=0\) and 1 \(fold=1\).*a/x"):
        check_folders([job(0, "a/x"), job(1, "a/../a/x")])
    with pytest.raises(UserError, match="255 bytes"):
        check_folders([job(0, "a/" + "상" * 86)])


def test_outcome() -> None:
    done = {"state": "done", "finished": "2025-01-01"}
    assert outcome(0, {}, done, changed=True) == ("done", "")
    assert outcome(0, done, done, changed=False) == ("skipped", "")
    assert outcome(0, done, done | {"finished": "2025-01-02"}, changed=True) == ("done", "")
    assert outcome(1, {}, done, changed=True)[1].endswith("after its results were written")
    assert outcome(1, done, done, changed=False) == ("failed", "exited with status 1")
    old = {"state": "failed", "error": "of last week"}
    assert outcome(1, old, old, changed=False) == ("failed", "exited with status 1")
    left = {"state": "running", "error": None}
    assert outcome(0, {}, left, changed=True) == (
        "failed",
        "exited with status 0 before it was done",
    )
    assert outcome(0, old, old, changed=False)[0] == "failed"
    assert outcome(-11, {}, {}, changed=False) == ("failed", "killed by SIGSEGV")


def test_the_last_error_is_of_this_attempt(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("ValueError: last week\n")
    start = log.stat().st_size
    assert last_error(log, start) == ""
    for line, sentence in (
        (
            "torch.OutOfMemoryError: CUDA out of memory",
            "torch.OutOfMemoryError: CUDA out of memory",
        ),
        ("[2025-01-01][product_cls.train][ERROR] - No data.", "No data."),
        ("product_cls.core.errors.UserError: No data at all.", "No data at all."),
        ("error: No such fold.", "No such fold."),
    ):
        with log.open("a") as file:
            file.write(f"Traceback ...\n  torch.x Error\n{line}\n\nSet HYDRA_FULL_ERROR=1\n")
        assert last_error(log, start) == sentence
    assert last_error(tmp_path / "none", 0) == ""


def test_the_status_of_a_run_in_another_process_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin("x", fresh=False)
    job = Job(0, "", folder, [], None, error="exited with status 1")
    with folder.locked():
        job.correct_status()
    assert folder.status()["state"] == "running"
    job.correct_status()
    assert folder.status()["state"] == "failed"


def test_the_live_table_shows_progress(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    job = Job(4, "exclude=[rotate]", folder, [], None, state="running")
    folder.update_status(state="running", epoch=2, epochs=9, metric="accuracy", value=0.91239)
    console = Console(width=120, record=True)
    console.print(jobs_table([job], logs=False))
    text = console.export_text()
    assert "exclude=[rotate]" in text and "2/9" in text and "accuracy 0.9124" in text
