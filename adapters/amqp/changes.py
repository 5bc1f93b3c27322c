"""Changes of twins on ``<prefix>.changes``, by kind and status."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from pydantic_core import to_json

from adapters.amqp.link import Link, Patience
from adapters.amqp.topology import Names, declare
from canonical.envelope import BATCH
from twins.changes import as_event
from twins.ports import TwinRow

TOGETHER_MAX = 100
"""Changes in one message: some 40 kB."""


class AmqpAnnouncements:
    """Implements twins.ports.Announcements: a message is a batch of changes that share a routing key,
    ``<kind>.<status>``. A message of its own for each would take as long as all else together.
    """

    def __init__(self, url: str, *, prefix: str = "twinsync", patience: Patience | None = None) -> None:
        self._names = Names(prefix)
        self._link = Link(url, self._declared, patience or Patience())

    async def announce(self, changed: Sequence[TwinRow]) -> None:
        """Publish, confirmed; where nobody listens the broker drops them. Raises: TransientFailure."""
        by_key: dict[str, list[TwinRow]] = {}
        for row in changed:
            by_key.setdefault(f"{row.ref.kind.value}.{row.status}", []).append(row)
        async with self._link.opened() as exchange:
            await asyncio.gather(
                *(
                    _publish(exchange, key, rows[first : first + TOGETHER_MAX])
                    for key, rows in by_key.items()
                    for first in range(0, len(rows), TOGETHER_MAX)
                )
            )

    async def close(self) -> None:
        await self._link.close()

    async def _declared(self, connection: AbstractConnection, channel: AbstractChannel) -> AbstractExchange:
        await declare(connection, self._names)
        return await channel.get_exchange(self._names.changes, ensure=False)


async def _publish(exchange: AbstractExchange, key: str, rows: Sequence[TwinRow]) -> None:
    body = to_json([as_event(row) for row in rows])
    message = Message(body, content_type=BATCH, delivery_mode=DeliveryMode.PERSISTENT)
    await exchange.publish(message, key, mandatory=False)
