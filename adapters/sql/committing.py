"""Transactions beside the event loop: while one is written, the loop goes on folding the next batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from sqlalchemy import Connection, Engine

from adapters.sql.engine import Tuning, is_sqlite, sqlite_committer, writer

Body = Callable[[Connection], object]


class Committing(Protocol):
    @property
    def engine(self) -> Engine: ...

    def submit(self, body: Body) -> Future[None]:
        """Run it in a transaction, after those that were submitted before it."""
        ...

    def close(self) -> None: ...


async def committed(committing: Committing, body: Body) -> None:
    """Returns when it is committed. Who is cancelled still waits: what is on its way cannot be stopped."""
    written = asyncio.wrap_future(committing.submit(body))
    try:
        await asyncio.shield(written)
    except asyncio.CancelledError:
        await asyncio.wait([written])
        raise


def committing(url: str, tuning: Tuning) -> Committing:
    return ToSqlite(url, tuning) if is_sqlite(url) else ToPostgres(url, tuning)


class ToSqlite:
    """One thread with one connection: SQLite lets other threads run while it writes."""

    def __init__(self, url: str, tuning: Tuning) -> None:
        self.engine = sqlite_committer(url, tuning)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def submit(self, body: Body) -> Future[None]:
        return self._thread.submit(self._commit, body)

    def _commit(self, body: Body) -> None:
        with self.engine.begin() as connection:
            body(connection)

    def close(self) -> None:
        self._thread.submit(self.engine.dispose)
        self._thread.shutdown()


class ToPostgres:
    """One thread with an event loop of its own, for a driver that has only that way."""

    def __init__(self, url: str, tuning: Tuning) -> None:
        self._engine = writer(url, tuning)
        self.engine = self._engine.sync_engine
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="commit", daemon=True)
        self._thread.start()

    def submit(self, body: Body) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self._commit(body), self._loop)

    async def _commit(self, body: Body) -> None:
        async with self._turn, self._engine.begin() as connection:
            await connection.run_sync(body)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._engine.dispose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
