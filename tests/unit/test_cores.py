"""All threads of a host are kept to one core."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os, sys, threading, time
from twins.runtime.cores import keep_to_one_core
before = threading.Event()
early = threading.Thread(target=before.wait)
early.start()
keep_to_one_core(int(sys.argv[1]))
late = threading.Thread(target=before.wait)
late.start()
print(sorted({tuple(os.sched_getaffinity(one.native_id)) for one in threading.enumerate()}))
before.set()
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no affinity")
def test_threads_that_are_there_and_those_to_come_are_kept_to_the_core_of_their_hosts_number() -> None:
    cores = sorted(os.sched_getaffinity(0))
    for number in range(len(cores) + 1):
        said = subprocess.run(
            [sys.executable, "-c", CHILD, str(number)], check=True, capture_output=True, text=True
        )
        assert said.stdout.strip() == str([(cores[number % len(cores)],)])
    assert sorted(os.sched_getaffinity(0)) == cores
