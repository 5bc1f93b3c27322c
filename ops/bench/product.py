"""The product under load: quorum queues → twins on Ray → SQLite or PostgreSQL, all of its work per event."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr
from ray import serve
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.sql.engine import is_sqlite
from ops.bench.asking import KEY
from ops.bench.databases import empty_postgres
from ops.bench.reads import serve_empty
from ops.demo.day import ANY_CLOCK_S
from ops.local import free_port, start_http, start_twins, stop_twins, total
from ops.settings import Settings
from ops.wiring import Installation

LOOK_EVERY_S = 0.2
ENDED_S = 30.0
"""Within which a process that was killed is gone."""


@asynccontextmanager
async def empty_database(url: str | None) -> AsyncIterator[str | None]:
    """A PostgreSQL database of its own where *url* names one; None for SQLite, whose file is its own."""
    if url is None or is_sqlite(url):
        yield None
        return
    async with empty_postgres(url) as own:
        yield own


def installation(folder: Path, database_url: str | None, amqp_url: str, prefix: str) -> Installation:
    chosen = Settings(
        data_dir=folder,
        database_url=database_url,
        amqp_url=amqp_url,
        amqp_prefix=prefix,
        http_port=free_port(),
        api_keys=(SecretStr(KEY),),
        ahead_max_s=ANY_CLOCK_S,
    )
    return Installation(chosen)


async def take_with_twins(installed: Installation, many: int, different: int) -> dict[str, float]:
    """Take *many* messages; ``rate`` is in events a second between the first commit seen and the last.

    Raises: RuntimeError where not each of the *different* events is stored.
    """
    from twins.runtime import cluster

    await start_twins(installed)
    try:
        began: tuple[float, float] | None = None
        while True:
            counts = total(await cluster.metrics(installed))
            now, taken = time.perf_counter(), counts["events"] + counts["duplicates"]
            if began is None and taken:
                began = now, taken
            if taken >= many:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        assert began is not None
    finally:
        await stop_twins(installed)
    store = installed.store()
    stored = sum((await store.arrivals()).values())
    await store.close()
    if stored != different:
        raise RuntimeError(f"{different} different events were sent and {stored} are stored")
    return {
        "rate": (taken - began[1]) / (now - began[0]),
        "batches": counts["batches"],
        "fold_s": counts["fold_s"],
        "commit_s": counts["commit_s"],
        "disk_bytes": await disk_bytes(installed.settings),
    }


async def taken(installed: Installation) -> float:
    """Messages that hosts have taken since they started."""
    from twins.runtime import cluster

    counts = total(await cluster.metrics(installed))
    return counts["events"] + counts["duplicates"]


async def until_taken(installed: Installation, many: int) -> None:
    while await taken(installed) < many:  # noqa: ASYNC110 - hosts tell nobody
        await asyncio.sleep(LOOK_EVERY_S)


def _log_is_copied(file: Path) -> bool:
    """What the log holds is in the tables, and it is empty. A process that is being ended may keep it."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


@asynccontextmanager
async def serve_twins(installed: Installation) -> AsyncIterator[tuple[str, int]]:
    """Twins that consume and answer over HTTP, beside an application that answers nothing, and where."""
    settings = installed.settings
    await start_twins(installed)
    try:
        await asyncio.to_thread(start_http, installed)
        await asyncio.to_thread(serve_empty, settings.http_replicas)
        yield settings.http_host, settings.http_port
    finally:
        await asyncio.to_thread(serve.shutdown)
        await stop_twins(installed)


async def disk_bytes(settings: Settings) -> float:
    """What all tables and indexes take, as they are."""
    if settings.database_url is None:
        for file in settings.data_dir.glob("twinsync.sqlite"):
            give_up_at = time.monotonic() + ENDED_S
            while not _log_is_copied(file) and time.monotonic() < give_up_at:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_EVERY_S)
        return float(sum(file.stat().st_size for file in settings.data_dir.glob("twinsync.sqlite*")))
    engine = create_async_engine(settings.database_url)
    async with engine.connect() as connection:
        size = await connection.scalar(text("SELECT pg_database_size(current_database())"))
    await engine.dispose()
    return float(size or 0)
