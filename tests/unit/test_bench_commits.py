"""The benchmark's transactions: that they run and leave nothing behind, not how long they take."""

from __future__ import annotations

from pathlib import Path

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from ops.bench.commits import measure_commits


async def test_letters_that_are_taken_in_leave_the_mail(tmp_path: Path) -> None:
    found = await measure_commits(sqlite_url(tmp_path), times=1)
    assert found.one_row_us > 0
    store = SqlStore(sqlite_url(tmp_path))
    assert await store.mail(1) == []
    await store.close()
