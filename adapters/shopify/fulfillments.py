"""Fulfilments: one is a shipment, from the warehouse's order to its dispatch or its end.

Rules
- The webhook of the creation tells of the moment of the creation; a later one, of that of the update.
- A tracking number that was registered once is registered, however many updates repeat it: one event.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_never

from adapters.shopify.models import Fulfillment, FulfillmentStatus, Goods
from adapters.shopify.telling import Telling
from canonical import identity
from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.shipment import ShipmentCreated, ShipmentDispatched, ShipmentLine, ShipmentVoided
from canonical.facts.tracking import TrackingRegistered


def fulfillment_created(payload: Any, telling: Telling) -> Iterator[Event]:
    fulfillment = Fulfillment.model_validate(payload)
    yield from _fulfillment(fulfillment, fulfillment.created_at, telling)


def fulfillment_updated(payload: Any, telling: Telling) -> Iterator[Event]:
    fulfillment = Fulfillment.model_validate(payload)
    yield from _fulfillment(fulfillment, fulfillment.updated_at, telling)


def _fulfillment(fulfillment: Fulfillment, time: datetime, telling: Telling) -> Iterator[Event]:
    subject, path = identity.shipment(fulfillment.id), f"fulfillments/{fulfillment.id}"
    word, fact = _shipped(fulfillment, telling)
    yield telling.event(f"{path}/{word}/{time.isoformat()}", subject, time, fact)
    carrier = telling.carrier(fulfillment.tracking_company)
    if carrier is None or isinstance(fact, ShipmentVoided):
        return
    for number in fulfillment.numbers:
        tracking = identity.tracking(carrier, number)
        registered = TrackingRegistered(shipment_id=fulfillment.id)
        yield telling.event(f"{path}/registered/{tracking.key}", tracking, fulfillment.created_at, registered)


def _shipped(fulfillment: Fulfillment, telling: Telling) -> tuple[str, Fact]:
    """What the status says, and the word for it."""
    location, lines = telling.location(fulfillment.location_id), _shipment_lines(fulfillment)
    match fulfillment.status:
        case FulfillmentStatus.PENDING | FulfillmentStatus.OPEN:
            return "created", ShipmentCreated(location=location, lines=lines)
        case FulfillmentStatus.SUCCESS:
            carrier = telling.carrier(fulfillment.tracking_company)
            numbers = () if carrier is None else fulfillment.numbers
            return "dispatched", ShipmentDispatched(
                location=location, lines=lines, carrier=carrier, tracking_numbers=numbers
            )
        case FulfillmentStatus.CANCELLED | FulfillmentStatus.ERROR | FulfillmentStatus.FAILURE:
            return "voided", ShipmentVoided(reason=fulfillment.status.value)
        case _:
            assert_never(fulfillment.status)


def _shipment_lines(fulfillment: Fulfillment) -> tuple[ShipmentLine, ...]:
    return tuple(_shipment_line(goods, fulfillment.order_id) for goods in fulfillment.line_items)


def _shipment_line(goods: Goods, order_id: str) -> ShipmentLine:
    return ShipmentLine(order_id=order_id, line_id=goods.id, sku=goods.our_sku, quantity=goods.quantity)
