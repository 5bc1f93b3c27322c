"""214 Transportation Carrier Shipment Status Message → tracking.scanned.

- The carrier is B1003, the tracking number B1001: the carrier's own (PRO) number. Statuses in an LX loop
  whose L11 names tracking numbers (L1102 = CN or 2I) are of those instead. B1002, the shipper's number, is
  not read: which shipment a number carries is told by what dispatched it.
- Each AT7 is one scan, with or without an LX before it: status AT701, on AT705 at AT706. Its message is what
  the status means, and the reason AT702 where that is not NS, normal.
- `STATUSES` says which milestone a status is. `SKIPPED` are those that are none: estimates, which tell of the
  future, and a carrier that left the consignee, with or without the goods. Appointments (AT703) are none
  either. Any other code is refused.
- AT707 is the time zone (see `zones`). Local time (LT), and none, is the zone of the connection.
- The place is city, state and country of the MS1 that follows: MS101, MS102, MS103.
- Who signed is G86 in the same LX loop: the name G8602, or the signature G8601 where none is keyed. It goes
  with a delivery only.
- A status of one carton (AT7 after CD3) is refused: it must not be taken for the whole shipment's.

AT7 is read as it is from release 004010 on; before, AT706 was the century, which is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from adapters.x12.document import TRACKING_NUMBER, Document, built, identifier, key
from adapters.x12.segments import MISSING, Segment, before, first, loops, missing, only
from canonical.envelope import Event
from canonical.facts.tracking import Milestone, TrackingScanned
from canonical.identity import tracking

STATUSES: Mapping[str, tuple[Milestone, str]] = MappingProxyType(
    {
        "CL": (Milestone.PRE_TRANSIT, "Trailer closed out"),
        "CP": (Milestone.PRE_TRANSIT, "Completed loading at pick-up location"),
        "L1": (Milestone.PRE_TRANSIT, "Loading"),
        "OO": (Milestone.PRE_TRANSIT, "Paperwork received without the shipment"),
        "X3": (Milestone.PRE_TRANSIT, "Arrived at pick-up location"),
        "X8": (Milestone.PRE_TRANSIT, "Arrived at pick-up location loading dock"),
        "XB": (Milestone.PRE_TRANSIT, "Shipment acknowledged"),
        "AF": (Milestone.IN_TRANSIT, "Departed pick-up location with shipment"),
        "AM": (Milestone.IN_TRANSIT, "Loaded on truck"),
        "AN": (Milestone.IN_TRANSIT, "Diverted to air carrier"),
        "AR": (Milestone.IN_TRANSIT, "Arrived at destination rail ramp"),
        "AV": (Milestone.IN_TRANSIT, "Available for delivery"),
        "BA": (Milestone.IN_TRANSIT, "Picked up by connecting line or cartage"),
        "BC": (Milestone.IN_TRANSIT, "Stored in transit"),
        "I1": (Milestone.IN_TRANSIT, "In-gate"),
        "J1": (Milestone.IN_TRANSIT, "Delivered to connecting line"),
        "K1": (Milestone.IN_TRANSIT, "Arrived at customs"),
        "OA": (Milestone.IN_TRANSIT, "Out-gate"),
        "P1": (Milestone.IN_TRANSIT, "Departed terminal"),
        "R1": (Milestone.IN_TRANSIT, "Received from prior carrier"),
        "RL": (Milestone.IN_TRANSIT, "Departed origin rail ramp"),
        "X4": (Milestone.IN_TRANSIT, "Arrived at terminal"),
        "X6": (Milestone.IN_TRANSIT, "En route to delivery location"),
        "AJ": (Milestone.OUT_FOR_DELIVERY, "Tendered for delivery"),
        "S1": (Milestone.OUT_FOR_DELIVERY, "Trailer spotted at consignee"),
        "X1": (Milestone.OUT_FOR_DELIVERY, "Arrived at delivery location"),
        "X5": (Milestone.OUT_FOR_DELIVERY, "Arrived at delivery location loading dock"),
        "D1": (Milestone.DELIVERED, "Completed unloading at delivery location"),
        "PR": (Milestone.DELAYED, "Held by customs at in-bond location"),
        "SD": (Milestone.DELAYED, "Shipment delayed"),
        "A7": (Milestone.EXCEPTION, "Refused by consignee"),
        "A9": (Milestone.EXCEPTION, "Shipment damaged"),
        "AH": (Milestone.EXCEPTION, "Delivery attempted"),
        "AI": (Milestone.EXCEPTION, "Shipment reconsigned"),
        "AP": (Milestone.EXCEPTION, "Delivery not completed"),
        "CA": (Milestone.EXCEPTION, "Shipment cancelled"),
        "A3": (Milestone.RETURN_TO_SENDER, "Shipment returned to shipper"),
    }
)
"""Element 1650, by milestone. Goods on a trailer that has not left are not on their way yet."""
SKIPPED = frozenset(("AG", "B6", "C1", "CD", "X2"))
"""Element 1650: estimated delivery, arrival at terminal and departure from it; departed delivery location;
estimated arrival at consignee."""

_NORMAL = "NS"
"""Element 1651."""


def translate(document: Document) -> Iterator[Event]:
    b10 = only(document.segments, "B10")
    number = key(b10, 1)
    carrier = document.carrier(b10[3])
    if carrier is None:
        raise b10.refuse("missing, and the connection sets no carrier", 3, MISSING)
    if first(document.segments, "AT7") is None:
        raise missing("AT7")
    for loop in (before(document.segments, "LX"), *loops(document.segments, "LX")):
        for at, fact in _scans(document, loop):
            for one in _numbers(loop) or (number,):
                yield document.event(number, tracking(carrier, one), at, fact)


def _numbers(loop: Sequence[Segment]) -> tuple[str, ...]:
    """Tracking numbers that an LX loop has of its own, each once; in an L11 the qualifier stands second."""
    if not loop or loop[0].id != "LX":
        return ()
    found = {
        identifier(l11.text(1), l11, 1): None for l11 in loop if l11.id == "L11" and l11[2] in TRACKING_NUMBER
    }
    return tuple(found)


def _scans(document: Document, loop: Sequence[Segment]) -> Iterator[tuple[datetime, TrackingScanned]]:
    shipment = before(loop, "CD3")
    carton = first(loop[len(shipment) :], "AT7")
    if carton is not None:
        raise carton.refuse("a status of one carton (CD3) is not read")
    signed_by = _signed_by(shipment)
    for one in loops(shipment, "AT7"):
        if _is_scan(one[0]):
            yield document.told(one[0], 5, 6, 7), _scanned(one, signed_by)


def _is_scan(at7: Segment) -> bool:
    if at7[3] and not at7[1]:
        return False
    return at7.code(1, STATUSES.keys() | SKIPPED) in STATUSES


def _scanned(loop: Sequence[Segment], signed_by: str | None) -> TrackingScanned:
    at7 = loop[0]
    milestone, meaning = STATUSES[at7[1]]
    return built(
        TrackingScanned,
        at7,
        {},
        milestone=milestone,
        message=f"{meaning}, reason {at7[2]}" if at7[2] not in ("", _NORMAL) else meaning,
        place=_place(first(loop, "MS1")),
        signed_by=signed_by if milestone is Milestone.DELIVERED else None,
    )


def _place(ms1: Segment | None) -> str | None:
    parts = (ms1[1], ms1[2], ms1[3]) if ms1 is not None else ()
    return ", ".join(part for part in parts if part) or None


def _signed_by(loop: Sequence[Segment]) -> str | None:
    g86 = first(loop, "G86")
    return (g86[2] or g86[1] or None) if g86 is not None else None
