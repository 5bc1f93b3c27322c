"""850 Purchase Order → order.placed, order.amended or order.cancelled, by BEG01.

- The order is BEG03; a release of a blanket order (BEG02 = RL, or as the setting ``releases`` says) is one of
  its own, BEG03 and BEG04: ``PO-77:3``. A confirmation, duplicate or re-submission of an order is that order.
- Estimates, quotes and information copies (`NO_ORDERS`) are refused: nothing is to be shipped for them.
- Lines are PO1 loops: PO101 (or the running number), quantity PO102, price PO104 per PO105, product ids from
  PO106 on. A price may stand in CTP03 instead; a line without any is refused unless PO105 is NC (no charge).
- Allowances and charges (SAC) and taxes (TXI) of a line change its discount and tax. Those of the heading or
  the summary are divided over the lines by value, but for charges, which are the order's freight.
- A cancel or a change happened when it was sent (GS04, GS05): BEG05 stays the date of the order.
- The revision of a change is its release number BEG04; of a release, or where there is none, the minute when
  it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType

from adapters.x12.document import END_OF_DAY, RELEASES, Document, built, identifier, unit
from adapters.x12.segments import MISSING, Segment, before, first, loops, missing, only
from canonical import money
from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.order import OrderAmended, OrderCancelled, OrderLine, OrderPlaced
from canonical.identity import order
from canonical.money import ZERO

PURPOSES = {
    "00": "placed",
    "06": "placed",
    "07": "placed",
    "15": "placed",
    "04": "amended",
    "05": "amended",
    "01": "cancelled",
    "03": "cancelled",
}
"""BEG01, transaction set purpose (element 353)."""

NO_ORDERS: Mapping[str, str] = MappingProxyType(
    {
        "BD": "bidding",
        "BE": "a blanket order with estimated quantities, no firm commitment",
        "BQ": "a budgetary quote",
        "IN": "an information copy",
    }
)
"""BEG02, purchase order type (element 92)."""

_PROMISED = ("002", "010")
"""Element 374 in DTM01: delivery requested, requested ship."""
_PRICE_PER = {"HP": 2, "LC": 2, "QH": 2, "TC": 2, "TP": 3, "LM": 3, "QS": 3, "TM": 3}
"""Element 639 in PO105: prices per hundred and per thousand, as powers of ten; every other is per unit."""
_PER_DOZEN = frozenset(("PD", "LD", "TD", "RD", "WD"))
_DOZEN = "DZ"
_NO_CHARGE = "NC"
_PRICES = frozenset(("", "UCP", "CON", "CUP", "ACT"))
"""Element 236 in CTP02: what the buyer pays; retail and suggested prices are not meant."""
_TAX_CODES = frozenset(("H630", "H650", "H660", "H700", "H730", "H740", "H750", "H770", "H850"))
"""Element 1300 in SAC02: sales, use, local, state and excise taxes."""
_ALLOWANCE, _CHARGE = "A", "C"
_PRODUCT_IDS = range(6, 25, 2)
"""PO106 to PO125 are pairs of qualifier and product id."""


def translate(document: Document) -> Iterator[Event]:
    beg = only(document.segments, "BEG")
    purpose = PURPOSES[beg.code(1, PURPOSES)]
    _check_type(document, beg)
    order_id = document.order_id(beg, 3, 4 if _is_release(document, beg) else 0)
    placed_at = document.sent_on(beg.date(5))
    if purpose == "placed":
        yield document.event(order_id, order(order_id), placed_at, _placed(document, beg))
    elif purpose == "amended":
        yield document.event(order_id, order(order_id), document.sent_at(), _amended(document, beg))
    else:
        fact = OrderCancelled(cancel_id=f"850/{order_id}", reason="cancelled by the buyer")
        yield document.event(order_id, order(order_id), document.sent_at(), fact)


def _check_type(document: Document, beg: Segment) -> None:
    meaning = NO_ORDERS.get(beg[2])
    if meaning is not None and beg[2] not in document.listed("order_types"):
        raise beg.refuse(f"says {beg[2]!r}, {meaning}: no order, unless the setting order_types names it", 2)


def _is_release(document: Document, beg: Segment) -> bool:
    return beg[2] in document.listed("releases", RELEASES)


def _placed(document: Document, beg: Segment) -> Fact:
    lines, freight = _priced(document)
    return built(
        OrderPlaced,
        beg,
        {"reference": 3},
        customer_id=_customer(document),
        currency=document.currency(),
        lines=lines,
        freight=freight,
        company=document.company,
        reference=beg[3],
        promised_by=_promised_by(document),
    )


def _amended(document: Document, beg: Segment) -> Fact:
    lines, freight = _priced(document)
    return built(
        OrderAmended, beg, {"revision": 4}, revision=_revision(document, beg), lines=lines, freight=freight
    )


def _revision(document: Document, beg: Segment) -> int:
    release = "" if _is_release(document, beg) else beg[4]
    if release.isascii() and release.isdigit() and len(release) < 10:
        return int(release)
    return int(document.sent_at().strftime("%Y%m%d%H%M"))


def _customer(document: Document) -> str | None:
    party = first(before(document.segments, "PO1"), "N1", "BY", "ST")
    return identifier(party[4], party, 4) if party is not None and party[4] else None


def _promised_by(document: Document) -> object:
    """The end of the day where no time is given: what comes during the day is not late."""
    dtm = first(before(document.segments, "PO1"), "DTM", *_PROMISED)
    return document.told(dtm, 2, 3, 4, END_OF_DAY) if dtm is not None else None


# --- lines -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Extras:
    """Money beside the price. A charge on a line lowers its discount."""

    discount: Decimal = ZERO
    charge: Decimal = ZERO
    tax: Decimal = ZERO


def _priced(document: Document) -> tuple[tuple[OrderLine, ...], Decimal]:
    """The lines with their share of all that is told of the whole order, and the freight."""
    heading, details, summary = _parts(document.segments)
    lines = tuple(_line(document, loop, number) for number, loop in enumerate(details, start=1))
    if not lines:
        raise missing("PO1")
    whole = _extras((*heading, *summary))
    return _shared(lines, whole, document.currency()), whole.charge


def _parts(
    segments: Sequence[Segment],
) -> tuple[Sequence[Segment], list[tuple[Segment, ...]], Sequence[Segment]]:
    """Heading, PO1 loops, and the summary, which begins with CTT."""
    heading = before(segments, "PO1")
    rest = segments[len(heading) :]
    detail = before(rest, "CTT")
    return heading, loops(detail, "PO1"), rest[len(detail) :]


def _line(document: Document, loop: Sequence[Segment], number: int) -> OrderLine:
    po1 = loop[0]
    extras = _extras(loop)
    return built(
        OrderLine,
        po1,
        {"line_id": 1, "quantity": 2, "unit": 3, "unit_price": 4},
        line_id=po1[1] or str(number),
        sku=document.sku(po1, po1.pairs(*_PRODUCT_IDS)),
        quantity=po1.quantity(2),
        unit=unit(po1[3]),
        unit_price=_price(loop),
        discount=extras.discount - extras.charge,
        tax=extras.tax,
        title=_title(loop),
    )


def _price(loop: Sequence[Segment]) -> Decimal:
    po1 = loop[0]
    if po1[5] in _PER_DOZEN and po1[3] != _DOZEN:
        raise po1.refuse(f"a price per dozen for a quantity in {po1[3] or 'each'}", 5)
    if po1[4]:
        return po1.number(4).scaleb(-_PRICE_PER.get(po1[5], 0))
    if po1[5] == _NO_CHARGE:
        return ZERO
    for ctp in loop:
        if ctp.id == "CTP" and ctp[2] in _PRICES and ctp[3]:
            return ctp.number(3)
    raise po1.refuse("missing, and no CTP gives a price", 4, MISSING)


def _title(loop: Sequence[Segment]) -> str | None:
    described = first(loop, "PID")
    return (described[5] or None) if described is not None else None


# --- allowances, charges, taxes --------------------------------------------------------------------------


def _extras(segments: Sequence[Segment]) -> _Extras:
    discount, charge, tax = ZERO, ZERO, ZERO
    for segment in segments:
        if segment.id == "TXI":
            tax += _tax(segment)
        elif segment.id == "SAC" and segment[1] == _ALLOWANCE:
            discount += segment.cents(5)
        elif segment.id == "SAC" and segment[1] == _CHARGE:
            if segment[2] in _TAX_CODES:
                tax += segment.cents(5)
            else:
                charge += segment.cents(5)
    return _Extras(discount, charge, tax)


def _tax(txi: Segment) -> Decimal:
    """Without an amount "the application of the percent is between trading partners" (TXI, semantic note)."""
    return ZERO if txi[6] and not txi[2] and not txi[3] else txi.number(2)


def _shared(lines: Sequence[OrderLine], whole: _Extras, currency: str) -> tuple[OrderLine, ...]:
    if not whole.discount and not whole.tax:
        return tuple(lines)
    worth = [max(line.quantity * line.unit_price - line.discount, ZERO) for line in lines]
    weights = worth if any(worth) else [Decimal(1)] * len(lines)
    discounts = money.apportion(whole.discount, weights, currency)
    taxes = money.apportion(whole.tax, weights, currency)
    return tuple(
        replace(line, discount=line.discount + less, tax=line.tax + tax)
        for line, less, tax in zip(lines, discounts, taxes, strict=True)
    )
