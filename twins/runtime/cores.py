"""A host's threads share one interpreter, and so they share one core."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def keep_to_one_core(number: int) -> None:
    """Keep all threads of this process, and those to come, to one of the cores that it may use: the same one
    for the same *number*, and each in turn.

    Its threads take turns at the interpreter anyway. On cores of their own each turn begins by fetching from
    the other core what both work on. Where the system knows no affinity nothing changes.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    core = cores[number % len(cores)]
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), {core})
