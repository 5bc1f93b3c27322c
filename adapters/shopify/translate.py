"""Shopify webhooks → canonical events.

Rules
- Ids come from what the payload says, never from the delivery: a webhook sent again adds nothing. An id with
  other content means two updates within Shopify's one-second clock; the core keeps both and flags them.
- A topic that is not in the table below is refused, and so seen: what it says could not be kept.

The rules for each kind of payload stand in the module that reads it.

Settings of a connection that are read here:

- ``company``: legal entity that sells; ``main`` where it is not set.
- ``currency``: for transactions that name none.
- ``location`` and ``location.<location_id>``: see `Connection.location`; ``default`` where neither says.
- ``count_levels``: ``available`` takes what can be sold for a count of what is there (see `inventory`).
- ``sku.<inventory_item_id>``: SKU of an inventory item, which inventory webhooks do not name.
- ``carrier.<tracking_company>``: our carrier for their name (``carrier.DHL Express`` = ``dhl``); otherwise
  their name in lower case, without spaces.
- ``carrier``: for fulfilments that name none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapters.shopify.fulfillments import fulfillment_created, fulfillment_updated
from adapters.shopify.inventory import level_events
from adapters.shopify.masterdata import customer_events, product_events
from adapters.shopify.orders import order_events
from adapters.shopify.payments import refund_events, transaction_events
from adapters.shopify.returns import return_events
from adapters.shopify.telling import Telling
from adapters.shopify.topics import TOPIC_HEADER, recognise, unwrap
from adapters.webhooks import read, rejected
from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.translation import Connection, Inbound, Translation
from canonical.types import Occurred

TRIGGERED_AT_HEADER = "x-shopify-triggered-at"

_OCCURRED: TypeAdapter[datetime] = TypeAdapter(Occurred)


def translate(message: Inbound, connection: Connection) -> Translation:
    """Read one webhook. Raises: RejectedMessage naming the field or header at fault."""
    payload, named = unwrap(read(message.body))
    topic = message.headers.get(TOPIC_HEADER) or named or recognise(payload)
    if topic not in _TOPICS:
        raise RejectedMessage(f"unknown topic {topic!r}; known: {', '.join(_TOPICS)}", field=TOPIC_HEADER)
    telling = Telling(connection, _triggered_at(message.headers))
    try:
        return Translation(tuple(_TOPICS[topic](payload, telling)))
    except ValidationError as error:
        raise rejected(error) from None
    except ArithmeticError:
        raise RejectedMessage("amounts are out of range") from None


def _triggered_at(headers: Mapping[str, str]) -> datetime | None:
    told = headers.get(TRIGGERED_AT_HEADER)
    if told is None:
        return None
    try:
        return _OCCURRED.validate_python(told)
    except ValidationError:
        raise RejectedMessage(f"expected an RFC 3339 time, got {told!r}", field=TRIGGERED_AT_HEADER) from None


_TOPICS: Mapping[str, Callable[[Any, Telling], Iterator[Event]]] = {
    "orders/create": order_events,
    "orders/updated": order_events,
    "orders/paid": order_events,
    "orders/partially_fulfilled": order_events,
    "orders/fulfilled": order_events,
    "orders/cancelled": order_events,
    "fulfillments/create": fulfillment_created,
    "fulfillments/update": fulfillment_updated,
    "refunds/create": refund_events,
    "order_transactions/create": transaction_events,
    "returns/request": return_events("requested"),
    "returns/approve": return_events("requested", "approved"),
    "returns/decline": return_events("declined"),
    "returns/close": return_events("closed"),
    "inventory_levels/update": level_events,
    "products/create": product_events,
    "products/update": product_events,
    "customers/create": customer_events,
    "customers/update": customer_events,
}
