"""One job of a sweep or search: its command, its process and its outcome.

A job is a command, an environment and a run folder; it knows nothing of Hydra. Launchers and
searches create jobs, and ``pool.py`` runs a few of them at a time.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from product_cls.core.child_processes import prepare_child
from product_cls.core.errors import UserError
from product_cls.core.files import now
from product_cls.core.process_environment import describe_exit
from product_cls.launchers.fork_server import ForkedJob, ForkServer
from product_cls.runs.folder import RunFolder

State = Literal["queued", "running", "done", "skipped", "failed", "interrupted", "pruned"]

# Last line of an error: from a logger, from `cli.guard`, or of an exception, whose name is kept
# except for UserError.
ERROR_LINE = re.compile(
    r"(\[.*\]\[(ERROR|CRITICAL)\] - |error: |product_cls\.core\.errors\.UserError: )?"
    r"(?P<sentence>(?(1).+|(\w+\.)*\w*(Error|Exception)\b.*))"
)


@dataclass
class Job:
    """A job: what to run, where, and its progress."""

    number: int
    label: str  # the overrides that distinguish it from the other jobs
    folder: RunFolder
    command: list[str]
    hydra_result: Any  # the JobReturn that Hydra wants back; not used here
    state: State = "queued"
    error: str = ""  # one sentence, for a job that failed or was interrupted
    started_at: float = 0.0  # time.monotonic()
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | ForkedJob | None = None
    # The next three describe the run folder when the job starts.
    status_before: dict[str, Any] = field(default_factory=dict)  # status.json
    status_version_before: tuple[int, int] | None = None
    console_size_before: int = 0  # bytes of console.log from earlier attempts

    def status(self) -> dict[str, Any]:
        """``status.json`` of this attempt; empty while the file is from an earlier one."""
        current = (
            self.state == "skipped"
            or file_version(self.folder.status_file) != self.status_version_before
        )
        return self.folder.status() if current else {}

    def start(self, environment: Mapping[str, str], server: ForkServer | None = None) -> None:
        """Start the process; if that is impossible, the job has failed.

        Args:
            environment: environment variables of the process.
            server: forks the process; None: a new process.
        """
        self.state, self.started_at = "running", time.monotonic()
        self.status_before = self.folder.status()
        self.status_version_before = file_version(self.folder.status_file)
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            with self.folder.console_file.open("ab") as console:  # keep earlier attempts readable
                console.write(f"\n{now()} $ {shlex.join(self.command)}\n".encode())
                console.flush()
                self.console_size_before = console.tell()
                if server is not None:
                    self.process = server.fork(self.command, environment, self.folder.console_file)
                if self.process is None:
                    self.process = subprocess.Popen(
                        self.command,
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        stdout=console,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # only the launcher gets the terminal's Ctrl-C
                        preexec_fn=prepare_child(os.getpid()),
                    )
        except OSError as error:
            self.state, self.error = "failed", f"could not be started: {error}"

    def send(self, signum: int) -> None:
        """Send a signal to the job, its workers and its ranks."""
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses for zombies
            os.killpg(self.process.pid, signum)

    def ended(self, *, interrupted: bool) -> bool:
        """Check whether the process has ended; if so, set ``state``, ``error`` and ``seconds``.

        Args:
            interrupted: the job was told to stop, so a failure counts as an interruption.
        """
        assert self.process is not None
        pid = self.process.pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        # Ranks and workers that outlive their parent would hold the GPU. The parent is not reaped
        # yet, so no other process group can have its number.
        self.send(signal.SIGKILL)
        code = self.process.wait()
        self.seconds = time.monotonic() - self.started_at
        changed = file_version(self.folder.status_file) != self.status_version_before
        self.state, self.error = outcome(
            code, self.status_before, self.folder.status(), changed=changed
        )
        if code in (1, 2) and self.error == f"exited with status {code}":  # names no cause
            self.error = (
                last_error(self.folder.console_file, self.console_size_before) or self.error
            )
        if self.state == "failed" and interrupted:
            self.state, self.error = "interrupted", "interrupted before it was done"
        if self.error:
            self.correct_status()
        return True

    def correct_status(self) -> None:
        """Set the state of a killed run from ``running`` to ``failed``, so that reports do not
        count it as running."""
        # If the same command runs in another terminal, it holds the lock, and the state is correct.
        with suppress(UserError, OSError), self.folder.locked():
            if self.folder.status().get("state") == "running":
                self.folder.update_status(state="failed", error=self.error, finished=now())


def file_version(path: Path) -> tuple[int, int] | None:
    """A value that changes whenever the file is replaced; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def outcome(
    code: int, before: Mapping[str, Any], after: Mapping[str, Any], *, changed: bool
) -> tuple[State, str]:
    """The state of a job that has ended, and its error if it failed.

    Args:
        code: exit status of the process; negative: the signal that killed it.
        before, after: ``status.json`` when the process started and when it ended.
        changed: whether ``status.json`` was written in between.
    """
    state = after.get("state")
    if code == 0 and state == "done":
        # A skipped run leaves its status unchanged; a repeated run has a new time.
        skipped = before.get("state") == "done" and before.get("finished") == after.get("finished")
        return ("skipped" if skipped else "done"), ""
    if changed and state == "failed" and after.get("error"):
        return "failed", str(after["error"]).splitlines()[0]
    ending = describe_exit(code)
    if code >= 0 and changed and state == "done":
        return "failed", f"{ending} after its results were written"
    return "failed", ending if code else f"{ending} before it was done"


def last_error(log: Path, start: int) -> str:
    """The last error sentence in a log, without prefixes such as a logger's name.

    Args:
        log: ``console.log``.
        start: bytes of earlier attempts, which are ignored.

    Returns:
        At most 200 characters; empty if no line names an error.
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
