"""944 Warehouse Stock Transfer Receipt Advice → stock.received.

- The receipt is W1703, or else the depositor's order number W1704; it came on W1702, at W1707 where that is
  told, at N1*WH.
- What reports no goods that came (W1701: a shortage, a return, an adjustment, an exercise) is refused.
- Each W07 is goods received: quantity W0701, product ids W0704/05, W0706/07, W0710/11, case code W0703.
- Quantities of one SKU are added up, and refused where their units (W0702, W1302) differ.
- W13 takes from it what is damaged (W1303 = 01), which is received as such. Other exceptions are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from adapters.x12.document import END_OF_DAY, Document, OneUnit, case_code, key
from adapters.x12.segments import Segment, loops, missing, only
from canonical.envelope import Event
from canonical.facts.stock import StockReceived, StockStatus
from canonical.identity import stock
from canonical.money import ZERO

_RECEIPTS = frozenset(("F", "J", "N", "P"))
"""Element 514: full detail, original, no exceptions, production receipt."""
_DAMAGED = "01"
"""Element 412, receiving condition code."""


def translate(document: Document) -> Iterator[Event]:
    w17 = only(document.segments, "W17")
    receipt_id = key(w17, 3 if w17[3] else 4)
    if w17[1]:
        w17.code(1, _RECEIPTS)
    received_at = _received_at(document, w17)
    location = document.location(document.segments, "WH", "ST")
    received = loops(document.segments, "W07")
    if not received:
        raise missing("W07")
    for (sku, status), quantity in _totals(document, received).items():
        damaged = "/damaged" if status is StockStatus.DAMAGED else ""
        fact = StockReceived(receipt_id=f"{receipt_id}{damaged}", quantity=quantity, status=status)
        yield document.event(receipt_id, stock(sku, location), received_at, fact)


def _received_at(document: Document, w17: Segment) -> datetime:
    day = w17.date(2)
    return document.moment(day, w17.time(7)) if w17[7] else document.sent_on(day, END_OF_DAY)


def _totals(
    document: Document, received: Sequence[tuple[Segment, ...]]
) -> dict[tuple[str, StockStatus], Decimal]:
    totals: dict[tuple[str, StockStatus], Decimal] = {}
    one_unit = OneUnit()
    for loop in received:
        w07 = loop[0]
        sku = document.sku(w07, (*w07.pairs(4, 6, 10), *case_code(w07, 3)))
        one_unit.check(sku, w07, 2)
        damaged = _damaged(loop, sku, one_unit)
        if damaged > w07.quantity(1):
            raise w07.refuse(f"{damaged} are damaged of {w07.quantity(1)} received", 1)
        parts = {StockStatus.SELLABLE: w07.quantity(1) - damaged, StockStatus.DAMAGED: damaged}
        for status, quantity in parts.items():
            if quantity:
                totals[sku, status] = totals.get((sku, status), ZERO) + quantity
    return totals


def _damaged(loop: Sequence[Segment], sku: str, one_unit: OneUnit) -> Decimal:
    damaged = ZERO
    for w13 in loop:
        if w13.id == "W13":
            w13.code(3, (_DAMAGED,))
            if w13[2]:
                one_unit.check(sku, w13, 2)
            damaged += w13.quantity(1)
    return damaged
