"""Publishing events, confirmed by the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aio_pika import DeliveryMode, Message, connect_robust
from aio_pika.abc import AbstractExchange, AbstractRobustConnection
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from adapters.amqp.topology import Names, declare
from canonical.envelope import HEADER_PREFIX, STRUCTURED, is_binary
from canonical.errors import RejectedMessage, TransientFailure
from twins.ports import Publication

IN_FLIGHT_MAX = 256
"""Messages that wait for their confirms at once."""


class _Address(msgspec.Struct):
    type: str
    id: str


_ADDRESS = msgspec.json.Decoder(_Address)


class AmqpPublisher:
    """Implements twins.ports.Publisher."""

    def __init__(self, url: str, *, prefix: str = "twinsync") -> None:
        self._url = url
        self._names = Names(prefix)
        self._connection: AbstractRobustConnection | None = None
        self._exchange: AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def publish(self, messages: Sequence[Publication]) -> None:
        """Returns when the broker has confirmed all. Raises: TransientFailure, RejectedMessage (no type)."""
        try:
            exchange = await self._opened()
            for start in range(0, len(messages), IN_FLIGHT_MAX):
                some = messages[start : start + IN_FLIGHT_MAX]
                await asyncio.gather(*(_publish(exchange, message) for message in some))
        except (TimeoutError, AMQPError, ChannelInvalidStateError, OSError) as error:
            raise TransientFailure(f"broker: {error!r}") from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _opened(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None:
                self._connection = await connect_robust(self._url)
                channel = await self._connection.channel(publisher_confirms=True)
                self._exchange = await declare(channel, self._names)
            return self._exchange


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
