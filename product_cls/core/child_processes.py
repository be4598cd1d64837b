"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# By which Slurm tells all processes of a job that its time is nearly up. Python dies of them; the
# worker that started us answers.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


PR_SET_PDEATHSIG = 1  # linux/prctl.h


LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the job, so that it does not outlive a killed launcher.

    ``preexec_fn`` is safe here because the launcher has no other threads (the live table is drawn
    from its loop); those of a Ray worker hold no lock that this needs. Other systems than Linux
    cannot do this.
    """

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored, and so inherited, after `&`
        for warning in WARNINGS:
            signal.signal(warning, signal.SIG_IGN)
        end_with(parent)

    return prepare


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent dies."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)
