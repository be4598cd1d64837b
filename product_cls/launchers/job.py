"""One job of a sweep: the GPUs and threads it gets, its process, and what came of it.

Knows nothing of Hydra: a job is a command, an environment and a run folder. ``launcher.py`` makes
them, ``launcher_table.py`` runs a few at a time.
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

from product_cls.core.child_processes import die_with
from product_cls.core.errors import UserError
from product_cls.core.files import now
from product_cls.core.process_environment import ending
from product_cls.launchers.fork_server import ForkedJob, ForkServer
from product_cls.runs.folder import RunFolder

State = Literal["queued", "running", "done", "skipped", "failed", "interrupted", "pruned"]


# What a logger, `cli.guard` and an exception (its name is kept, but for UserError) say last.
ERROR_LINE = re.compile(
    r"(\[.*\]\[(ERROR|CRITICAL)\] - |error: |product_cls\.core\.errors\.UserError: )?"
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
    process: subprocess.Popen[bytes] | ForkedJob | None = None
    before: dict[str, Any] = field(default_factory=dict)  # status.json when the job was started
    version_before: tuple[int, int] | None = None
    log_before: int = 0  # bytes of console.log from earlier attempts

    def status(self) -> dict[str, Any]:
        """What this run has written; empty as long as ``status.json`` is of an earlier one."""
        mine = (
            self.state == "skipped" or file_version(self.folder.status_file) != self.version_before
        )
        return self.folder.status() if mine else {}

    def start(self, environment: Mapping[str, str], original: ForkServer | None = None) -> None:
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
