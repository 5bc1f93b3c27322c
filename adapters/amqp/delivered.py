"""What a delivery holds, whoever published it and by whichever client library. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiormq.abc import DeliveredMessage

from canonical.envelope import HEADER_PREFIX
from twins.ports import Publication

BINDING_PREFIXES = ("cloudevents:", "cloudevents_")
"""How the CloudEvents AMQP binding (1.0.2, 3.1.3) spells what others call ``ce-``; any case."""

_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-twinsync-")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, and what it says."""

    message: DeliveredMessage
    told: Publication

    @property
    def tag(self) -> int:
        """Of use on the channel that it came by alone."""
        tag = self.message.delivery_tag
        assert tag is not None
        return tag

    @property
    def returned(self) -> int:
        """How often it was delivered and came back, as quorum queues count."""
        counted = headers(self.message).get("x-delivery-count", 0)
        return counted if isinstance(counted, int) else 0

    @property
    def message_id(self) -> str | None:
        return self.message.header.properties.message_id

    async def acknowledge(self, *, multiple: bool = False) -> None:
        """*multiple*: and all before it. Raises what the link raises when it is lost."""
        await self.message.channel.basic_ack(self.tag, multiple)

    async def give_back(self) -> None:
        """The broker is to deliver it again. Raises what the link raises when it is lost."""
        await self.message.channel.basic_nack(self.tag)

    async def set_aside(self) -> None:
        """The broker is to put it into the dead queue. Raises what the link raises when it is lost."""
        await self.message.channel.basic_reject(self.tag, requeue=False)


def headers(message: DeliveredMessage) -> Mapping[str, Any]:
    return message.header.properties.headers or {}


def publication(message: DeliveredMessage) -> Publication:
    """The message as its sender sent it; header names in lower case."""
    told = {
        _name(name.lower()): text(value)
        for name, value in headers(message).items()
        if not name.lower().startswith(_OF_THE_BROKER)
    }
    return Publication(message.body, told, message.header.properties.content_type)


def _name(name: str) -> str:
    for prefix in BINDING_PREFIXES:
        if name.startswith(prefix):
            return HEADER_PREFIX + name.removeprefix(prefix)
    return name


def text(value: object) -> str:
    match value:
        case bytes() | bytearray():
            return value.decode("utf-8", "replace")
        case datetime():  # an AMQP timestamp counts seconds in UTC
            return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
        case _:
            return str(value)
