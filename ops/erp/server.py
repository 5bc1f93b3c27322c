"""A running Tryton server: started, ended and killed by its process id."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from ops.local import free_port

READY_WITHIN_S = 60.0
STOP_S = 5.0
_CONFIGURATION = """\
[database]
uri = sqlite://
path = {databases}
[web]
listen = 127.0.0.1:{port}
[session]
timeout = 0
"""
"""Tryton looks for new databases when a session may have ended; its REST interface has no sessions."""


class DidNotStart(Exception):
    """Its log says why."""


@dataclass(slots=True)
class TrytonServer:
    """Serves every database in a folder, on the loopback. Whoever starts it stops it."""

    program: Path
    """The ``trytond`` of its virtual environment."""
    folder: Path
    port: int = field(default_factory=free_port)
    pid: int | None = None

    @property
    def databases(self) -> Path:
        return self.folder / "db"

    @property
    def configuration(self) -> Path:
        return self.folder / "trytond.conf"

    def url(self, database: str) -> str:
        return f"http://127.0.0.1:{self.port}/{database}"

    def configure(self) -> None:
        self.databases.mkdir(parents=True, exist_ok=True)
        written = _CONFIGURATION.format(databases=self.databases.resolve(), port=self.port)
        self.configuration.write_text(written)

    def start(self, *databases: str) -> None:
        """Returns once it answers, with these databases loaded; `load` others.

        Raises: DidNotStart.
        """
        self.configure()
        loaded = ["-d", *databases] if databases else []
        with (self.folder / "trytond.log").open("ab") as log:
            child = subprocess.Popen(
                [self.program, "-c", self.configuration, *loaded],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pid = child.pid
        give_up = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if child.poll() is not None or time.monotonic() > give_up:
                raise DidNotStart(f"Tryton did not start; see {self.folder / 'trytond.log'}")
            time.sleep(0.1)

    def load(self, database: str) -> None:
        """Before anybody uses it: Tryton breaks where two first requests come at once."""
        httpx.get(f"{self.url(database)}/rest/model/ir.model", timeout=READY_WITHIN_S)

    def kill(self) -> None:
        """As a crash does it: in the middle of whatever it does."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, how: signal.Signals) -> None:
        if self.pid is None:
            return
        try:
            os.kill(self.pid, how)
            _wait(self.pid)
        except ProcessLookupError:
            pass
        self.pid = None

    def _answers(self) -> bool:
        try:
            httpx.get(f"http://127.0.0.1:{self.port}/", timeout=5.0)
        except httpx.TransportError:
            return False
        return True


def copy_database(source: Path, target: Path) -> None:
    """By SQLite's own backup: a copied file lacks what is still in the write-ahead log."""
    for leftover in target.parent.glob(f"{target.name}*"):
        leftover.unlink()
    origin, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        origin.backup(copy)
    finally:
        origin.close()
        copy.close()


def _wait(pid: int) -> None:
    """Until it is gone, whether it is our child or was started by an earlier process of ours."""
    give_up = time.monotonic() + STOP_S
    while time.monotonic() < give_up:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            os.kill(pid, 0)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
