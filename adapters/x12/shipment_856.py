"""856 Ship Notice/Manifest → shipment.dispatched, packed and tracking.registered, or shipment.voided.

- The shipment is BSN02. A cancel (BSN01 = 01 or 03) voids it.
- The hierarchy is what the parent pointers HL02 say (S shipment, O order, T and P packages, I item), in
  whatever order its loops stand.
- The order of an item is PRF01 of the O above it, with the release PRF02 (``PO-77:3``) unless PRF07 is a type
  that has none. Its line is REF*LI, LIN01, SN101, or a running number in its order; its quantity SN102 in
  SN103; its product ids follow LIN01.
- One line, or one SKU, in two units is refused: its quantities cannot be added up.
- Packages are T and P with a MAN. An item is in the nearest package above it.
- It left at DTM*011, DTM03 being in the zone DTM04 (see `zones`); where that has no time, on the same day at
  the time of BSN04; without a DTM*011, at BSN03 and BSN04.
- The carrier is TD503 with service TD505; tracking numbers are REF*CN, REF*2I and MAN*CP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.x12.document import (
    RELEASES,
    Document,
    OneUnit,
    built,
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
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPacked,
    ShipmentVoided,
)
from canonical.identity import shipment

_DISPATCHES = frozenset(("00", "05", "06", "07", "14", "15"))
"""Element 353 in BSN01: original, replace, confirmation, duplicate, advance notification, re-submission."""
_VOIDS = frozenset(("01", "03"))
_SHIPPED = "011"
"""Element 374 in DTM01."""
_ORDER, _ITEM = "O", "I"
_PACKAGES = ("T", "P")
_DEPTH_MAX = 16
"""Shipment, order, tare, pack, item and the few others of element 735 need half of it."""
_PRODUCT_IDS = range(2, 31, 2)
"""LIN02 to LIN31 are pairs of qualifier and product id."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One HL loop."""

    segments: tuple[Segment, ...]

    @property
    def hl(self) -> Segment:
        return self.segments[0]

    @property
    def code(self) -> str:
        return self.hl[3]


_Hierarchy = Mapping[str, _Level]
"""HL01 → its loop, in the order of the file."""


def translate(document: Document) -> Iterator[Event]:
    bsn = only(document.segments, "BSN")
    purpose = bsn.code(1, _DISPATCHES | _VOIDS)
    shipment_id = key(bsn, 2)
    subject = shipment(shipment_id)
    if purpose in _VOIDS:
        voided = ShipmentVoided(reason="cancelled by the sender of the ship notice")
        yield document.event(shipment_id, subject, document.moment(bsn.date(3), bsn.time(4)), voided)
        return
    at = _left_at(document, bsn)
    hierarchy = _hierarchy(document.segments)
    items = tuple(_items(document, hierarchy))
    packed = tuple(_packages(hierarchy, items))
    if packed:
        yield document.event(shipment_id, subject, at, ShipmentPacked(packages=packed))
    dispatched = _dispatched(document, items, packed)
    yield document.event(shipment_id, subject, at, dispatched)
    yield from document.tracked(shipment_id, at, dispatched)


def _left_at(document: Document, bsn: Segment) -> datetime:
    shipped = first(document.segments, "DTM", _SHIPPED)
    day = bsn.date(3)
    if shipped is None:
        return document.moment(day, bsn.time(4))
    if shipped[3]:
        return document.told(shipped, 2, 3, 4)
    left_on = shipped.date(2)
    return document.moment(left_on, bsn.time(4) if left_on == day else None)


# --- hierarchy -------------------------------------------------------------------------------------------


def _hierarchy(segments: Sequence[Segment]) -> _Hierarchy:
    """Raises: RefusedSet naming the HL whose number is taken, or whose parents lead nowhere or around."""
    levels: dict[str, _Level] = {}
    for loop in loops(before(segments, "CTT"), "HL"):
        number = loop[0].text(1)
        if number in levels:
            raise loop[0].refuse(f"{number} is taken by another HL", 1)
        levels[number] = _Level(loop)
    if not levels:
        raise missing("HL")
    for level in levels.values():
        _check_ancestry(level, levels)
    return levels


def _check_ancestry(level: _Level, levels: _Hierarchy) -> None:
    depth = 0
    above: _Level | None = level
    while above is not None and above.hl[2]:
        if above.hl[2] not in levels:
            raise above.hl.refuse(f"there is no HL {above.hl[2]}", 2)
        if depth == _DEPTH_MAX:
            raise level.hl.refuse("the parents go round in a circle, or too deep", 2)
        above, depth = levels[above.hl[2]], depth + 1


def _above(level: _Level, levels: _Hierarchy, *codes: str) -> _Level | None:
    """The nearest ancestor of one of these kinds."""
    while level.hl[2]:
        level = levels[level.hl[2]]
        if level.code in codes:
            return level
    return None


# --- items, packages -------------------------------------------------------------------------------------


def _items(document: Document, levels: _Hierarchy) -> Iterator[tuple[_Level, ShipmentLine]]:
    running: dict[str, int] = {}
    one_unit = OneUnit()
    for level in levels.values():
        if level.code == _ITEM:
            order_id = _order(document, level, levels)
            running[order_id] = running.get(order_id, 0) + 1
            line = _line(document, level, order_id, running[order_id])
            _check_unit(one_unit, level, line)
            yield level, line


def _check_unit(one_unit: OneUnit, item: _Level, line: ShipmentLine) -> None:
    sn1 = only(item.segments, "SN1")
    one_unit.check(f"line {line.line_id} of {line.order_id}", sn1, 3)
    if line.quantity:
        one_unit.check(line.sku, sn1, 3)


def _order(document: Document, item: _Level, levels: _Hierarchy) -> str:
    above = _above(item, levels, _ORDER)
    if above is None:
        raise item.hl.refuse("no order (HL03 = O) above this item", 2)
    prf = first(above.segments, "PRF")
    if prf is None:
        raise above.hl.refuse("no PRF names the order")
    releases = document.listed("releases", RELEASES)
    is_release = prf[7] in releases if prf[7] else bool(releases)
    return document.order_id(prf, 1, 2 if is_release else 0)


def _line(document: Document, item: _Level, order_id: str, number: int) -> ShipmentLine:
    lin, sn1 = first(item.segments, "LIN"), first(item.segments, "SN1")
    if lin is None or sn1 is None:
        raise item.hl.refuse(f"no {'LIN' if lin is None else 'SN1'} in this item")
    return built(
        ShipmentLine,
        sn1,
        {"quantity": 2, "unit": 3},
        order_id=order_id,
        line_id=line_reference(item.segments) or lin[1] or sn1[1] or str(number),
        sku=document.sku(lin, lin.pairs(*_PRODUCT_IDS)),
        quantity=sn1.quantity(2),
        unit=unit(sn1[3]),
    )


def _packages(levels: _Hierarchy, items: Iterable[tuple[_Level, ShipmentLine]]) -> Iterator[Package]:
    contents: dict[str, list[ShipmentLine]] = {}
    for item, line in items:
        above = _above(item, levels, *_PACKAGES)
        if above is not None:
            contents.setdefault(above.hl[1], []).append(line)
    for number, level in levels.items():
        if level.code in _PACKAGES:
            yield from packages(level.segments, merged(contents.get(number, ())))


# --- dispatch --------------------------------------------------------------------------------------------


def _dispatched(
    document: Document, items: Iterable[tuple[_Level, ShipmentLine]], packed: Iterable[Package]
) -> ShipmentDispatched:
    lines = merged(line for _, line in items if line.quantity)
    if not lines:
        raise missing("SN1", "nothing was shipped: no item (HL03 = I) has a quantity")
    td5 = first(document.segments, "TD5")
    scac, service = (td5[3], td5[5] or None) if td5 is not None else ("", None)
    on_packages = (one.tracking_number for one in packed if one.tracking_number)
    numbers = dict.fromkeys((*tracking_numbers(document.segments), *on_packages))
    carrier = document.carrier(scac)
    if numbers and carrier is None:
        raise missing("TD5", "tracking numbers need a carrier: no TD503, and the connection sets no carrier")
    return ShipmentDispatched(
        location=document.location(document.segments, "SF"),
        lines=lines,
        carrier=carrier,
        service=service,
        tracking_numbers=tuple(numbers),
    )
