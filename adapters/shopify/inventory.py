"""Inventory levels: what can be sold of an item at a location.

Rule
- What is available is no count of what is there: an order lowers it when it is placed, not when its goods
  leave. Each such level would be posted as a loss, and taken back later. So it tells nothing, unless the
  connection's setting ``count_levels`` is ``available``: for a shop whose orders leave as they are placed, or
  whose levels only its warehouse sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.shopify.models import InventoryLevel
from adapters.shopify.telling import DEFAULT_LOCATION, Telling
from canonical import identity
from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.facts.stock import StockCounted


def level_events(payload: Any, telling: Telling) -> Iterator[Event]:
    level = InventoryLevel.model_validate(payload)
    counts = telling.connection.settings.get("count_levels") == "available"
    if level.available is None or not counts:
        return
    if level.available < 0:
        raise RejectedMessage(f"{level.available}: an oversold level is no count of goods", field="available")
    item_id = level.inventory_item_id
    sku = telling.connection.settings.get(f"sku.{item_id}", f"inventory-item/{item_id}")
    count_id = f"{item_id}@{level.location_id or DEFAULT_LOCATION}/{level.updated_at.isoformat()}"
    subject = identity.stock(sku, telling.location(level.location_id))
    fact = StockCounted(count_id=count_id, quantity=level.available)
    yield telling.event(f"inventory_levels/{count_id}", subject, level.updated_at, fact)
