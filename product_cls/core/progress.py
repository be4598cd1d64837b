"""Progress bars for terminals and log files."""

import sys
from typing import Any

from tqdm import tqdm

LOGGED = 30.0  # seconds between two updates in a log file


def progress_bar(*arguments: Any, **options: Any) -> "tqdm[Any]":
    """``tqdm`` that updates in place on a terminal, and rarely in a log file.

    Args:
        arguments, options: those of ``tqdm``.
    """
    interval = 0.1 if sys.stderr.isatty() else LOGGED
    return tqdm(*arguments, mininterval=interval, maxinterval=max(10.0, interval), **options)
