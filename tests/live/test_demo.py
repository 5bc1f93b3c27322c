"""The demo, as a newcomer runs it: two runs of a day, one verdict, nothing left running."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.installations import broker

pytestmark = pytest.mark.live


@pytest.mark.parametrize("way", ["embedded", "rabbitmq"])
def test_the_demo_ends_in_the_same_truth_and_leaves_nothing_running(way: str) -> None:
    folder = Path(".build") / f"d-{way[:3]}"
    command = [sys.executable, "-m", "ops.cli", "demo", "--exit", "--orders", "30", "--port", "0"]
    command += ["--data-dir", str(folder)]
    if way == "rabbitmq":
        command += ["--broker", broker()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=200, check=False, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Verdict: equal" in done.stdout
        assert "in balance" in done.stdout
        _assert_nothing_runs(str(folder.resolve()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _assert_nothing_runs(folder: str) -> None:
    """No process has the demo's folder in its command line, after a moment to end."""
    for _ in range(50):
        left = [one for one in _command_lines() if folder in one]
        if not left:
            return
        time.sleep(0.2)
    raise AssertionError(left)


def _command_lines() -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
