"""Facts about a shipment, from pick to dispatch."""

from __future__ import annotations

from canonical.facts.base import Fact, Part, Rank, closed
from canonical.identity import Kind
from canonical.money import ZERO
from canonical.types import Amount, Currency, Identifier, Quantity, SsccText, Text

_SHIPMENT = frozenset({Kind.SHIPMENT})


@closed
class ShipmentLine(Part):
    """Quantity of a SKU that serves one order line. A SKU other than the ordered one is a substitution."""

    order_id: Identifier
    line_id: Identifier
    sku: Identifier
    quantity: Quantity
    unit: Identifier = "EA"


@closed
class ShipmentCreated(Fact):
    """A warehouse was told to ship this (X12 940, a fulfilment order)."""

    TYPE = "io.twinsync.shipment.created.v1"
    KINDS = _SHIPMENT
    RANK = Rank.ORIGIN

    location: Identifier
    lines: tuple[ShipmentLine, ...]


@closed
class PickedLine(Part):
    order_id: Identifier
    line_id: Identifier
    sku: Identifier
    quantity: Quantity
    short: Quantity = ZERO
    """Asked for and not found."""


@closed
class ShipmentPicked(Fact):
    """Each pick adds to those before it."""

    TYPE = "io.twinsync.shipment.picked.v1"
    KINDS = _SHIPMENT
    RANK = Rank.PICK

    pick_id: Identifier
    lines: tuple[PickedLine, ...]


@closed
class ShipmentSubstituted(Fact):
    """The warehouse ships another SKU in place of the ordered one."""

    TYPE = "io.twinsync.shipment.substituted.v1"
    KINDS = _SHIPMENT
    RANK = Rank.SUBSTITUTION

    order_id: Identifier
    line_id: Identifier
    original_sku: Identifier
    substitute_sku: Identifier
    quantity: Quantity
    reason: Text | None = None


@closed
class Package(Part):
    package_id: Identifier
    sscc: SsccText | None = None
    tracking_number: Identifier | None = None
    mass_g: Quantity | None = None
    lines: tuple[ShipmentLine, ...] = ()


@closed
class ShipmentPacked(Fact):
    """Packages as they stand now; a later one replaces a package of the same id."""

    TYPE = "io.twinsync.shipment.packed.v1"
    KINDS = _SHIPMENT
    RANK = Rank.PACK

    packages: tuple[Package, ...]


@closed
class ShipmentDispatched(Fact):
    """The goods left the building: the fact that inventory and invoices follow.

    Two sources may tell it (a 945 and an 856): the first by sort order counts, the others witness.
    """

    TYPE = "io.twinsync.shipment.dispatched.v1"
    KINDS = _SHIPMENT
    RANK = Rank.DISPATCH

    location: Identifier
    lines: tuple[ShipmentLine, ...]
    carrier: Identifier | None = None
    service: Text | None = None
    tracking_numbers: tuple[Identifier, ...] = ()
    freight_cost: Amount | None = None
    """What the carrier will charge us."""
    freight_currency: Currency | None = None

    def __post_init__(self) -> None:
        if self.freight_cost is not None and self.freight_currency is None:
            raise ValueError("freight_cost needs freight_currency")
        if self.tracking_numbers and self.carrier is None:
            raise ValueError("tracking_numbers need a carrier: a number is unique within its carrier only")


@closed
class ShipmentVoided(Fact):
    """The shipment did not happen after all: before dispatch it is dropped, after dispatch undone."""

    TYPE = "io.twinsync.shipment.voided.v1"
    KINDS = _SHIPMENT
    RANK = Rank.VOID

    reason: Text | None = None
