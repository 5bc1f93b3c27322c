"""How many messages wait in the queues of events."""

from __future__ import annotations

from aio_pika.abc import AbstractChannel, AbstractConnection

from adapters.amqp.link import Link, Patience
from adapters.amqp.topology import Names, declare
from twins.ports import Waiting

PATIENCE = Patience(connect_s=2.0, publish_s=2.0)
"""A figure that is late is of no use, and whoever asks for it has timers to keep."""


class AmqpQueues:
    """Implements twins.ports.Queues by declaring what is there already, which any user may who consumes."""

    def __init__(self, url: str, *, prefix: str = "twinsync", patience: Patience = PATIENCE) -> None:
        self._names = Names(prefix)
        self._link = Link(url, self._declared, patience)

    async def waiting(self) -> Waiting:
        """Without what consumers hold. Raises: TransientFailure."""
        async with self._link.opened() as channel:
            return Waiting(await _ready(channel, self._names.ingest), await _ready(channel, self._names.bulk))

    async def close(self) -> None:
        await self._link.close()

    async def _declared(self, connection: AbstractConnection, channel: AbstractChannel) -> AbstractChannel:
        """Asking for a queue that does not exist would end the channel."""
        await declare(connection, self._names)
        return channel


async def _ready(channel: AbstractChannel, queue: str) -> int:
    found = await channel.declare_queue(queue, passive=True)
    return found.declaration_result.message_count or 0
