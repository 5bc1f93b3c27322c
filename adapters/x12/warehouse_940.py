"""940 Warehouse Shipping Order → order.released and shipment.created, or order.cancel-requested.

- The order is W0502. The shipment, and so the release, is the master reference W0505, or else W0502: sent
  again with other quantities it replaces them.
- Lines are LX loops: the order line N9*LI, or else LX01; quantity W0101; product ids W0104/05, W0106/07,
  W0115/16, and the U.P.C. case code W0103.
- Quantities of one order line are added up, and refused where their units (W0102) differ.
- A cancel (W0501 = F or D) is a request: the warehouse answers. With lines it asks for those alone.
- The set has no time of its own: it happened when its group was made (GS04, GS05).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from hashlib import sha256

from adapters.x12.document import Document, OneUnit, built, case_code, key, line_reference, unit
from adapters.x12.segments import Segment, before, loops, missing, only
from canonical.envelope import Event
from canonical.facts.order import CancelledLine, OrderCancelRequested, OrderReleased, ReleasedLine
from canonical.facts.shipment import ShipmentCreated, ShipmentLine
from canonical.identity import order, shipment
from canonical.money import ZERO

_RELEASES = frozenset(("N", "B", "S", "T", "R", "L"))
"""Element 473: original, backorder original, future dated, resubmission, change, line item replace."""
_CANCELS = frozenset(("F", "D"))
_ELEMENTS = {"line_id": 1, "quantity": 1, "unit": 2}


def translate(document: Document) -> Iterator[Event]:
    w05 = only(document.segments, "W05")
    status = w05.code(1, _RELEASES | _CANCELS)
    order_id = document.order_id(w05, 2)
    shipment_id = key(w05, 5) if w05[5] else order_id
    at = document.sent_at()
    lines = tuple(_lines(document, order_id))
    if status in _CANCELS:
        fact = OrderCancelRequested(request_id=_request_id(shipment_id, lines), lines=_cancelled(lines))
        yield document.event(shipment_id, order(order_id), at, fact)
        return
    if not lines:
        raise missing("W01")
    location = document.location(before(document.segments, "LX"), "WH", "SF")
    released = OrderReleased(release_id=shipment_id, location=location, lines=_released(lines))
    yield document.event(shipment_id, order(order_id), at, released)
    created = ShipmentCreated(location=location, lines=lines)
    yield document.event(shipment_id, shipment(shipment_id), at, created)


def _request_id(shipment_id: str, lines: Sequence[ShipmentLine]) -> str:
    """Each request for other lines is one of its own, to be answered by itself."""
    if not lines:
        return f"940/{shipment_id}"
    named = "\n".join(f"{line} {total}" for line, total in _totals(lines).items())
    return f"940/{shipment_id}/{sha256(named.encode()).hexdigest()[:8]}"


def _lines(document: Document, order_id: str) -> Iterator[ShipmentLine]:
    one_unit = OneUnit()
    for lx in loops(document.segments, "LX"):
        for loop in loops(lx, "W01"):
            line = _line(document, order_id, lx[0], loop)
            one_unit.check(f"line {line.line_id} of {order_id}", loop[0], 2)
            yield line


def _line(document: Document, order_id: str, lx: Segment, loop: Sequence[Segment]) -> ShipmentLine:
    w01 = loop[0]
    return built(
        ShipmentLine,
        w01,
        _ELEMENTS,
        order_id=order_id,
        line_id=line_reference(loop) or lx.text(1),
        sku=document.sku(w01, (*w01.pairs(4, 6, 15), *case_code(w01, 3))),
        quantity=w01.quantity(1),
        unit=unit(w01[2]),
    )


def _totals(lines: Sequence[ShipmentLine]) -> dict[str, Decimal]:
    totals: dict[str, Decimal] = {}
    for line in lines:
        totals[line.line_id] = totals.get(line.line_id, ZERO) + line.quantity
    return totals


def _released(lines: Sequence[ShipmentLine]) -> tuple[ReleasedLine, ...]:
    return tuple(ReleasedLine(line_id=line, quantity=total) for line, total in _totals(lines).items())


def _cancelled(lines: Sequence[ShipmentLine]) -> tuple[CancelledLine, ...] | None:
    totals = _totals(lines).items()
    return tuple(CancelledLine(line_id=line, quantity=total) for line, total in totals) or None
