"""One job of a sweep: the GPUs and threads it gets, its process, and what came of it.

Knows nothing of Hydra: a job is a command, an environment and a run folder. ``launcher.py`` makes
them, ``launcher_table.py`` runs a few at a time.
"""

import itertools
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from product_cls.cores import usable_cores
from product_cls.errors import UserError
from product_cls.launcher_copies import Copy, Original
from product_cls.parents import die_with
from product_cls.runs import RunFolder, now

State = Literal["queued", "running", "done", "skipped", "failed", "interrupted", "pruned"]

# What torchrun, Lightning, Slurm and jsrun use to tell a process its rank. A job that inherits one
# believes to be part of a larger run: it waits for the other ranks, or trains nothing as rank 1.
RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "NODE_RANK"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "JSM_NAMESPACE_RANK"),
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# What a logger, `cli.guard` and an exception (its name is kept, but for UserError) say last.
ERROR_LINE = re.compile(
    r"(\[.*\]\[(ERROR|CRITICAL)\] - |error: |product_cls\.errors\.UserError: )?"
    r"(?P<sentence>(?(1).+|(\w+\.)*\w*(Error|Exception)\b.*))"
)


@dataclass
class Job:
    """One job: what to run and where, then how it goes."""

    number: int
    label: str  # the overrides that tell it from the others
    folder: RunFolder
    command: list[str]
    result: Any  # of no concern here: what Hydra wants to have back
    state: State = "queued"
    error: str = ""  # one sentence, of a job that failed or was interrupted
    begun: float = 0.0  # time.monotonic()
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | Copy | None = None
    before: dict[str, Any] = field(default_factory=dict)  # status.json when the job was started
    version_before: tuple[int, int] | None = None
    log_before: int = 0  # bytes of console.log from earlier attempts

    def status(self) -> dict[str, Any]:
        """What this run has written; empty as long as ``status.json`` is of an earlier one."""
        mine = (
            self.state == "skipped" or file_version(self.folder.status_file) != self.version_before
        )
        return self.folder.status() if mine else {}

    def start(self, environment: Mapping[str, str], original: Original | None = None) -> None:
        """Start the process; a job that cannot even be started has failed.

        Args:
            original: the process that it is a copy of; None: a new one.
        """
        self.state, self.begun = "running", time.monotonic()
        self.before = self.folder.status()
        self.version_before = file_version(self.folder.status_file)
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            with self.folder.console_file.open("ab") as console:  # earlier attempts stay readable
                console.write(f"\n{now()} $ {shlex.join(self.command)}\n".encode())
                console.flush()
                self.log_before = console.tell()
                if original is not None:
                    self.process = original.copy(
                        self.command, environment, self.folder.console_file
                    )
                if self.process is None:
                    self.process = subprocess.Popen(
                        self.command,
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        stdout=console,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # the terminal's Ctrl-C reaches the launcher alone
                        preexec_fn=die_with(os.getpid()),
                    )
        except OSError as error:
            self.state, self.error = "failed", f"could not be started: {error}"

    def send(self, signum: int) -> None:
        """Send a signal to the job with its workers and ranks."""
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses for zombies
            os.killpg(self.process.pid, signum)

    def ended(self, *, interrupted: bool) -> bool:
        """Whether the process has ended; if so, note what came of the job."""
        assert self.process is not None
        pid = self.process.pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        # Ranks and workers that outlive their parent hold the GPU. While the parent is not reaped
        # its number cannot have become that of another group.
        self.send(signal.SIGKILL)
        code = self.process.wait()
        self.seconds = time.monotonic() - self.begun
        changed = file_version(self.folder.status_file) != self.version_before
        self.state, self.error = outcome(code, self.before, self.folder.status(), changed=changed)
        if code in (1, 2) and self.error == f"exited with status {code}":  # which says nothing
            self.error = last_error(self.folder.console_file, self.log_before) or self.error
        if self.state == "failed" and interrupted:
            self.state, self.error = "interrupted", "interrupted before it was done"
        if self.error:
            self.correct_status()
        return True

    def correct_status(self) -> None:
        """A run that was killed has left its state at ``running``: reports must not believe it."""
        # The lock is held where the same command runs in another terminal: then it does run.
        with suppress(UserError, OSError), self.folder.locked():
            if self.folder.status().get("state") == "running":
                self.folder.update_status(state="failed", error=self.error, finished=now())


def file_version(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file is replaced; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def outcome(
    code: int, before: Mapping[str, Any], after: Mapping[str, Any], *, changed: bool
) -> tuple[State, str]:
    """What came of a job, and the error of one that failed.

    Args:
        code: of the process; negative: the signal that killed it.
        before, after: ``status.json`` when the process was started and when it had ended.
        changed: whether it was written in between.
    """
    state = after.get("state")
    if code == 0 and state == "done":
        # A run that is skipped leaves its status alone; one that was made anew has a new time.
        again = before.get("state") == "done" and before.get("finished") == after.get("finished")
        return ("skipped" if again else "done"), ""
    if changed and state == "failed" and after.get("error"):
        return "failed", str(after["error"]).splitlines()[0]
    if code >= 0 and changed and state == "done":
        return "failed", f"{ending(code)} after its results were written"
    return "failed", ending(code) if code else f"{ending(code)} before it was done"


def ending(code: int) -> str:
    """How a process ended; a negative ``code`` is the signal that killed it."""
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (by the system, probably: out of memory)"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


def last_error(log: Path, start: int) -> str:
    """The last line of a log that names an error, without what comes before its sentence.

    Args:
        log: ``console.log``.
        start: bytes of earlier attempts, to be left out.

    Returns:
        At most 200 letters; empty where there is no such line.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 50_000))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if match := ERROR_LINE.match(line):
            return match["sentence"][:200]
    return ""


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that jobs may use, as ``CUDA_VISIBLE_DEVICES`` takes them.

    A ``CUDA_VISIBLE_DEVICES`` that was inherited (from a user or a cluster) is honoured, with
    numbers or UUIDs. torch is not asked: it takes seconds to import, and a process that has touched
    CUDA keeps memory on the GPU for as long as the sweep lasts.
    """
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # CUDA, too, stops at the first name that is no device: "-1" hides all.
        names = (name.strip() for name in given.split(","))
        return list(itertools.takewhile(re.compile(r"\d+|(GPU|MIG)-\S+").fullmatch, names))
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
        count = sum(line.startswith("GPU ") for line in listing.splitlines())
    except FileNotFoundError:  # a slim container
        devices = Path("/proc/driver/nvidia/gpus")
        count = len(list(devices.iterdir())) if devices.is_dir() else 0
    except subprocess.TimeoutExpired:
        count = 0
    return [str(number) for number in range(count)]


def assign_gpus(
    gpus: Sequence[str],
    jobs: int | None,
    gpus_per_job: int,
    jobs_per_gpu: int = 1,
    *,
    key: str = "hydra.launcher.gpus, else trainer.devices",
) -> list[str | None]:
    """Which GPUs each of the jobs that run at once sees: ``["2", "5"]`` for GPUs 2 and 5.

    More jobs than GPUs share them evenly.

    Args:
        gpus: names from ``visible_gpus``.
        jobs: how many at once; None: as many as the GPUs suffice for.
        gpus_per_job: at least 1.
        jobs_per_gpu: that a GPU suffices for, at least 1.
        key: what the user sets ``gpus_per_job`` with.

    Raises:
        UserError: a job wants more GPUs than there are.
    """
    if not gpus:
        return [None] * (jobs or 1)
    if gpus_per_job > len(gpus):
        raise UserError(
            f"A job takes {gpus_per_job} GPUs ({key}), but only {len(gpus)} can be used."
        )
    names = itertools.cycle(gpus)
    return [
        ",".join(itertools.islice(names, gpus_per_job))
        for _ in range(jobs or len(gpus) * jobs_per_gpu // gpus_per_job)
    ]


def job_environment(
    environ: Mapping[str, str], gpus: str | None, *, threads: int | None, at_once: int
) -> dict[str, str]:
    """The environment of a job.

    Args:
        environ: the launcher's own.
        gpus: ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
        threads: CPU threads of the job; None: an equal share of the cores, where the user has not
            set a number. A job that runs alone is left to the libraries' own choice, as in a single
            run, which also keeps its sums, hence its weights, the same.
        at_once: how many jobs run at once.
    """
    result = {
        key: value
        for key, value in environ.items()
        if key not in RANK_VARIABLES and not key.startswith("TORCHELASTIC_")
    }
    result["PYTHONUNBUFFERED"] = "1"  # the last words of a killed job are in its log
    if gpus is not None:
        result["CUDA_VISIBLE_DEVICES"] = gpus
    share = str(max(1, usable_cores() // at_once))
    for name in THREAD_VARIABLES:
        if threads is not None:
            result[name] = str(threads)
        elif at_once > 1:
            result.setdefault(name, share)
    return result
