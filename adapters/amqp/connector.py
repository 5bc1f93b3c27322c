"""An ERP behind RabbitMQ: commands go out on ``<prefix>.postings``, its answers come back as events."""

from __future__ import annotations

from datetime import date

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from pydantic_core import to_json

from adapters.amqp.link import Link, Patience
from adapters.amqp.topology import Names, declare
from canonical.postings import Command, owner
from twins.ports import Confirmed


class AmqpErpConnector:
    """Implements twins.ports.ErpConnector. The receiver tells repetitions by ``message_id``.

    What it is told and must answer: docs/rabbitmq.md.
    """

    def __init__(
        self, url: str, erp: str, *, prefix: str = "twinsync", patience: Patience | None = None
    ) -> None:
        self._erp = erp
        self._names = Names(prefix)
        self._link = Link(url, self._postings, patience or Patience(), returns_raise=True)

    async def tell(self, command: Command, *, posting_date: date | None = None) -> None:
        """Publish, confirmed. The answer comes as an event: posting-confirmed or posting-rejected.

        Raises: TransientFailure.
        """
        body = {
            "idempotency_key": command.idempotency_key,
            "subject": str(owner(command.posting)),
            "action": command.action.value,
            "version": command.version,
            "again": command.again,
            "posting_date": posting_date,
            "posting": command.posting,
        }
        message = Message(
            to_json(body),
            content_type="application/json",
            message_id=command.idempotency_key,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        async with self._link.opened() as exchange:
            await exchange.publish(message, f"{self._erp}.{command.posting.command}")

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        """Nobody to ask: telling again is safe, since the receiver knows the key."""
        return None

    async def close(self) -> None:
        await self._link.close()

    async def _postings(self, connection: AbstractConnection, channel: AbstractChannel) -> AbstractExchange:
        await declare(connection, self._names)
        return await channel.get_exchange(self._names.postings, ensure=False)
