"""The number of usable CPU cores."""

import os


def usable_cores() -> int:
    """CPU cores that this process may use; a cluster or ``taskset`` may limit them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
