"""A fork server: imports the heavy packages once, and forks each job of a sweep from there.

Importing torch, Lightning and timm takes most of the time of a small job. Here one process imports
them in the environment of the jobs, and forks. A forked job behaves like a new process of its
command: it has its own session, ``console.log`` and ``__main__``, and the arguments of the command.
It is a child of the launcher, which can therefore wait for it like for any process it started.

The server does nothing else: it starts no Python threads and does not touch CUDA, which no forked
job could use. If there can be no server (not on Linux, or an import fails), jobs start as new
processes, with the same results but more slowly.
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

from product_cls.core.child_processes import LIBC, die_with_parent, prepare_child

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
READY = "ready"
ANSWER = 60.0  # seconds for a forked job to send its process ID, which takes milliseconds

# Python prepends entries to sys.path depending on how it was started; jobs use the launcher's.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from product_cls.launchers.fork_server import main; main()"
)


@dataclass(frozen=True)
class ForkedJob:
    """The process of a forked job, with the parts of ``subprocess.Popen`` that a job needs."""

    pid: int

    def wait(self) -> int:
        """Wait for the exit status; negative: the signal that killed the process."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkServer:
    """The launcher's side of the fork server.

    Args:
        modules: names of the modules to import.
        environment: environment variables of the jobs. A job may differ in those that are read
            after the imports, such as ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self.channel, server_end = socket.socketpair()
        self.channel.settimeout(ANSWER)
        self.answers = self.channel.makefile()
        self.importing = True
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path, str(server_end.fileno()), *modules],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[server_end.fileno()],
            preexec_fn=prepare_child(os.getpid()),
        )
        server_end.close()

    def ready(self) -> bool:
        """Whether jobs can start: the imports are done, or they failed and jobs do without them."""
        if self.importing and select.select([self.channel], [], [], 0)[0]:
            self.importing = False
            answer = self.answers.readline().rstrip("\n")
            if answer != READY:
                log.warning(
                    f"hydra.launcher.preload: {answer or 'the process ended'}; each job starts as "
                    f"a new process with imports of its own."
                )
        return not self.importing

    def fork(
        self, command: Sequence[str], environment: Mapping[str, str], console: Path
    ) -> ForkedJob | None:
        """Fork a process that runs ``command`` and appends its output to ``console``.

        Returns:
            None if the server has ended.
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
        """End the server; forked jobs go on."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.answers.close()  # a job that is forked too late then fails to send its ID, and ends
        self.channel.close()

    def reap(self, jobs: Collection[int]) -> None:
        """Reap processes that jobs left behind and that became children of the launcher.

        Args:
            jobs: process IDs to leave alone, because the launcher waits for them.
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
    """A ``ForkServer`` while the jobs run; None without modules or outside Linux."""
    # A forked job loses its parent at once; as subreaper, this process becomes the new parent.
    if not modules or LIBC is None or LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        yield None
        return
    server = ForkServer(modules, environment)
    try:
        yield server
    finally:
        server.close()
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0)


def main() -> None:
    """The server's side: import, then fork on request; returns only in a finished forked job."""
    channel, modules, launcher = socket.socket(fileno=int(sys.argv[2])), sys.argv[3:], os.getppid()
    try:
        for module in modules:
            importlib.import_module(module)
        if "/libcuda.so" in Path("/proc/self/maps").read_text():
            raise RuntimeError("an import has loaded CUDA, so jobs could not use GPUs")
    except BaseException as error:
        channel.sendall(f"{type(error).__name__}: {error}".splitlines()[0].encode() + b"\n")
        raise
    gc.collect()
    gc.freeze()  # a collection in a job would write to shared memory pages and thereby copy them
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
    """Fork a process that becomes a child of the launcher.

    Args:
        launcher: process ID of the launcher.

    Returns:
        True in the child, False in the server.

    Raises:
        OSError: the system allows no further process.
    """
    if intermediate := os.fork():
        if os.waitpid(intermediate, 0)[1] != 0:
            raise OSError("the system allows no further process")
        return False
    intermediate = os.getpid()
    try:
        child = os.fork()
    except OSError:
        os._exit(1)
    if child:
        os._exit(0)
    while os.getppid() == intermediate:  # until the launcher is the parent
        time.sleep(0.0005)
    os.setsid()
    die_with_parent(launcher)
    return True


def become(words: list[str], environment: dict[str, str], console: str) -> None:
    """Run ``python WORDS`` in this process, with this environment and the output in a file."""
    descriptor = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # otherwise all jobs would draw the same numbers
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
