"""Progress bars for terminals and log files."""

import sys
from typing import Any

from tqdm import tqdm

LOGGED = 30.0  # seconds between two updates in a log file


def progress_bar(*arguments: Any, **options: Any) -> "tqdm[Any]":
    """``tqdm`` that updates in place on a terminal; in a log file or a pipe it shows nothing in the
    first half minute, and then rarely.

    Args:
        arguments, options: those of ``tqdm``.
    """
    if sys.stderr.isatty():
        return tqdm(*arguments, **options)
    limits = {"mininterval": LOGGED, "maxinterval": LOGGED, "delay": LOGGED}
    return tqdm(*arguments, **limits | options)
