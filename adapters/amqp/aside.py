"""Messages as the broker hands them over, and why it has set one aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from adapters.amqp.topology import DELIVERY_LIMIT
from canonical.envelope import BODY_BYTES_MAX, parse
from canonical.errors import RejectedMessage
from twins.ports import Fault, Publication, Rejected

REASON, FIELD = "x-twinsync-reason", "x-twinsync-field"
"""Headers that consumers before version 0.2 wrote into what they refused."""
_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-twinsync-")


def publication(message: AbstractIncomingMessage) -> Publication:
    """The message as its sender sent it; header names in lower case."""
    headers = {
        name.lower(): _text(value)
        for name, value in message.headers.items()
        if not name.lower().startswith(_OF_THE_BROKER)
    }
    return Publication(message.body, headers, message.content_type)


def why_aside(message: AbstractIncomingMessage) -> Rejected:
    """Why a message is in the dead queue, in words that a person understands."""
    headers = message.headers
    if REASON in headers:
        return Rejected(_text(headers[REASON]), _text(headers.get(FIELD, "")))
    deaths: Any = headers.get("x-death")
    if deaths:
        return _why_dead(deaths[0], len(message.body))
    return _why_unroutable(publication(message), message.routing_key or "")


def _why_dead(death: Mapping[str, Any], size_bytes: int) -> Rejected:
    """*death*: RabbitMQ's account of why a message left a queue."""
    queue = death.get("queue")
    match death.get("reason"):
        case "rejected" if size_bytes > BODY_BYTES_MAX:
            return Rejected(f"{size_bytes} bytes; at most {BODY_BYTES_MAX}", "data")
        case "delivery_limit":
            return Rejected(
                f"given up after {DELIVERY_LIMIT} deliveries from {queue}: twinsync failed each time "
                "with this message in hand, which need not be the cause",
                fault=Fault.TWINSYNC,
            )
        case reason:
            return Rejected(f"the broker took it out of {queue}: {reason}", fault=Fault.TWINSYNC)


def _why_unroutable(message: Publication, routing_key: str) -> Rejected:
    try:
        event = parse(message.body, message.headers, message.content_type)
    except RejectedMessage as rejected:
        return Rejected(rejected.reason, rejected.field)
    return Rejected(
        f"published with the routing key {routing_key!r}, which is no event type; its own is {event.type!r}",
        "type",
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
