"""The least that a durable pipe does: quorum queue → Ray actor → SQLite, committed, then acknowledged.

A row for the event and a row for its twin's state, five hundred at once, and nothing of what a twin is.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
import ray
from aio_pika import connect
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from adapters.amqp.topology import Names
from ops.bench.queues import PREFETCH

BATCH_SIZE_MAX = 500
Row = tuple[str, str, bytes]
"""Event id, subject, body."""


class _Head(msgspec.Struct):
    id: str
    subject: str


_HEAD = msgspec.json.Decoder(_Head)


class Rows:
    """Keeps an event once, and of each twin the last event with a count."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE event (id TEXT PRIMARY KEY, subject TEXT, body BLOB)",
            "CREATE TABLE state (subject TEXT PRIMARY KEY, version INTEGER, body BLOB)",
        ):
            self._connection.execute(statement)

    def take(self, rows: list[Row]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?)", rows)
        self._connection.executemany(
            "INSERT INTO state VALUES (?, 1, ?) "
            "ON CONFLICT (subject) DO UPDATE SET version = version + 1, body = excluded.body",
            [(subject, body) for _, subject, body in rows],
        )
        self._connection.execute("COMMIT")


class Consumer:
    """Hands batches to the rows, one under way for each queue."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._left = 0
        self._done = asyncio.Event()

    async def take(self, url: str, prefix: str, many: int) -> float:
        """Seconds from the first message to the last acknowledgement."""
        async with await connect(url) as connection:
            started, self._left = time.perf_counter(), many
            queues = [
                asyncio.create_task(self._consume(connection, name))
                for name in (Names(prefix).ingest, Names(prefix).bulk)
            ]
            await self._done.wait()
            lasted = time.perf_counter() - started
            for task in queues:
                task.cancel()
            return lasted

    async def _consume(self, connection: AbstractConnection, name: str) -> None:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        waiting: list[AbstractIncomingMessage] = []
        came = asyncio.Event()

        async def received(message: AbstractIncomingMessage) -> None:
            waiting.append(message)
            came.set()

        await (await channel.get_queue(name)).consume(received)
        while True:
            await came.wait()
            batch = waiting[:BATCH_SIZE_MAX]
            del waiting[:BATCH_SIZE_MAX]
            if not waiting:
                came.clear()
            heads = [_HEAD.decode(message.body) for message in batch]
            rows = [(head.id, head.subject, message.body) for head, message in zip(heads, batch, strict=True)]
            await self._rows.take.remote(rows)
            await batch[-1].ack(multiple=True)
            self._left -= len(batch)
            if self._left <= 0:
                self._done.set()


async def take_through_bare_pipe(url: str, prefix: str, many: int, folder: Path) -> float:
    """Seconds from the first message to the last acknowledgement."""
    rows = ray.remote(num_cpus=0)(Rows).remote(str(folder / "bare.sqlite"))
    consumer = ray.remote(num_cpus=0)(Consumer).remote(rows)
    try:
        return float(await consumer.take.remote(url, prefix, many))
    finally:
        ray.kill(consumer)
        ray.kill(rows)
