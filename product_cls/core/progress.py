"""Progress bars that suit where they are seen."""

import sys
from typing import Any

from tqdm import tqdm

LOGGED = 30.0  # seconds between two states of a bar in a log file


def progress_bar(*arguments: Any, **options: Any) -> "tqdm[Any]":
    """``tqdm`` that a terminal shows ten times a second, in one place, and a log file seldom."""
    between = 0.1 if sys.stderr.isatty() else LOGGED
    return tqdm(*arguments, mininterval=between, maxinterval=max(10.0, between), **options)
