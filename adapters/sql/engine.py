"""Engines for SQLite and PostgreSQL, set up to lose nothing and to wait for nothing without end."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

WRITERS, WRITERS_MORE = 1, 2
"""PostgreSQL: a host commits one batch at a time, and writes little beside it. Readers never starve it."""
SILENCE_S = 5.0
"""How much longer than the server the client waits: where the server answers, it knows more."""
RESTED_S = 1.0
"""PostgreSQL: a connection that was not used for so long is asked whether it still is one. Asking takes three
ways to the server and back, as many as a small transaction."""
BY_KEY = {"enable_seqscan": "off", "jit": "off"}
"""PostgreSQL: for those who look up by key alone. A statement is planned once, for the tables as they were
analyzed last: one that was small then is read from end to end, and goes on being read so as it grows. What no
index serves is read so all the same, at a cost so high that its plan would be compiled."""
KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""The server lets go of the locks of a client whose machine is gone, after a minute."""

CHECKPOINT_PAGES = 48_000
"""SQLite: what the log holds, 192 MB, before a commit copies it into the tables, unless `log_copying` has
done so by half of that. With its own 1,000 each batch that touches 500 of many twins is copied at once, and a
page as often as it changes."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How greedy and how patient one process is with its database. Times in seconds."""

    pool_size: int = 4
    """Readers that stay connected to PostgreSQL."""
    pool_overflow: int = 4
    """Readers beyond those, while there is much to read."""
    pool_wait_s: float = 10.0
    """For a connection of the pool."""
    connect_s: float = 5.0
    statement_s: float = 30.0
    """For one statement, by the server's clock; the client gives up a little later."""
    lock_s: float = 10.0
    """For a lock that another transaction holds; on SQLite, for another process's transaction."""
    idle_in_transaction_s: float = 10.0
    """How long a client that says nothing keeps its locks: a frozen host must not keep its successor out."""
    cache_kb: int = 65_536
    """Pages that a SQLite connection keeps in memory at most."""


def sqlite_url(directory: Path) -> str:
    return f"sqlite+aiosqlite:///{directory / 'twinsync.sqlite'}"


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def engines(url: str, tuning: Tuning) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer and a reader, with connections of their own each."""
    return writer(url, tuning), reader(url, tuning)


def writer(url: str, tuning: Tuning, *, by_key: bool = False) -> AsyncEngine:
    """On SQLite it takes the lock as its transaction begins."""
    if is_sqlite(url):
        return _sqlite(url, tuning, "BEGIN IMMEDIATE", size=1, overflow=0)
    return _postgres(url, tuning, size=WRITERS, overflow=WRITERS_MORE, by_key=by_key)


def reader(url: str, tuning: Tuning, *, by_key: bool = False) -> AsyncEngine:
    """All that is read over one connection is of one moment."""
    if is_sqlite(url):
        return _sqlite(url, tuning, "BEGIN", size=2, overflow=4)
    engine = _postgres(url, tuning, size=tuning.pool_size, overflow=tuning.pool_overflow, by_key=by_key)
    return engine.execution_options(isolation_level="REPEATABLE READ")


# --- PostgreSQL ------------------------------------------------------------------------------------------


def _postgres(url: str, tuning: Tuning, *, size: int, overflow: int, by_key: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=overflow,
        pool_timeout=tuning.pool_wait_s,
        connect_args={
            "timeout": tuning.connect_s,
            "command_timeout": tuning.statement_s + SILENCE_S,
            "server_settings": {
                "application_name": "twinsync",
                "statement_timeout": _ms(tuning.statement_s),
                "lock_timeout": _ms(tuning.lock_s),
                "idle_in_transaction_session_timeout": _ms(tuning.idle_in_transaction_s),
                **KEEPALIVES,
                **(BY_KEY if by_key else {}),
            },
        },
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        """A server that does not answer would not answer a rollback either: leave the connection."""
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect = True

    _replace_the_lost(engine.sync_engine)
    return engine


def _replace_the_lost(engine: Engine) -> None:
    """A server that was restarted knows no connection of before: others take their place.

    Mostly it is known here that it has ended them; in case it is not, they are asked once they have rested.
    """

    @event.listens_for(engine, "checkin")
    def given_back(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine, "checkout")
    def taken(connection: Any, record: ConnectionPoolEntry, _fairy: object) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError("the server has ended it")
        if monotonic() - record.info.get("used", inf) < RESTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except (engine.dialect.loaded_dbapi.Error, OSError) as gone:
            raise InvalidatePoolError(f"the server does not know it: {gone!r}") from gone


def _ms(seconds: float) -> str:
    return str(round(seconds * 1_000))


# --- SQLite ----------------------------------------------------------------------------------------------


def sqlite_beside(url: str, tuning: Tuning, *, writes: bool) -> Engine:
    """One connection for one thread. Where it writes, it takes the lock as its transaction begins."""
    path = make_url(url).set(drivername="sqlite")
    arguments = {"factory": _LetsGo, "check_same_thread": False}
    engine = create_engine(path, poolclass=StaticPool, connect_args=arguments)
    _set_up_sqlite(engine, tuning, "BEGIN IMMEDIATE" if writes else "BEGIN")
    return engine


def _sqlite(url: str, tuning: Tuning, begin: str, *, size: int, overflow: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=overflow,
        pool_timeout=tuning.statement_s + SILENCE_S,
        connect_args={"factory": _LetsGo},
    )
    _set_up_sqlite(engine.sync_engine, tuning, begin)
    return engine


def _set_up_sqlite(engine: Engine, tuning: Tuning, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_ms(tuning.lock_s)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"cache_size=-{tuning.cache_kb}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


class _LetsGo(sqlite3.Connection):
    """SQLite keeps the locks of a closed connection until its last cursor is gone; a rollback ends them."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()
