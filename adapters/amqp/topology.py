"""Exchanges and queues. Declared by whoever comes first; declaring again changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aio_pika import ExchangeType, connect
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed

from canonical.catalogue import CATALOGUE
from canonical.facts.tracking import TrackingScanned

DELIVERY_LIMIT = 20
"""After so many deliveries a message is poison: the broker sets it among the dead letters, the reason in
``x-death``."""

BULK_TYPES = frozenset({TrackingScanned.TYPE})
"""What comes in masses and may wait: RabbitMQ 3.10's quorum queues know no priority."""


@dataclass(frozen=True, slots=True)
class Names:
    """All names begin with one prefix, so that installations can share a broker."""

    prefix: str = "twinsync"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def ingest(self) -> str:
        return f"{self.prefix}.ingest"

    @property
    def bulk(self) -> str:
        return f"{self.prefix}.ingest.bulk"

    @property
    def dead(self) -> str:
        return f"{self.prefix}.dead"

    @property
    def postings(self) -> str:
        return f"{self.prefix}.postings"

    @property
    def changes(self) -> str:
        return f"{self.prefix}.changes"

    @property
    def backfill(self) -> str:
        return f"{self.prefix}.backfill"


def queue_of(names: Names, event_type: str) -> str:
    return names.bulk if event_type in BULK_TYPES else names.ingest


async def declare(connection: AbstractConnection, names: Names) -> None:
    """Make sure that everything exists, by channels of its own."""
    async with connection.channel() as channel:
        dead = await channel.declare_exchange(names.dead, ExchangeType.FANOUT, durable=True)
        await (await _quorum(channel, names.dead)).bind(dead)  # first, since it takes what is not bound yet
        try:
            await _declare_events(connection, names, ExchangeType.DIRECT)
        except ChannelPreconditionFailed:  # a version before made it a topic exchange, which routes the same
            await _declare_events(connection, names, ExchangeType.TOPIC)
        limits = {"x-delivery-limit": DELIVERY_LIMIT, "x-dead-letter-exchange": names.dead}
        queues = {name: await _quorum(channel, name, limits) for name in (names.ingest, names.bulk)}
        for event_type in CATALOGUE:
            await queues[queue_of(names, event_type)].bind(names.events, event_type)
        postings = await channel.declare_exchange(names.postings, ExchangeType.TOPIC, durable=True)
        await (await _quorum(channel, names.postings)).bind(postings, "#")
        await channel.declare_exchange(names.changes, ExchangeType.TOPIC, durable=True)


async def _declare_events(connection: AbstractConnection, names: Names, kind: ExchangeType) -> None:
    """Raises: ChannelPreconditionFailed where it is of another kind, which ends the channel."""
    async with connection.channel() as channel:
        await channel.declare_exchange(
            names.events, kind, durable=True, arguments={"alternate-exchange": names.dead}
        )


async def _quorum(channel: AbstractChannel, name: str, arguments: dict[str, Any] | None = None) -> Any:
    return await channel.declare_queue(
        name, durable=True, arguments={"x-queue-type": "quorum", **(arguments or {})}
    )


async def clear_away(url: str, names: Names) -> None:
    """`remove`, by a connection of its own."""
    async with await connect(url) as connection:
        await remove(await connection.channel(), names)


async def remove(channel: AbstractChannel, names: Names) -> None:
    """Delete all of it, with whatever it holds; for tests and demos."""
    for queue in (names.ingest, names.bulk, names.dead, names.postings):
        await channel.queue_delete(queue)
    for exchange in (names.events, names.dead, names.postings, names.changes):
        await channel.exchange_delete(exchange)
