"""945 Warehouse Shipping Advice → shipment.picked, substituted, packed, dispatched and tracking.registered.

- The order is W0602; the shipment is W0604, or else W0602. It left on W0603, at the time of G62*11 (G6204
  in zone G6205) where it names that day, or of the group where that was made on that day.
- Lines are W12 in LX loops: the order line N9*LI, or else LX01; ordered W1202, shipped W1203, unit W1205,
  product ids W1207/08 and W1221/22, U.P.C. case code W1206.
- One line, or one SKU, in two units is refused: its quantities cannot be added up.
- Picked is what shipped; short is what was ordered beyond it. A line of which nothing shipped is only short,
  and where nothing shipped at all there is no dispatch.
- W1201 = IS is a substitution: then W1216, W1217 and W1218 are the item ordered (W12, semantic note). The
  line dispatched is the original one, with the SKU that shipped.
- The carrier is W2702 with service W2703; tracking numbers are N9*CN and N9*2I, and MAN*CP on packages.
- Freight is G72*504: G7208, an N2 amount, in the connection's currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from adapters.x12.document import (
    END_OF_DAY,
    Document,
    OneUnit,
    built,
    case_code,
    key,
    line_reference,
    tracking_numbers,
    unit,
)
from adapters.x12.packages import merged, packages
from adapters.x12.segments import Segment, before, first, loops, missing, only
from canonical.envelope import Event
from canonical.facts.shipment import (
    Package,
    PickedLine,
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPacked,
    ShipmentPicked,
    ShipmentSubstituted,
)
from canonical.identity import shipment
from canonical.money import ZERO

_REPORTS = frozenset(("F", "J", "N", "P"))
"""Element 514 in W0601: full detail, original, no exceptions, and P for a partial shipment. Where it is left
out, as many warehouses do, the lines are taken as they are. Exceptions only (X) would hide what shipped as
ordered; returns, adjustments and counts are no shipments."""
_SUBSTITUTION = "IS"
_FREIGHT = "504"
"""Element 340."""
_SHIPPED_ON = "11"
"""Element 432 in G6201: shipped on this date."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A W12 and what it says, its SKU being the one that shipped."""

    w12: Segment
    order_id: str
    line_id: str
    sku: str
    unit: str
    ordered: Decimal
    shipped: Decimal

    @property
    def line(self) -> ShipmentLine:
        return built(
            ShipmentLine,
            self.w12,
            {"quantity": 3, "unit": 5},
            order_id=self.order_id,
            line_id=self.line_id,
            sku=self.sku,
            quantity=self.shipped,
            unit=self.unit,
        )


def translate(document: Document) -> Iterator[Event]:
    w06 = only(document.segments, "W06")
    if w06[1]:
        w06.code(1, _REPORTS)
    order_id = document.order_id(w06, 2)
    shipment_id = key(w06, 4) if w06[4] else order_id
    at = _left_at(document, w06)
    cartons = [(lx, tuple(_items(document, order_id, lx))) for lx in loops(document.segments, "LX")]
    items = [item for _, carton in cartons for item in carton]
    if not items:
        raise missing("W12")
    _check_units(items)
    packed = _packages(cartons)
    dispatched = _dispatched(document, items, packed)
    substituted = _substituted(document, items)
    for fact in (_picked(shipment_id, items), *substituted, *_packed(packed), *dispatched):
        yield document.event(shipment_id, shipment(shipment_id), at, fact)
    for fact in dispatched:
        yield from document.tracked(shipment_id, at, fact)


def _left_at(document: Document, w06: Segment) -> datetime:
    if not w06[3]:
        return document.sent_at()
    day = w06.date(3)
    shipped = first(document.segments, "G62", _SHIPPED_ON)
    if shipped is not None and shipped[4] and shipped.date(2) == day:
        return document.told(shipped, 2, 4, 5)
    return document.sent_on(day, END_OF_DAY)


# --- lines -----------------------------------------------------------------------------------------------


def _items(document: Document, order_id: str, lx: Sequence[Segment]) -> Iterator[_Item]:
    heading = before(lx, "W12")
    for loop in loops(lx, "W12"):
        w12 = loop[0]
        yield _Item(
            w12,
            order_id,
            line_reference(loop) or line_reference(heading) or lx[0].text(1),
            document.sku(w12, (*w12.pairs(7, 21), *case_code(w12, 6))),
            unit(w12[5]),
            *_quantities(w12),
        )


def _check_units(items: Iterable[_Item]) -> None:
    one_unit = OneUnit()
    for item in items:
        one_unit.check(f"line {item.line_id} of {item.order_id}", item.w12, 5)
        if item.shipped:
            one_unit.check(item.sku, item.w12, 5)


def _quantities(w12: Segment) -> tuple[Decimal, Decimal]:
    """Ordered and shipped. Where W1202 is left out, what shipped was ordered."""
    shipped = w12.quantity(3)
    return (w12.quantity(2) if w12[2] else shipped), shipped


def _picked(shipment_id: str, items: Sequence[_Item]) -> ShipmentPicked:
    totals: dict[tuple[str, str, str], tuple[Decimal, Decimal]] = {}
    for item in items:
        kind = (item.order_id, item.line_id, item.sku)
        quantity, short = totals.get(kind, (ZERO, ZERO))
        totals[kind] = quantity + item.shipped, short + max(ZERO, item.ordered - item.shipped)
    lines = tuple(
        PickedLine(order_id=order_id, line_id=line_id, sku=sku, quantity=quantity, short=short)
        for (order_id, line_id, sku), (quantity, short) in totals.items()
    )
    return ShipmentPicked(pick_id=shipment_id, lines=lines)


def _substituted(document: Document, items: Iterable[_Item]) -> Iterator[ShipmentSubstituted]:
    for item in items:
        w12 = item.w12
        if w12[1] != _SUBSTITUTION or not item.shipped:
            continue
        original = document.sku(w12, (*w12.pairs(17), *case_code(w12, 16)))
        yield built(
            ShipmentSubstituted,
            w12,
            {"quantity": 3, "reason": 19},
            order_id=item.order_id,
            line_id=item.line_id,
            original_sku=original,
            substitute_sku=item.sku,
            quantity=item.shipped,
            reason=w12[19] or None,
        )


# --- packages, dispatch ----------------------------------------------------------------------------------

_Cartons = Sequence[tuple[Sequence[Segment], Sequence[_Item]]]


def _packages(cartons: _Cartons) -> tuple[Package, ...]:
    found: list[Package] = []
    for lx, items in cartons:
        lines = merged(item.line for item in items if item.shipped)
        found += packages(before(lx, "W12"), lines)
    return tuple(found)


def _packed(found: tuple[Package, ...]) -> Iterator[ShipmentPacked]:
    if found:
        yield ShipmentPacked(packages=found)


def _dispatched(
    document: Document, items: Sequence[_Item], packed: Iterable[Package]
) -> tuple[ShipmentDispatched, ...]:
    """One dispatch, or none where nothing shipped."""
    lines = merged(item.line for item in items if item.shipped)
    if not lines:
        return ()
    w27 = first(document.segments, "W27")
    scac, service = (w27[2], w27[3] or None) if w27 is not None else ("", None)
    on_packages = (one.tracking_number for one in packed if one.tracking_number)
    numbers = dict.fromkeys((*tracking_numbers(document.segments), *on_packages))
    carrier = document.carrier(scac)
    if numbers and carrier is None:
        raise missing("W27", "tracking numbers need a carrier: no W2702, and the connection sets no carrier")
    freight = _freight(document.segments)
    fact = ShipmentDispatched(
        location=document.location(before(document.segments, "LX"), "WH", "SF"),
        lines=lines,
        carrier=carrier,
        service=service,
        tracking_numbers=tuple(numbers),
        freight_cost=freight,
        freight_currency=None if freight is None else document.currency(),
    )
    return (fact,)


def _freight(segments: Iterable[Segment]) -> Decimal | None:
    charges = [one.cents(8) for one in segments if one.id == "G72" and one[1] == _FREIGHT and one[8]]
    return sum(charges, ZERO) if charges else None
