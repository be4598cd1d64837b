"""Child processes that die with their parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# Slurm sends these to all processes of a job whose time is nearly up. They would end a Python
# process; the worker that started it responds to them.
TIME_LIMIT_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def prepare_child(parent: int) -> Callable[[], None]:
    """A ``preexec_fn`` for ``subprocess``: the child dies with its parent.

    The child also handles Ctrl-C by default and ignores ``TIME_LIMIT_SIGNALS``.

    ``preexec_fn`` is safe here: the launcher has no other threads, because the live table is drawn
    from its loop, and the threads of a Ray worker hold no lock that this function needs. Only Linux
    can tie a child to its parent.

    Args:
        parent: process ID of the caller.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # children of a job started by `&` ignore it
        for signum in TIME_LIMIT_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        die_with_parent(parent)

    return prepare


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent dies.

    Args:
        parent: process ID of the parent.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)
