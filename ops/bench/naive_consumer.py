"""A consumer as often written: one message, one SELECT FOR UPDATE, one ORM commit, one acknowledgement."""

from __future__ import annotations

import time

from aio_pika import connect
from pydantic_core import from_json
from sqlalchemy import JSON, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from adapters.amqp.topology import Names
from adapters.sql.engine import Tuning, writer

PREFETCH = 10


class Base(DeclarativeBase):
    pass


class SeenEvent(Base):
    __tablename__ = "naive_seen_event"
    name: Mapped[str] = mapped_column(String(400), primary_key=True)


class Twin(Base):
    __tablename__ = "naive_twin"
    subject: Mapped[str] = mapped_column(String(200), primary_key=True)
    version: Mapped[int]
    facts: Mapped[dict[str, object]] = mapped_column(JSON)
    """The last fact of each type."""


async def take_naively(amqp_url: str, database_url: str, prefix: str, many: int) -> float:
    """Seconds from the first message to the last acknowledgement."""
    engine = writer(database_url, Tuning())
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        return await _taken(async_sessionmaker(engine, expire_on_commit=False), amqp_url, prefix, many)
    finally:
        await engine.dispose()


async def _taken(sessions: async_sessionmaker[AsyncSession], url: str, prefix: str, many: int) -> float:
    async with await connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        started, left = time.perf_counter(), many
        for name in (Names(prefix).ingest, Names(prefix).bulk):
            queue = await channel.get_queue(name)
            in_queue = min(left, queue.declaration_result.message_count or 0)
            left -= in_queue
            if not in_queue:
                continue
            async with queue.iterator() as messages:
                async for message in messages:
                    async with sessions.begin() as session:
                        await _handle(session, message.body)
                    await message.ack()
                    in_queue -= 1
                    if not in_queue:
                        break
        return time.perf_counter() - started


async def _handle(session: AsyncSession, body: bytes) -> None:
    event = from_json(body)
    name = f"{event['source']} {event['id']}"
    if await session.get(SeenEvent, name) is not None:
        return
    session.add(SeenEvent(name=name))
    found = await session.scalar(select(Twin).where(Twin.subject == event["subject"]).with_for_update())
    if found is None:
        session.add(Twin(subject=event["subject"], version=1, facts={event["type"]: event["data"]}))
    else:
        found.version += 1
        found.facts = {**found.facts, event["type"]: event["data"]}
