"""What a delivery holds, whoever published it and by whichever client library. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika.abc import AbstractIncomingMessage

from canonical.envelope import HEADER_PREFIX
from twins.ports import Publication

BINDING_PREFIXES = ("cloudevents:", "cloudevents_")
"""How the CloudEvents AMQP binding (1.0.2, 3.1.3) spells what others call ``ce-``; any case."""

_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-twinsync-")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message, and what it says."""

    message: AbstractIncomingMessage
    told: Publication


def publication(message: AbstractIncomingMessage) -> Publication:
    """The message as its sender sent it; header names in lower case."""
    headers = {
        _name(name.lower()): text(value)
        for name, value in message.headers.items()
        if not name.lower().startswith(_OF_THE_BROKER)
    }
    return Publication(message.body, headers, message.content_type)


def deliveries(message: AbstractIncomingMessage) -> int:
    """How often it was delivered and came back, as quorum queues count."""
    counted = message.headers.get("x-delivery-count", 0)
    return counted if isinstance(counted, int) else 0


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
