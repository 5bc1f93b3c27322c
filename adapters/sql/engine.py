"""Engines for SQLite and PostgreSQL, set up to lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 30_000
"""How long a SQLite writer waits for another process's transaction."""


def sqlite_url(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory / 'twinsync.sqlite'}"


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


CACHE_KB = 65_536
"""Pages that a SQLite connection keeps in memory at most."""


def engines(url: str, cache_kb: int = CACHE_KB) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer and a reader; on SQLite the writer takes the lock as its transaction begins."""
    if not is_sqlite(url):
        engine = create_async_engine(url, pool_size=4, pool_pre_ping=True)
        return engine, engine
    writer = create_async_engine(url, pool_size=1, max_overflow=0)
    reader = create_async_engine(url, pool_size=2, max_overflow=4)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        _prepare_sqlite(engine, begin, cache_kb)
    return writer, reader


def _prepare_sqlite(engine: AsyncEngine, begin: str, cache_kb: int) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"cache_size=-{cache_kb}",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
