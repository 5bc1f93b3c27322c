"""An ERP behind RabbitMQ: commands go out on ``<prefix>.postings``, its answers come back as events."""

from __future__ import annotations

from datetime import date

from aio_pika import DeliveryMode, ExchangeType, Message, connect_robust
from aio_pika.abc import AbstractExchange, AbstractRobustConnection
from aio_pika.exceptions import AMQPError
from pydantic_core import to_json

from adapters.amqp.topology import Names, declare
from canonical.errors import TransientFailure
from canonical.postings import Command
from twins.ports import Confirmed


class AmqpErpConnector:
    """Implements twins.ports.ErpConnector. The receiver tells repetitions by ``message_id``."""

    def __init__(self, url: str, erp: str, *, prefix: str = "twinsync") -> None:
        self._url = url
        self._erp = erp
        self._names = Names(prefix)
        self._connection: AbstractRobustConnection | None = None
        self._exchange: AbstractExchange | None = None

    async def tell(self, command: Command, *, posting_date: date | None = None) -> None:
        """Publish, confirmed. The answer comes as an event: posting-confirmed or posting-rejected."""
        body = {
            "idempotency_key": command.idempotency_key,
            "action": command.action.value,
            "version": command.version,
            "posting_date": posting_date,
            "posting": command.posting,
        }
        message = Message(
            to_json(body),
            content_type="application/json",
            message_id=command.idempotency_key,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            exchange = await self._opened()
            await exchange.publish(message, f"{self._erp}.{command.posting.command}")
        except (AMQPError, OSError) as error:
            raise TransientFailure(f"broker: {error!r}") from error

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        """Nobody to ask: telling again is safe, since the receiver knows the key."""
        return None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _opened(self) -> AbstractExchange:
        if self._exchange is None:
            self._connection = await connect_robust(self._url)
            channel = await self._connection.channel(publisher_confirms=True)
            await declare(channel, self._names)
            self._exchange = await channel.declare_exchange(
                self._names.postings, ExchangeType.TOPIC, durable=True
            )
        return self._exchange
