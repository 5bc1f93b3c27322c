"""Servers that a test may kill, freeze and start again, since nobody else uses them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import services
from tests.services import Server, Unavailable


@contextlib.contextmanager
def own(start: Callable[[Path], AbstractContextManager[Server]]) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(services._folder())
        try:
            server = stack.enter_context(start(folder))
        except Unavailable as unavailable:
            pytest.skip(str(unavailable))
        yield server


def kill(server: Server) -> None:
    """SIGKILL to the whole family at once: PostgreSQL's children are no members of its group."""
    for pid in family(server.pid):
        _signal(pid, signal.SIGKILL)
    server.kill()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The server keeps its connections and says nothing, as a machine that hangs."""
    stopped = family(server.pid)
    for pid in stopped:
        _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            _signal(pid, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _signal(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def rabbitmqctl(server: Server, *command: str) -> str:
    """Ask a broker of our own, in the environment that it was started with."""
    pairs = Path(f"/proc/{server.pid}/environ").read_bytes().decode().split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    done = subprocess.run(
        ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--quiet", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
