"""The documents of Tryton that a posting becomes, besides the journal entry. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from adapters.tryton.models import Company, Party, Place, Product, Zone
from adapters.tryton.papers import INTERNAL, INVOICE, ISSUE, KEY_FIELD, RECEIPT
from canonical.money import ZERO, rounded
from canonical.postings import (
    Account,
    InvoiceLine,
    PostCreditNote,
    PostGoodsIssue,
    Posting,
    PostInvoice,
    PostReturnReceipt,
    PostStockAdjustment,
    PostTransfer,
)

PRICE = Decimal("0.0001")
"""What Tryton keeps a price of one piece at; what that leaves over is a line of its own."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to be made."""

    model: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """What of Tryton's master data a posting names."""

    skus: frozenset[str] = frozenset()
    zones: frozenset[Zone] = frozenset()


@dataclass(frozen=True, slots=True)
class Ids:
    """What they are to Tryton. *linked*: SKU → the stock moves whose goods are invoiced or credited."""

    company: Company
    party: Party
    products: Mapping[str, Product] = field(default_factory=dict)
    places: Mapping[Zone, Place] = field(default_factory=dict)
    linked: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above every document of one command. *sign*: -1 for a reversal."""

    key: str
    event_date: date
    posting_date: date
    sign: int = 1


@dataclass(frozen=True, slots=True)
class _Goods:
    sku: str
    zone: Zone
    quantity: Decimal


def names(posting: Posting) -> Names:
    match posting:
        case PostInvoice(lines=lines):
            return Names(frozenset(line.sku for line in lines))
        case PostCreditNote(sku=sku):
            return Names(frozenset((sku,)))
        case _:
            goods = _goods(posting)
            return Names(frozenset(one.sku for one in goods), frozenset(one.zone for one in goods))


def drafts(posting: Posting, heading: Heading, ids: Ids) -> tuple[Draft, ...]:
    """The documents besides the journal entry, in an order that depends on the posting alone."""
    match posting:
        case PostGoodsIssue() | PostReturnReceipt():
            leaves = isinstance(posting, PostGoodsIssue) == (heading.sign > 0)
            return tuple(_shipment(leaves, zone, goods, heading, ids) for zone, goods in _by_zone(posting))
        case PostStockAdjustment() | PostTransfer():
            return tuple(_internal(posting, one, heading, ids) for one in _goods(posting) if one.quantity)
        case PostInvoice() | PostCreditNote():
            return (_invoice(posting, heading, ids),)
        case _:
            return ()


# --- goods


def _goods(posting: Posting) -> tuple[_Goods, ...]:
    """What moves. Scrapped goods never enter the stock again: only their value is booked."""
    match posting:
        case PostGoodsIssue(lines=lines):
            return tuple(_Goods(line.sku, (line.location, True), line.quantity) for line in lines)
        case PostReturnReceipt(sku=sku, goods=goods):
            return tuple(
                _Goods(part.sku or sku, (part.location, part.disposition == "sellable"), part.quantity)
                for part in goods
                if part.disposition != "scrap"
            )
        case PostStockAdjustment():
            zone = posting.location, posting.status == "sellable"
            return (_Goods(posting.sku, zone, posting.delta),)
        case PostTransfer():
            return (_Goods(posting.sku, (posting.location, True), posting.quantity),)
        case _:
            return ()


def _by_zone(posting: Posting) -> list[tuple[Zone, list[_Goods]]]:
    found: dict[Zone, list[_Goods]] = {}
    for one in _goods(posting):
        if one.quantity:
            found.setdefault(one.zone, []).append(one)
    return sorted(found.items())


def _shipment(leaves: bool, zone: Zone, goods: Iterable[_Goods], heading: Heading, ids: Ids) -> Draft:
    """Goods on their way to or from a customer, with no stop between the shelf and the door."""
    place, customer = ids.places[zone], ids.party.customer_location
    door = "output" if leaves else "input"
    priced = {"unit_price": ZERO, "currency": ids.company.currency}
    from_, to = (place.storage, customer) if leaves else (customer, place.storage)
    values = {
        "customer": ids.party.id,
        "delivery_address" if leaves else "contact_address": ids.party.address,
        "warehouse": place.warehouse,
        "warehouse_storage": place.storage,
        f"warehouse_{door}": place.storage,
        "moves": [["create", [_move(one, from_, to, heading, ids) | priced for one in goods]]],
    }
    return Draft(ISSUE if leaves else RECEIPT, values | _dated(ISSUE, heading, ids))


def _internal(
    posting: PostStockAdjustment | PostTransfer, goods: _Goods, heading: Heading, ids: Ids
) -> Draft:
    """Between a shelf and lost and found, or a shelf and the transit location."""
    arrives = goods.quantity > 0 if isinstance(posting, PostStockAdjustment) else posting.leg == "in"
    adjusts = isinstance(posting, PostStockAdjustment)
    beyond = ids.company.lost_and_found if adjusts else ids.company.transit
    shelf = ids.places[goods.zone].storage
    from_, to = (beyond, shelf) if arrives == (heading.sign > 0) else (shelf, beyond)
    moves = [_move(goods, from_, to, heading, ids)]
    values = {"from_location": from_, "to_location": to, "moves": [["create", moves]]}
    return Draft(INTERNAL, values | _dated(INTERNAL, heading, ids))


def _move(goods: _Goods, from_: int, to: int, heading: Heading, ids: Ids) -> dict[str, Any]:
    product = ids.products[goods.sku]
    return {
        "product": product.id,
        "unit": product.unit,
        "quantity": float(abs(goods.quantity)),
        "from_location": from_,
        "to_location": to,
        "company": ids.company.id,
        "effective_date": heading.posting_date,
        "planned_date": heading.event_date,
    }


def _dated(model: str, heading: Heading, ids: Ids) -> dict[str, Any]:
    values = {
        "company": ids.company.id,
        KEY_FIELD[model]: heading.key,
        "planned_date": heading.event_date,
        "effective_date": heading.posting_date,
    }
    if model == INTERNAL:
        values |= {"planned_start_date": heading.event_date, "effective_start_date": heading.posting_date}
    return values


# --- invoices


def _invoice(posting: PostInvoice | PostCreditNote, heading: Heading, ids: Ids) -> Draft:
    """Taxes are ours, to the cent, and therefore manual; a credit note is an invoice of what is negative.

    It bears the day on which Tryton issues it, since numbers must ascend with that day, and facts come late;
    it is booked on the posting date.
    """
    lines, freight, tax = _billed(posting)
    accounts, currency = ids.company.accounts, posting.currency
    made = [
        one
        for line in lines
        for one in _invoice_lines(line, currency, heading.sign, ids, accounts[Account.REVENUE])
    ]
    if freight:
        made.append(_amount("Freight", heading.sign * freight, accounts[Account.FREIGHT_INCOME]))
    base = sum((line.net for line in lines), freight)
    values: dict[str, Any] = {
        "company": ids.company.id,
        "type": "out",
        "party": ids.party.id,
        "invoice_address": ids.party.address,
        "account": accounts[Account.RECEIVABLE],
        "currency": ids.company.currency,
        "journal": ids.company.revenue_journal,
        "reference": heading.key,
        "description": f"order {posting.order_id}, of {heading.event_date}",
        "accounting_date": heading.posting_date,
        "lines": [["create", made]],
    }
    if tax:
        taxed = {"base": heading.sign * base, "amount": heading.sign * tax, "account": accounts[Account.TAX]}
        values["taxes"] = [["create", [{"manual": True, "description": "Tax as ordered", **taxed}]]]
    return Draft(INVOICE, values)


def _billed(posting: PostInvoice | PostCreditNote) -> tuple[tuple[InvoiceLine, ...], Decimal, Decimal]:
    """Lines, freight and all tax, with the signs of an invoice."""
    match posting:
        case PostInvoice(lines=lines):
            tax = sum((line.tax for line in lines), posting.freight_tax)
            return lines, posting.freight, tax
        case PostCreditNote():
            line = InvoiceLine(
                posting.line_id, posting.sku, -posting.quantity, -posting.net, -posting.tax, posting.cost
            )
            return (line,), ZERO, -posting.tax


def _invoice_lines(
    line: InvoiceLine, currency: str, sign: int, ids: Ids, account: int
) -> Iterable[dict[str, Any]]:
    """The goods; and what their price of one piece leaves over, where it has no end."""
    product, each = ids.products[line.sku], _each(line.net, line.quantity)
    yield {
        "type": "line",
        "product": product.id,
        "unit": product.unit,
        "quantity": float(sign * line.quantity),
        "unit_price": each,
        "account": account,
        "description": f"line {line.line_id}: {line.sku}",
        "stock_moves": [["add", list(ids.linked.get(line.sku, ()))]],
    }
    if left := line.net - rounded(each * line.quantity, currency):
        yield _amount(f"line {line.line_id}: rounding", sign * left, account)


def _amount(what: str, amount: Decimal, account: int) -> dict[str, Any]:
    return {
        "type": "line",
        "quantity": 1.0 if amount >= 0 else -1.0,
        "unit_price": abs(amount),
        "account": account,
        "description": what,
    }


def _each(amount: Decimal, quantity: Decimal) -> Decimal:
    return (amount / quantity).quantize(PRICE) if quantity else ZERO
