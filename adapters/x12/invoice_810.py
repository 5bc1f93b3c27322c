"""810 Invoice → tracking.carrier-billed, where it charges freight for a tracking number.

Purchases are the ERP's own business, so an invoice for goods says nothing that a twin takes. What it charges
as freight (SAC*C*D240) for a shipment whose carrier (CAD04) and tracking numbers (REF*CN, REF*2I, or CAD07
and CAD08) it names is a carrier's bill, divided equally over the numbers. The bill is BIG02, dated BIG01.
Freight that is given back (BIG07: a credit memo or invoice) or whose invoice is cancelled (BIG08) is
refused: no fact takes a bill back, and read as a bill it would be matched a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from adapters.x12.document import TRACKING_NUMBER, Document, identifier, key, tracking_numbers
from adapters.x12.segments import Segment, first, only
from canonical import money
from canonical.envelope import Event
from canonical.facts.tracking import CarrierBilled
from canonical.identity import tracking
from canonical.money import ZERO

_CHARGE, _FREIGHT = "C", "D240"
"""Elements 248 in SAC01 and 1300 in SAC02."""

_CREDITS = frozenset(("CC", "CE", "CG", "CN", "CR"))
"""Element 640 in BIG07: credits for commissions, consolidated ones, credit invoice, credit memo."""
_CANCELS = frozenset(("01", "03"))
"""Element 353 in BIG08: cancellation, delete."""


def translate(document: Document) -> Iterator[Event]:
    big = only(document.segments, "BIG")
    bill_id = key(big, 2)
    billed_at = document.moment(big.date(1))
    cad = first(document.segments, "CAD")
    numbers = _numbers(document.segments, cad)
    carrier = document.carrier(cad[4] if cad is not None else "")
    charges = _freight(document.segments)
    if not (numbers and carrier and charges):
        return
    for element, codes in ((7, _CREDITS), (8, _CANCELS)):
        if big[element] in codes:
            raise big.refuse(f"says {big[element]!r}: freight that is given back is not read", element)
    currency = document.currency()
    amounts = money.apportion(charges, [Decimal(1)] * len(numbers), currency)
    for number, amount in zip(numbers, amounts, strict=True):
        fact = CarrierBilled(bill_id=bill_id, amount=amount, currency=currency)
        yield document.event(bill_id, tracking(carrier, number), billed_at, fact)


def _numbers(segments: Sequence[Segment], cad: Segment | None) -> tuple[str, ...]:
    found = dict.fromkeys(tracking_numbers(segments))
    if cad is not None and cad[7] in TRACKING_NUMBER and cad[8]:
        found[identifier(cad[8], cad, 8)] = None
    return tuple(found)


def _freight(segments: Sequence[Segment]) -> Decimal:
    charges = (one for one in segments if (one.id, one[1], one[2]) == ("SAC", _CHARGE, _FREIGHT))
    return sum((charge.cents(5) for charge in charges), ZERO)
