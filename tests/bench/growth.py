"""How a database grows with what is told, before and after closed twins are archived.

A day of orders lives in this process until it is at rest, with an ERP that takes everything; then all that is
closed is archived. Sizes are of tables and indexes as compacted by VACUUM (FULL, on PostgreSQL), and of the
files as they are without it. Prints a Markdown table a database and one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from adapters.sql.engine import is_sqlite, sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.postings import Command
from ops.bench.databases import empty_postgres
from ops.demo.day import in_order, make_day
from ops.demo.telling import told_once
from tests.services import POSTGRES
from twins.core.rules import Policy
from twins.ports import Confirmed, Verdict
from twins.runtime.gateway import Gateway
from twins.runtime.host import TwinHost

BATCH = 500
ORDERS = 3_500
"""With many more, the demo's shelves are sold out."""
Sizes = dict[tuple[str, str], int]
"""(table, "rows" or "indexes") → bytes."""

_SQLITE_SIZES = """
SELECT m.tbl_name, CASE m.type WHEN 'index' THEN 'indexes' ELSE 'rows' END, sum(s.pgsize)
FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY 1, 2
"""
_POSTGRES_SIZES = """
SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


class Ahead:
    """A clock on which everything has happened long ago."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=1)


@dataclass
class Willing:
    """An ERP that takes everything at once."""

    documents: int = 0

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Confirmed:
        self.documents += 1
        return Confirmed(f"DOC-{self.documents:08}")

    async def look_up(self, idempotency_key: str) -> None:
        return None

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Growth:
    events: int
    archived_events: int
    archived_twins: int
    before: Sizes
    after: Sizes
    file_before: int
    file_after: int
    archive_s: float


async def live(store: SqlStore, events: Sequence[Event]) -> TwinHost:
    host = TwinHost("host-0", store, Ahead(), Policy(), archive_after=timedelta(hours=1))

    async def reply(answers: Sequence[Event]) -> list[Verdict]:
        return await host.take_events(answers)

    gateway = Gateway("main", store, Willing(), Ahead(), reply)
    for start in range(0, len(events), BATCH):
        await host.take_events(events[start : start + BATCH])
        await gateway.work()
    while await gateway.work():
        pass
    return host


async def archive(host: TwinHost) -> float:
    """Sweep until nothing is left to be archived. Answers the seconds that it took."""
    started, before = time.perf_counter(), -1
    while host.counts.archived_twins != before:
        before = host.counts.archived_twins
        await host.sweep()
    return time.perf_counter() - started


async def grow(url: str, events: Sequence[Event]) -> Growth:
    store = SqlStore(url)
    await store.migrate()
    host = await live(store, events)
    stored = sum((await store.arrivals()).values())
    file_before, before = await _file_size(url), await _compacted(url)
    seconds = await archive(host)
    file_after, after = await _file_size(url), await _compacted(url)
    assert sum((await store.arrivals()).values()) == stored
    await store.close()
    counts = host.counts
    return Growth(
        stored, counts.archived_events, counts.archived_twins, before, after, file_before, file_after, seconds
    )


# --- sizes -----------------------------------------------------------------------------------------------


async def _compacted(url: str) -> Sizes:
    return _sqlite_sizes(_path(url)) if is_sqlite(url) else await _postgres_sizes(url)


def _sqlite_sizes(path: Path) -> Sizes:
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("VACUUM")
        return {(table, part): size for table, part, size in connection.execute(_SQLITE_SIZES)}


async def _postgres_sizes(url: str) -> Sizes:
    engine = _autocommitting(url)
    async with engine.connect() as connection:
        await connection.execute(text("VACUUM FULL"))
        found = (await connection.execute(text(_POSTGRES_SIZES))).all()
    await engine.dispose()
    sizes = {(table, "rows"): rows for table, rows, _ in found}
    return sizes | {(table, "indexes"): indexes for table, _, indexes in found}


async def _file_size(url: str) -> int:
    if is_sqlite(url):
        with sqlite3.connect(_path(url)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return _path(url).stat().st_size
    engine = _autocommitting(url)
    async with engine.connect() as connection:
        await connection.execute(text("VACUUM"))
        size = (await connection.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
    await engine.dispose()
    return int(size)


def _path(url: str) -> Path:
    return Path(url.partition("///")[2])


def _autocommitting(url: str) -> AsyncEngine:
    return create_async_engine(url, isolation_level="AUTOCOMMIT")


# --- report ----------------------------------------------------------------------------------------------


def _lines(growth: Growth) -> list[str]:
    """A Markdown table: what grows, in bytes an event, which are megabytes a million events."""
    lines = ["| table | part | before | after |", "|---|---|---:|---:|"]
    wanted = growth.before.keys() | growth.after.keys()
    largest = sorted(wanted, key=lambda one: -growth.before.get(one, 0) - growth.after.get(one, 0))
    total = (sum(growth.before.values()), sum(growth.after.values()))
    shown = [(one, (growth.before.get(one, 0), growth.after.get(one, 0))) for one in largest]
    worth = [(*name, pair) for name, pair in shown if max(pair) >= growth.events]
    lines += [_line(table, part, sizes, growth.events) for table, part, sizes in worth]
    lines.append(_line("**all**", "", total, growth.events))
    return lines


def _line(table: str, part: str, sizes: tuple[int, int], events: int) -> str:
    numbers = (f"{size / events:,.0f}" for size in sizes)
    return f"| {' | '.join([table, part, *numbers])} |"


def _summary(name: str, growth: Growth) -> dict[str, Any]:
    before, after = sum(growth.before.values()), sum(growth.after.values())
    return {
        "database": name,
        "events": growth.events,
        "archived_events": growth.archived_events,
        "archived_twins": growth.archived_twins,
        "bytes_per_event_before": round(before / growth.events, 1),
        "bytes_per_event_after": round(after / growth.events, 1),
        "file_before": growth.file_before,
        "file_after": growth.file_after,
        "archive_s": round(growth.archive_s, 1),
    }


async def _measure(name: str, url: str, events: Sequence[Event]) -> None:
    growth = await grow(url, events)
    said = [f"**{name}**", "", *_lines(growth), "", json.dumps(_summary(name, growth)), "", ""]
    sys.stdout.write("\n".join(said))
    sys.stdout.flush()


async def measure(orders: int) -> None:
    day = make_day(1, orders)
    events = told_once(day, in_order(day))
    with TemporaryDirectory() as folder:
        await _measure("SQLite", sqlite_url(Path(folder)), events)
    if (server := os.environ.get(POSTGRES)) is not None:
        async with empty_postgres(server) as url:
            await _measure("PostgreSQL", url, events)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--orders", type=int, default=ORDERS)
    asyncio.run(measure(options.parse_args().orders))


if __name__ == "__main__":
    main()
