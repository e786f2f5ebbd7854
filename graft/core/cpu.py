"""How many processors this process may use."""

import os


def available_cores() -> int:
    """Return the number of cores, respecting a container's or taskset's limit where the system reports it (Linux)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
