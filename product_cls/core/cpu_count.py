"""How many cores there are to use."""

import os


def usable_cores() -> int:
    """Cores this process may run on, which a cluster or ``taskset`` may have limited."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS
