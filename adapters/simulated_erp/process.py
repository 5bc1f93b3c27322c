"""Starts the simulated ERP as a child process, and ends it by its process id."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.simulated_erp.__main__ import READY
from canonical.errors import TransientFailure

_CHECKOUT = Path(__file__).resolve().parents[2]
STOP_S = 3.0
"""How long it may take to end by itself before it is killed."""


@dataclass(slots=True)
class RunningErp:
    """A child process. Whoever started it stops it; should they die first, it ends by itself."""

    url: str
    child: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.child.pid

    def stop(self) -> None:
        """End it; harmless when it has ended. Blocks for up to `STOP_S`."""
        self.child.terminate()
        try:
            self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        if self.child.stdout is not None:
            self.child.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    *,
    port: int = 0,
    journal: Path | None = None,
    strict_references: bool = False,
    naive_idempotency: bool = False,
    ready_within_s: float = 20.0,
) -> RunningErp:
    """Start it and wait until it listens. Blocks. Raises: TransientFailure where it does not get that far."""
    command = [sys.executable, "-m", "adapters.simulated_erp"]
    command += ["--port", str(port), "--parent-pid", str(os.getpid())]
    command += ["--journal", str(journal)] if journal is not None else []
    command += ["--references", "strict"] if strict_references else []
    command += ["--idempotency", "naive"] if naive_idempotency else []
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=_environment())
    running = RunningErp("", child)
    try:
        running.url = _announced(child, time.monotonic() + ready_within_s)
    except BaseException:
        running.stop()
        raise
    return running


def _environment() -> dict[str, str]:
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{_CHECKOUT}{os.pathsep}{known}" if known else str(_CHECKOUT)}


def _announced(child: subprocess.Popen[bytes], deadline: float) -> str:
    assert child.stdout is not None
    readable, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
    line = child.stdout.readline().decode().strip() if readable else ""
    if not line.startswith(READY):
        raise TransientFailure("the simulated ERP did not start; its standard error says why")
    return line.removeprefix(READY)
