"""Whose fault a database's failure is: SQLite's own errors, and PostgreSQL's by their SQLSTATE."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapters.sql.beside import finished
from adapters.sql.engine import Tuning, sqlite_url
from adapters.sql.failures import blamed
from adapters.sql.store import SqlStore
from adapters.sql.tables import events, twins
from canonical.errors import InvariantViolated, TransientFailure
from tests.stories import golden, placed
from tests.world import World


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path), tuning=Tuning(lock_s=0.2))
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.SerializationError("could not serialize access"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.CrashShutdownError("terminating connection because of crash of another server process"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.DiskFullError("could not extend file: No space left on device"),
        asyncpg.OutOfMemoryError("out of memory"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.UndefinedTableError('relation "events" does not exist'),
        asyncpg.IdleSessionTimeoutError("terminating connection"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_postgresql_cannot_do_now_is_the_worlds_fault(error: Exception) -> None:
    assert isinstance(blamed(error), TransientFailure)
    assert isinstance(blamed(DBAPIError("INSERT", {}, error)), TransientFailure)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("duplicate key value violates unique constraint"),
        asyncpg.NotNullViolationError("null value in column"),
        asyncpg.NumericValueOutOfRangeError("bigint out of range"),
        asyncpg.UntranslatableCharacterError("\\u0000 cannot be converted to text"),
        asyncpg.PostgresSyntaxError("syntax error"),
        asyncpg.ProgramLimitExceededError("index row size exceeds btree maximum"),
        asyncpg.DataError("invalid input for query argument $1: value out of int64 range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_postgresql_can_never_take_is_our_fault(error: Exception) -> None:
    assert isinstance(blamed(DBAPIError("INSERT", {}, error)), InvariantViolated)


def test_what_is_not_the_databases_failure_stays_what_it_is() -> None:
    assert blamed(KeyError("a bug of ours")) is None
    assert blamed(SQLAlchemyError("misuse")) is None


async def test_a_row_that_is_there_already_is_our_fault(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, World().take([placed()]))
    with pytest.raises(InvariantViolated):
        await store.commit("host-0", epoch, World().take([placed()]))


async def test_a_table_that_is_not_there_yet_is_the_worlds_fault(tmp_path: Path) -> None:
    unready = SqlStore(sqlite_url(tmp_path))
    with pytest.raises(TransientFailure, match="no such table"):
        await unready.claim("host-0")
    await unready.close()


async def test_a_statement_that_makes_no_sense_is_our_fault(store: SqlStore) -> None:
    with pytest.raises(InvariantViolated):
        await store._rows(select(text("1 FROM nowhere WHERE")))


async def test_a_writer_that_keeps_another_waiting_is_the_worlds_fault(
    store: SqlStore, tmp_path: Path
) -> None:
    other = SqlStore(sqlite_url(tmp_path), tuning=Tuning(lock_s=0.2))
    async with other._writer.begin():
        with pytest.raises(TransientFailure, match="locked"):
            await store.claim("host-0")
    assert await store.claim("host-0") == 1
    await other.close()


async def test_a_full_database_keeps_nothing_of_a_batch_and_takes_it_when_there_is_room(
    store: SqlStore,
) -> None:
    """SQLite fails in the middle of the transaction: it cannot add a page."""
    epoch = await store.claim("host-0")
    effects = World().take([*golden(), *(placed(order=f"SO-{number}") for number in range(500))])
    await bound_pages(store, 1)
    with pytest.raises(TransientFailure, match="full"):
        await store.commit("host-0", epoch, effects)
    assert await stored(store) == (0, 0)
    await bound_pages(store, 2**31)
    await store.commit("host-0", epoch, effects)
    assert await stored(store) == (len(effects.events), len(effects.touched))


async def bound_pages(store: SqlStore, most: int) -> None:
    """Let the database file have so many pages; SQLite never goes below what it has."""
    await finished(
        store._committing, lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={most}")
    )


async def stored(store: SqlStore) -> tuple[int, int]:
    """How many events and twins."""
    many = [select(func.count()).select_from(table).scalar_subquery() for table in (events, twins)]
    (row,) = await store._rows(select(many[0].label("events"), many[1].label("twins")))
    return row["events"], row["twins"]


async def test_a_transaction_that_is_given_up_while_it_reads_holds_no_lock(
    store: SqlStore, tmp_path: Path
) -> None:
    """Whoever gave it up may keep the error, and with it the cursor that was open."""
    kept, other = [], SqlStore(sqlite_url(tmp_path), tuning=Tuning(lock_s=0.2))
    await store.commit("host-0", await store.claim("host-0"), World().take(golden()))

    async def reads() -> None:
        async with store._writer.begin() as connection:
            while True:
                await connection.execute(select(events))

    gc.disable()
    try:
        for turn in range(30):
            reading = asyncio.create_task(reads())
            await asyncio.sleep(0.002 + turn / 10_000)
            reading.cancel()
            kept += await asyncio.gather(reading, return_exceptions=True)
            await other.claim("host-1")
    finally:
        gc.enable()
        await other.close()


async def test_a_commit_that_is_given_up_is_waited_for(store: SqlStore) -> None:
    """Whoever reads after that must not see what was before a commit that is still on its way."""
    epoch, effects = await store.claim("host-0"), World().take(golden())
    held, go = threading.Event(), threading.Event()

    def hold(_connection: object) -> None:
        held.set()
        go.wait(30)

    store._committing.submit(hold)
    task = asyncio.create_task(store.commit("host-0", epoch, effects))
    await asyncio.to_thread(held.wait, 30)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(store) == (len(effects.events), len(effects.touched))
