"""SQLite's log stays short while commits go on, whoever reads and whatever fails meanwhile."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from adapters.sql import log_copying
from adapters.sql.beside import InThread
from adapters.sql.engine import Tuning, sqlite_beside, sqlite_url
from adapters.sql.log_copying import PART_PAGES, PAUSE_MAX_S, PAUSE_MIN_S, LogCopying, pause_for

FULL_PAGES = 200
COMMITS, PAGES_A_COMMIT = 400, 10
PAGE_BYTES = 4_120
"""With its header in the log."""
SOON_S = 20.0


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(log_copying, "FULL_PAGES", FULL_PAGES)
    monkeypatch.setattr(log_copying, "PART_PAGES", FULL_PAGES // 10)
    monkeypatch.setattr(log_copying, "PAUSE_MIN_S", 0.001)
    monkeypatch.setattr(log_copying, "PAUSE_MAX_S", 0.01)
    return sqlite_url(tmp_path)


@pytest.fixture
def committing(url: str) -> Iterator[InThread]:
    opened = InThread(url, Tuning())
    opened.submit(lambda connection: connection.execute(text("CREATE TABLE told (body BLOB)"))).result()
    yield opened
    opened.close()


def tell(connection: Connection) -> None:
    connection.execute(text(f"INSERT INTO told SELECT randomblob({PAGES_A_COMMIT * 4_000})"))


def told(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM told")).scalar_one())


def log_pages(tmp_path: Path) -> float:
    """At the most, since the file was made: SQLite writes over what it has."""
    return (tmp_path / "twinsync.sqlite-wal").stat().st_size / PAGE_BYTES


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_the_log_begins_anew_while_commits_go_on(committing: InThread, tmp_path: Path) -> None:
    for _ in range(COMMITS):
        committing.submit(tell).result()
    assert log_pages(tmp_path) < COMMITS * PAGES_A_COMMIT / 2
    assert committing.submit(told).result() == COMMITS


def test_a_reader_sees_one_moment_and_is_waited_for(committing: InThread, url: str, tmp_path: Path) -> None:
    reading = sqlite_beside(url, Tuning(), writes=False)
    committing.submit(tell).result()
    with reading.begin() as connection:
        assert told(connection) == 1
        for _ in range(COMMITS // 4):
            committing.submit(tell).result()
        assert told(connection) == 1
    reading.dispose()
    grown = log_pages(tmp_path)
    assert grown > FULL_PAGES, "the log could not begin anew"
    for _ in range(COMMITS):
        committing.submit(tell).result()
    assert log_pages(tmp_path) < grown + COMMITS * PAGES_A_COMMIT / 2
    assert committing.submit(told).result() == 1 + COMMITS // 4 + COMMITS


class Fickle:
    """A database that cannot be copied at first."""

    def __init__(self, engine: Engine, failures: int, error: Exception) -> None:
        self._engine = engine
        self.failures = failures
        self._error = error
        self.asked = 0

    def raw_connection(self) -> object:
        self.asked += 1
        if self.asked <= self.failures:
            raise self._error
        return self._engine.raw_connection()

    def dispose(self) -> None:
        self._engine.dispose()


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("full"), OperationalError("", {}, sqlite3.OperationalError("full"))]
)
def test_a_failure_is_told_and_the_log_is_copied_later(
    committing: InThread, url: str, error: Exception
) -> None:
    committing.submit(tell).result()
    fickle = Fickle(sqlite_beside(url, Tuning(), writes=False), failures=2, error=error)
    with capture_logs() as logs:
        copying = LogCopying(fickle, committing._thread)  # type: ignore[arg-type]
        until(lambda: fickle.asked > fickle.failures + 1)
        copying.stop()
    assert [one["event"] for one in logs] == ["log_copying_waits", "log_copying_goes_on"]
    assert "full" in logs[0]["reason"]
    assert logs[1]["attempts"] == fickle.failures


def test_stopping_does_not_wait_for_the_pause(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_MIN_S", "PAUSE_MAX_S"):
        monkeypatch.setattr(log_copying, name, 10 * SOON_S)
    copying = LogCopying(sqlite_beside(url, Tuning(), writes=False), ThreadPoolExecutor(1))
    began = time.monotonic()
    copying.stop()
    assert time.monotonic() - began < SOON_S


def test_it_looks_as_often_as_a_part_of_the_log_comes() -> None:
    assert pause_for(came=PART_PAGES // 2, seconds=0.5) == 1.0
    assert pause_for(came=100 * PART_PAGES, seconds=0.5) == PAUSE_MIN_S
    assert pause_for(came=0, seconds=0.5) == PAUSE_MAX_S
