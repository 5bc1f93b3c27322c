"""Publishing events, confirmed by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

from adapters.amqp.link import Link, Patience
from adapters.amqp.topology import Names, declare
from canonical.envelope import HEADER_PREFIX, STRUCTURED, is_binary
from canonical.errors import RejectedMessage
from twins.ports import Publication

IN_FLIGHT_MAX = 256
"""Messages that wait for their confirms at once."""


class _Address(msgspec.Struct):
    type: str
    id: str


_ADDRESS = msgspec.json.Decoder(_Address)


class AmqpPublisher:
    """Implements twins.ports.Publisher."""

    def __init__(self, url: str, *, prefix: str = "twinsync", patience: Patience | None = None) -> None:
        self._names = Names(prefix)
        self._link = Link(url, self._declared, patience or Patience(), returns_raise=True)

    async def publish(self, messages: Sequence[Publication]) -> None:
        """Returns when the broker has confirmed all. Raises: TransientFailure, RejectedMessage (no type)."""
        async with self._link.opened() as exchange:
            for start in range(0, len(messages), IN_FLIGHT_MAX):
                some = messages[start : start + IN_FLIGHT_MAX]
                await asyncio.gather(*(_publish(exchange, message) for message in some))

    async def check(self) -> None:
        """Returns when the broker takes messages. Raises: TransientFailure."""
        await self._link.check()

    async def close(self) -> None:
        await self._link.close()

    async def _declared(self, connection: AbstractConnection, channel: AbstractChannel) -> AbstractExchange:
        await declare(connection, self._names)
        return await channel.get_exchange(self._names.events, ensure=False)


async def _publish(exchange: AbstractExchange, message: Publication) -> None:
    routing_key, message_id = _address(message)
    await exchange.publish(
        Message(
            message.body,
            headers=dict(message.headers),
            content_type=message.content_type or STRUCTURED,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=message_id,
        ),
        routing_key,
    )


def _address(message: Publication) -> tuple[str, str]:
    """Type and id, from the headers in binary form, else from the body."""
    if is_binary(message.headers, message.content_type):
        headers = message.headers
        return headers.get(f"{HEADER_PREFIX}type", ""), headers.get(f"{HEADER_PREFIX}id", "")
    try:
        address = _ADDRESS.decode(message.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RejectedMessage(str(error), field="type") from None
    return address.type, address.id
