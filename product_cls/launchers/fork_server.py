"""A process that has imported what the jobs of a sweep need; each job begins as a copy of it.

Importing torch, Lightning and timm is most of what a small job does. Here one process does it once,
with the environment of the jobs, and forks. A copy becomes what the job's command would have
become: own session, own ``console.log``, the command's words, ``__main__``. It is handed to the
launcher, so that the launcher sees how it ends, as of a process that it started itself. The process
is of use for that only: it starts no threads of Python's, and does not touch CUDA, which no copy
could use. Where it cannot be had (other systems than Linux, an import that fails), jobs are started
as commands, which gives the same runs later.
"""

import gc
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from product_cls.core.child_processes import LIBC, die_with, end_with

log = logging.getLogger(__name__)


PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


READY = "ready"


ANSWER = 60.0  # seconds for a copy to say its number, which takes milliseconds


# What Python puts before sys.path depends on how it was started; jobs have the launcher's.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from product_cls.launchers.fork_server import main; main()"
)


@dataclass(frozen=True)
class ForkedJob:
    """A job's process; of ``subprocess.Popen`` what a job needs."""

    pid: int

    def wait(self) -> int:
        """Its exit status, negative for the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkServer:
    """The launcher's side: the process that is copied.

    Args:
        modules: that it imports.
        environment: of the jobs; copies may differ in what is read later, as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(ANSWER)
        self.answers = self.channel.makefile()
        self.importing = True
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, str(theirs.fileno()), *modules],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
            preexec_fn=die_with(os.getpid()),
        )
        theirs.close()

    def ready(self) -> bool:
        """Whether jobs can begin: it has imported all, or it has ended and they do without."""
        if self.importing and select.select([self.channel], [], [], 0)[0]:
            self.importing = False
            answer = self.answers.readline().rstrip("\n")
            if answer != READY:
                log.warning(
                    f"hydra.launcher.preload: {answer or 'the process ended'}; each job is a new "
                    f"process and imports for itself."
                )
        return not self.importing

    def copy(
        self, command: Sequence[str], environment: Mapping[str, str], console: Path
    ) -> ForkedJob | None:
        """A process that goes on as ``command`` with its output in ``console``.

        Returns:
            None where the original has ended.
        """
        request = {
            "words": list(command[1:]),
            "environment": dict(environment),
            "console": str(console),
        }
        try:
            self.channel.sendall(json.dumps(request).encode() + b"\n")
            answer = self.answers.readline()
        except OSError:
            self.close()
            return None
        return ForkedJob(int(answer)) if answer else None

    def close(self) -> None:
        """End it; copies that have begun go on."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.answers.close()  # a copy that comes too late then ends at its answer
        self.channel.close()

    def reap(self, jobs: Collection[int]) -> None:
        """Let go of ended processes that jobs have left behind: here they have become children.

        Args:
            jobs: numbers of the processes that somebody waits for.
        """
        for file in Path("/proc/self/task").glob("*/children"):
            for pid in map(int, file.read_text().split()):
                if pid not in jobs and pid != self.process.pid:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)


@contextmanager
def fork_server(
    modules: Sequence[str], environment: Mapping[str, str]
) -> Iterator[ForkServer | None]:
    """An ``ForkServer`` for as long as the jobs run; None where there cannot be one."""
    # Copies lose the process that forked them at once: this makes us their parent.
    if not modules or LIBC is None or LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        yield None
        return
    process = ForkServer(modules, environment)
    try:
        yield process
    finally:
        process.close()
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0)


def main() -> None:
    """The process that is copied; returns in each copy when its job is done."""
    channel, modules, launcher = socket.socket(fileno=int(sys.argv[2])), sys.argv[3:], os.getppid()
    try:
        for module in modules:
            importlib.import_module(module)
        if "/libcuda.so" in Path("/proc/self/maps").read_text():
            raise RuntimeError("an import has looked for GPUs, which no copy could use")
    except BaseException as error:
        channel.sendall(f"{type(error).__name__}: {error}".splitlines()[0].encode() + b"\n")
        raise
    gc.collect()
    gc.freeze()  # a collection in a copy would write to, and so double, what they share
    channel.sendall(f"{READY}\n".encode())
    requests = channel.makefile()
    while line := requests.readline():
        if fork_for(launcher):
            channel.sendall(b"%d\n" % os.getpid())
            requests.close()
            channel.close()
            become(**json.loads(line))
            return


def fork_for(launcher: int) -> bool:
    """Fork a child of the launcher's.

    Args:
        launcher: its number.

    Returns:
        True in the child, False here.

    Raises:
        OSError: there is no room for another process.
    """
    if between := os.fork():
        if os.waitpid(between, 0)[1] != 0:
            raise OSError("no process for a job")
        return False
    between = os.getpid()
    try:
        child = os.fork()
    except OSError:
        os._exit(1)
    if child:
        os._exit(0)
    while os.getppid() == between:  # until the system has given us to the launcher
        time.sleep(0.0005)
    os.setsid()
    end_with(launcher)
    return True


def become(words: list[str], environment: dict[str, str], console: str) -> None:
    """Go on as ``python WORDS`` would in that environment, with its output in a file."""
    log = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # copies would all draw the same
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
