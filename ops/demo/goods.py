"""What the demo's shop sells, and who buys it: plain values that the partners' payloads are written from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from canonical.money import ZERO, rounded

CURRENCY = "USD"
TAX_RATE = Decimal("0.0825")


@dataclass(frozen=True, slots=True)
class SoldLine:
    line_id: str
    sku: str
    quantity: int
    unit_price: Decimal

    @property
    def net(self) -> Decimal:
        return self.quantity * self.unit_price

    @property
    def tax(self) -> Decimal:
        return rounded(self.net * TAX_RATE, CURRENCY)


@dataclass(frozen=True, slots=True)
class SoldOrder:
    order_id: str
    number: int
    customer_id: str
    placed_at: datetime
    lines: tuple[SoldLine, ...]
    freight: Decimal

    @property
    def total(self) -> Decimal:
        return sum((line.net + line.tax for line in self.lines), self.freight)


@dataclass(frozen=True, slots=True)
class Pick:
    """What a warehouse was asked for of one line, and what it took. *sku* is the one that it took."""

    line: SoldLine
    asked: int
    taken: int
    sku: str

    @property
    def is_substitute(self) -> bool:
        return self.sku != self.line.sku


@dataclass(frozen=True, slots=True)
class Parcel:
    """One shipment on its way."""

    shipment_id: str
    order_id: str
    location: str
    tracking_number: str
    picks: tuple[Pick, ...]
    left_at: datetime
    cost: Decimal = ZERO

    @property
    def taken(self) -> tuple[Pick, ...]:
        return tuple(pick for pick in self.picks if pick.taken)
