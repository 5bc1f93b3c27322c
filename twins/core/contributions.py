"""What one twin maintains in another: registers, never messages.

A value replaces the one before it from the same source, so repetition and order of delivery leave no trace;
the highest version wins. Values depend on each other in one direction only (facts → shipped → accepted →
goods issue → invoice; allocated → short), so that a round of contributions always comes to rest. Quantities
have one spelling each: a value that is equal is not said again, and must not differ in its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

from msgspec import Struct
from pydantic import Field, TypeAdapter

from canonical.identity import EventId, TwinRef


class Moved(NamedTuple):
    """A quantity that moves stock at a moment; *part* names it within its source."""

    part: str
    status: str
    delta: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Interest:
    """An order or stock asks for master data."""

    tag: Literal["interest"] = "interest"


INTEREST = Interest()


@dataclass(frozen=True, slots=True)
class CostAsked:
    """Shipment → item: what it cost when the goods left. What it costs later is no news to them."""

    at: datetime
    tag: Literal["cost-asked"] = "cost-asked"


class Cost(NamedTuple):
    """Unit cost from a moment on, as one revision of the item says."""

    since: datetime
    revision: int
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class ItemKnown:
    """Item → order: that it is known. No more: what changes often must not be told to each of its orders."""

    tag: Literal["item-known"] = "item-known"


@dataclass(frozen=True, slots=True)
class ItemCard:
    """Item → stock: that it is known, and its cost at each moment; → shipment: the one that it asks for."""

    costs: tuple[Cost, ...]
    tag: Literal["item"] = "item"

    def unit_cost(self, moment: datetime) -> Decimal | None:
        cost = self.cost(moment)
        return None if cost is None else cost.amount

    def cost(self, moment: datetime) -> Cost | None:
        """The cost in force at *moment*: of the revisions valid by then, the newest."""
        valid = [cost for cost in self.costs if cost.since <= moment]
        return max(valid, key=lambda cost: (cost.revision, cost.since)) if valid else None


@dataclass(frozen=True, slots=True)
class CustomerCard:
    """Customer → order: that it is known. No more."""

    tag: Literal["customer"] = "customer"


class ReservedLine(NamedTuple):
    line_id: str
    quantity: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Reservations:
    """Order → stock: what is allocated and still open, and what came back into stock."""

    lines: tuple[ReservedLine, ...]
    restocks: tuple[Moved, ...]
    tag: Literal["reservations"] = "reservations"


class ShortLine(NamedTuple):
    line_id: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Shortage:
    """Stock → order: allocated, but not there; the explicit backorder bucket."""

    lines: tuple[ShortLine, ...]
    tag: Literal["shortage"] = "shortage"


class ShippedLine(NamedTuple):
    line_id: str
    sku: str
    quantity: Decimal
    unit_cost: Decimal | None


class PickCount(NamedTuple):
    line_id: str
    picked: Decimal
    short: Decimal


@dataclass(frozen=True, slots=True)
class ShipmentProgress:
    """Shipment → order: its part in the order's lines."""

    location: str | None
    picks: tuple[PickCount, ...]
    shipped: tuple[ShippedLine, ...]
    dispatched_at: datetime | None
    delivered_at: datetime | None
    returned_to_sender: bool
    goods_issue_digest: str | None
    causes: tuple[EventId, ...]
    tag: Literal["progress"] = "progress"


class AcceptedLine(NamedTuple):
    line_id: str
    sku: str
    accepted: Decimal
    excess: Decimal


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Order → shipment: which of the shipped quantities the order covers."""

    company: str
    currency: str
    lines: tuple[AcceptedLine, ...]
    causes: tuple[EventId, ...]
    tag: Literal["acceptance"] = "acceptance"


@dataclass(frozen=True, slots=True)
class Issue:
    """Shipment → stock: goods that left."""

    moves: tuple[Moved, ...]
    tag: Literal["issue"] = "issue"


@dataclass(frozen=True, slots=True)
class Binding:
    """Shipment → tracking, order → return: this number is mine."""

    tag: Literal["binding"] = "binding"


BINDING = Binding()


@dataclass(frozen=True, slots=True)
class Carriage:
    """Shipment → tracking: this number is mine, and what was accrued for it and the rest of my numbers."""

    freight: Decimal
    currency: str
    numbers: int
    tag: Literal["carriage"] = "carriage"


class MilestoneReached(NamedTuple):
    milestone: str
    at: datetime
    witnesses: tuple[EventId, ...]
    """The earliest first. A shipment hears of that one alone."""


class Bill(NamedTuple):
    bill_id: str
    amount: Decimal
    currency: str
    at: datetime
    witnesses: tuple[EventId, ...]


@dataclass(frozen=True, slots=True)
class CarrierWord:
    """Tracking → shipment: the carrier's milestones and bills for one number."""

    milestones: tuple[MilestoneReached, ...]
    bills: tuple[Bill, ...]
    signed_by: str | None
    tag: Literal["carrier"] = "carrier"


@dataclass(frozen=True, slots=True)
class InTransit:
    """Stock → stock: all that was ever sent there; the receiver knows what has come."""

    sent: Decimal
    tag: Literal["in-transit"] = "in-transit"


class ForwardedEvent(NamedTuple):
    source: str
    id: str
    structured: str
    """The event itself, in CloudEvents JSON."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Return → order: facts that knew only the return number; the order folds them as its own."""

    events: tuple[ForwardedEvent, ...]
    tag: Literal["forwarded"] = "forwarded"


Value = (
    Interest
    | CostAsked
    | ItemKnown
    | ItemCard
    | CustomerCard
    | Reservations
    | Shortage
    | ShipmentProgress
    | Acceptance
    | Issue
    | Binding
    | Carriage
    | CarrierWord
    | InTransit
    | Forwarded
)
VALUE: TypeAdapter[Value] = TypeAdapter(Annotated[Value, Field(discriminator="tag")])


class Contribution(Struct, frozen=True, gc=False):
    """One register on its way from *source* to *target*. *value* None: nothing any more."""

    source: TwinRef
    target: TwinRef
    version: int
    value: Value | None
