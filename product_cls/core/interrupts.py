"""Ctrl-C without a traceback. Imports nothing that takes time, so that it can come first."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_exits() -> Iterator[None]:
    """Around a command: Ctrl-C ends it without a traceback.

    Raises:
        SystemExit: 130, the status of a process that SIGINT ends.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted; finished work is kept.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
