"""Asking a source again over RabbitMQ: a request on ``<prefix>.backfill``, routed by the source."""

from __future__ import annotations

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import PublishError
from pydantic_core import to_json

from adapters.amqp.link import Link, Patience
from adapters.amqp.topology import Names
from twins.core.gaps import Gap


class AmqpBackfill:
    """Implements twins.ports.Backfill. Adapters bind a queue to ``<prefix>.backfill`` for their sources.

    The routing key is the source, its slashes as dots: ``wms.DC-1`` for ``/wms/DC-1``.
    """

    def __init__(self, url: str, *, prefix: str = "twinsync", patience: Patience | None = None) -> None:
        self._names = Names(prefix)
        self._link = Link(url, self._declared, patience or Patience(), returns_raise=True)

    async def ask(self, gap: Gap) -> bool:
        """True once the broker has put it into a queue: somebody listens for the source."""
        body = {"source": gap.source, "first": gap.first, "last": gap.last, "since": gap.since}
        message = Message(
            to_json(body), content_type="application/json", delivery_mode=DeliveryMode.PERSISTENT
        )
        async with self._link.opened() as exchange:
            try:
                await exchange.publish(message, gap.source.strip("/").replace("/", "."), mandatory=True)
            except PublishError:
                return False
            return True

    async def close(self) -> None:
        await self._link.close()

    async def _declared(self, _: AbstractConnection, channel: AbstractChannel) -> AbstractExchange:
        return await channel.declare_exchange(self._names.backfill, ExchangeType.TOPIC, durable=True)
