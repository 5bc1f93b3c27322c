"""Transactions outside the event loop, which goes on folding while they are worked on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine

from adapters.sql.engine import Tuning, is_sqlite, reader, sqlite_beside, writer
from adapters.sql.log_copying import LogCopying

T = TypeVar("T")


class Beside(Protocol):
    @property
    def engine(self) -> Engine: ...

    def submit(self, body: Callable[[Connection], T]) -> Future[T]:
        """Run it in a transaction of its own, after those that were submitted before."""
        ...

    def close(self) -> None: ...


async def finished(beside: Beside, body: Callable[[Connection], T]) -> T:
    """Returns when its transaction has ended. Who is cancelled still waits: it cannot be stopped."""
    work = asyncio.wrap_future(beside.submit(body))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def beside(url: str, tuning: Tuning, *, writes: bool) -> Beside:
    if not is_sqlite(url):
        return InLoop(url, tuning, writes)
    return InThread(url, tuning) if writes else AtOnce(url, tuning)


class AtOnce:
    """SQLite, reading: it is done before another thread would have begun, and no writer keeps it waiting.

    Whoever closes it waits for who reads: SQLite would crash.
    """

    def __init__(self, url: str, tuning: Tuning) -> None:
        self.engine = sqlite_beside(url, tuning, writes=False)
        self._turn = threading.Lock()

    def submit(self, body: Callable[[Connection], T]) -> Future[T]:
        done: Future[T] = Future()
        try:
            with self._turn, self.engine.begin() as connection:
                done.set_result(body(connection))
        except Exception as error:  # noqa: BLE001 - the future raises it
            done.set_exception(error)
        return done

    def close(self) -> None:
        with self._turn:
            self.engine.dispose()


class InThread:
    """SQLite, writing: one thread with one connection, and one that copies the log. While SQLite works, other
    threads run.
    """

    def __init__(self, url: str, tuning: Tuning) -> None:
        self.engine = sqlite_beside(url, tuning, writes=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._copying = LogCopying(sqlite_beside(url, tuning, writes=False), self._thread)

    def submit(self, body: Callable[[Connection], T]) -> Future[T]:
        return self._thread.submit(self._run, body)

    def _run(self, body: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return body(connection)

    def close(self) -> None:
        self._copying.stop()
        self._thread.submit(self.engine.dispose)
        self._thread.shutdown()


class InLoop:
    """PostgreSQL: one thread with an event loop of its own, since its driver has no other way.

    Whoever closes it waits for what was submitted before: nobody else would ever answer it.
    """

    def __init__(self, url: str, tuning: Tuning, writes: bool) -> None:
        self._engine = writer(url, tuning, by_key=True) if writes else reader(url, tuning, by_key=True)
        self.engine = self._engine.sync_engine
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._asking = threading.Lock()
        self._is_closed = False
        name = "commit" if writes else "load"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, body: Callable[[Connection], T]) -> Future[T]:
        with self._asking:
            if self._is_closed:
                raise RuntimeError("the store has been closed")
            return asyncio.run_coroutine_threadsafe(self._run(body), self._loop)

    async def _run(self, body: Callable[[Connection], T]) -> T:
        async with self._turn, self._engine.begin() as connection:
            return await connection.run_sync(body)

    async def _end(self) -> None:
        async with self._turn:
            await self._engine.dispose()

    def close(self) -> None:
        with self._asking:
            self._is_closed = True
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
