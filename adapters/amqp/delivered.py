"""What a delivery holds, whoever published it and by whichever client library. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from aio_pika.abc import AbstractIncomingMessage

from canonical.envelope import HEADER_PREFIX
from twins.ports import Publication

BINDING_PREFIXES = ("cloudevents:", "cloudevents_")
"""How the CloudEvents AMQP binding (1.0.2, 3.1.3) spells what others call ``ce-``; any case."""


def publication(message: AbstractIncomingMessage) -> Publication:
    headers = {_name(name): _text(value) for name, value in message.headers.items()}
    return Publication(message.body, headers, message.content_type)


def deliveries(message: AbstractIncomingMessage) -> int:
    """How often it was delivered and came back, as quorum queues count."""
    counted = message.headers.get("x-delivery-count", 0)
    return counted if isinstance(counted, int) else 0


def _name(name: str) -> str:
    for prefix in BINDING_PREFIXES:
        if name.lower().startswith(prefix):
            return HEADER_PREFIX + name[len(prefix) :].lower()
    return name


def _text(value: object) -> str:
    match value:
        case bytes() | bytearray():
            return value.decode("utf-8", "replace")
        case datetime():  # an AMQP timestamp counts seconds in UTC
            return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
        case _:
            return str(value)
