"""Why the broker has set a message aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.amqp.delivered import Delivery, text
from adapters.amqp.topology import DELIVERY_LIMIT
from canonical.envelope import BODY_BYTES_MAX, parse
from canonical.errors import RejectedMessage
from twins.ports import Fault, Publication, Rejected

REASON, FIELD = "x-twinsync-reason", "x-twinsync-field"
"""Headers that consumers before version 0.2 wrote into what they refused."""


def why_aside(delivery: Delivery) -> Rejected:
    """Why a message is in the dead queue, in words that a person understands."""
    said = delivery.headers
    if REASON in said:
        return Rejected(text(said[REASON]), text(said.get(FIELD, "")))
    match said.get("x-death"):  # a sender may have written it, too
        case [Mapping() as last, *_]:
            return _why_dead(last, len(delivery.told.body))
    return _why_unroutable(delivery.told, delivery.content.routing_key)


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
