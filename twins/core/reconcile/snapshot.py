"""What an OMS or a WMS says that it holds, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from canonical.facts.stock import StockStatus
from canonical.identity import TwinRef


@dataclass(frozen=True, slots=True)
class ShelfRow:
    quantity: Decimal
    as_of: datetime


Shelves = Mapping[TwinRef, Mapping[StockStatus, ShelfRow]]


@dataclass(frozen=True, slots=True)
class LineRow:
    """*quantities*: by the names that an order's document has for them, such as ``shipped``."""

    sku: str | None
    quantities: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class OrderRow:
    """None: the snapshot does not say, and it is not compared."""

    as_of: datetime
    status: str | None = None
    total: Decimal | None = None
    lines: Mapping[str, LineRow] = field(default_factory=dict)


Orders = Mapping[TwinRef, OrderRow]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """*stock* and *orders* None: nobody said. Kept in memory as a whole while it is compared."""

    stock: Shelves | None = None
    orders: Orders | None = None
    is_whole: bool = True
    """What it leaves out is not there: no such order; nothing of that SKU at a location that it names."""
