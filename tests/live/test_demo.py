"""The demo, as a newcomer runs it: two runs of a day, one verdict, nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.installations import broker

pytestmark = pytest.mark.live


@pytest.mark.parametrize("way", ["embedded", "rabbitmq"])
def test_the_demo_ends_in_the_same_truth_and_leaves_nothing_running(way: str) -> None:
    folder = Path(".build") / f"demo-in-a-folder-with-a-long-name-{way}"
    command = [sys.executable, "-m", "ops.cli", "demo", "--exit", "--orders", "30", "--port", "0"]
    command += ["--data-dir", str(folder)]
    if way == "rabbitmq":
        command += ["--broker", broker()]
    before = _services()
    try:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(command, capture_output=True, timeout=200, check=False, text=True, env=clean)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Verdict: equal" in done.stdout
        assert "in balance" in done.stdout
        _assert_nothing_new_runs(before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_demo_that_stays_up_ends_when_it_is_told_to_and_leaves_nothing_running() -> None:
    folder = Path(".build") / "demo-that-stays"
    command = [
        sys.executable,
        "-m",
        "ops.cli",
        "demo",
        "--orders",
        "5",
        "--port",
        "0",
        "--data-dir",
        str(folder),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    before = _services()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean) as demo:
            assert demo.stdout is not None
            assert any("Ctrl-C ends it" in line for line in demo.stdout)
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(60) == 0
        _assert_nothing_new_runs(before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SERVICES = ("raylet", "gcs_server", "ray::", "haproxy", "simulated_erp")


def _services() -> dict[str, str]:
    """Process → its command line, of whatever the demo could have started."""
    found: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(name in line for name in SERVICES):
            found[process.parent.name] = line
    return found


def _assert_nothing_new_runs(before: dict[str, str]) -> None:
    """After a moment to end."""
    for _ in range(50):
        left = {process: line for process, line in _services().items() if process not in before}
        if not left:
            return
        time.sleep(0.2)
    raise AssertionError(left)
