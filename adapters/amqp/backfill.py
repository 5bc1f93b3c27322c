"""Asking a source again over RabbitMQ: a request on ``<prefix>.backfill``, routed by the source."""

from __future__ import annotations

import asyncio

from aio_pika import DeliveryMode, ExchangeType, Message, connect_robust
from aio_pika.abc import AbstractExchange, AbstractRobustConnection
from aio_pika.exceptions import AMQPError, DeliveryError
from pydantic_core import to_json

from adapters.amqp.topology import Names
from canonical.errors import TransientFailure
from twins.core.gaps import Gap


class AmqpBackfill:
    """Implements twins.ports.Backfill. Adapters bind a queue to ``<prefix>.backfill`` for their sources.

    The routing key is the source, its slashes as dots: ``wms.DC-1`` for ``/wms/DC-1``.
    """

    def __init__(self, url: str, *, prefix: str = "twinsync") -> None:
        self._url = url
        self._names = Names(prefix)
        self._connection: AbstractRobustConnection | None = None
        self._exchange: AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def ask(self, gap: Gap) -> bool:
        """True once the broker has put it into a queue: somebody listens for the source."""
        body = {"source": gap.source, "first": gap.first, "last": gap.last, "since": gap.since}
        message = Message(
            to_json(body), content_type="application/json", delivery_mode=DeliveryMode.PERSISTENT
        )
        try:
            exchange = await self._opened()
            await exchange.publish(message, gap.source.strip("/").replace("/", "."), mandatory=True)
        except DeliveryError:
            return False
        except (TimeoutError, AMQPError, OSError) as error:
            raise TransientFailure(f"broker: {error!r}") from error
        return True

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _opened(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None:
                self._connection = await connect_robust(self._url)
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._exchange = await channel.declare_exchange(
                    self._names.backfill, ExchangeType.TOPIC, durable=True
                )
            return self._exchange
