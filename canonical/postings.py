"""What the ERP is asked to hold: one document a posting key, and the entries each one makes.

A posting is *content*: two with equal content are the same document. Which events justify it, and which
documents must be confirmed before it, travel with it and are not part of its content.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from msgspec import Struct
from pydantic import Field, TypeAdapter

from canonical.identity import EventId, PostingKey, TwinRef, order, shipment, stock
from canonical.money import ZERO


class Account(StrEnum):
    """Roles of accounts; each ERP instance maps them to its own chart."""

    RECEIVABLE = "receivable"
    PAYABLE = "payable"
    CASH_CLEARING = "cash-clearing"
    REVENUE = "revenue"
    FREIGHT_INCOME = "freight-income"
    TAX = "tax"
    INVENTORY = "inventory"
    QUARANTINE = "quarantine-inventory"
    SCRAP = "scrap"
    IN_TRANSIT = "in-transit"
    VARIANCE = "inventory-variance"
    COST_INTERIM = "cost-interim"
    RETURN_INTERIM = "return-interim"
    COST_OF_GOODS = "cost-of-goods"
    FREIGHT_EXPENSE = "freight-expense"
    ACCRUED_FREIGHT = "accrued-freight"


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a double entry; exactly one of the two amounts is above zero."""

    account: Account
    debit: Decimal
    credit: Decimal


@dataclass(frozen=True, slots=True)
class GoodsLine:
    """Goods that move. *cost* is for the whole line; None: the ERP values it by its own method."""

    line_id: str
    sku: str
    location: str
    quantity: Decimal
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    line_id: str
    sku: str
    quantity: Decimal
    net: Decimal
    tax: Decimal
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    key: PostingKey
    event_date: date
    company: str
    currency: str
    justified_by: tuple[EventId, ...] = field(default=(), compare=False)
    requires: tuple[PostingKey, ...] = field(default=(), compare=False)
    """Documents that must be confirmed before this one is sent, and reversed only after this one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock(_Base):
    command: Literal["reserve-stock"] = "reserve-stock"
    order_id: str
    line_id: str
    sku: str
    location: str
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PostGoodsIssue(_Base):
    command: Literal["goods-issue"] = "goods-issue"
    shipment_id: str
    lines: tuple[GoodsLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostInvoice(_Base):
    command: Literal["invoice"] = "invoice"
    order_id: str
    shipment_id: str
    customer_id: str | None
    lines: tuple[InvoiceLine, ...]
    freight: Decimal
    freight_tax: Decimal
    goods_issue_digest: str
    """Content hash of the goods issue it follows: when that is re-posted, so is the invoice."""

    @property
    def total(self) -> Decimal:
        return sum((line.net + line.tax for line in self.lines), ZERO) + self.freight + self.freight_tax


@dataclass(frozen=True, slots=True, kw_only=True)
class AccrueFreight(_Base):
    command: Literal["freight-accrual"] = "freight-accrual"
    shipment_id: str
    carrier: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchCarrierBill(_Base):
    """*accrued* is what of the shipment's accrual it clears; the difference to *amount* is freight expense.

    Together the bills of a shipment clear what was accrued, whatever they come to.
    """

    command: Literal["carrier-bill"] = "carrier-bill"
    shipment_id: str
    bill_id: str
    carrier: str
    amount: Decimal
    accrued: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedGoods:
    location: str
    disposition: str
    quantity: Decimal
    cost: Decimal | None
    sku: str | None = None
    """Where it is another than the receipt's: of a line of which more than one shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostReturnReceipt(_Base):
    command: Literal["return-receipt"] = "return-receipt"
    order_id: str
    return_id: str
    line_id: str
    sku: str
    goods: tuple[ReturnedGoods, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostCreditNote(_Base):
    command: Literal["credit-note"] = "credit-note"
    order_id: str
    return_id: str
    line_id: str
    customer_id: str | None
    sku: str
    quantity: Decimal
    net: Decimal
    tax: Decimal
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostStockAdjustment(_Base):
    command: Literal["stock-adjustment"] = "stock-adjustment"
    sku: str
    location: str
    status: str
    delta: Decimal
    cost: Decimal | None
    """Value of *delta*, with its sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostTransfer(_Base):
    command: Literal["transfer"] = "transfer"
    transfer_id: str
    leg: Literal["out", "in"]
    sku: str
    location: str
    quantity: Decimal
    cost: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPayment(_Base):
    command: Literal["payment"] = "payment"
    order_id: str
    payment_id: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PostRefund(_Base):
    command: Literal["refund"] = "refund"
    order_id: str
    refund_id: str
    amount: Decimal


Posting = (
    ReserveStock
    | PostGoodsIssue
    | PostInvoice
    | AccrueFreight
    | MatchCarrierBill
    | PostReturnReceipt
    | PostCreditNote
    | PostStockAdjustment
    | PostTransfer
    | PostPayment
    | PostRefund
)
POSTING: TypeAdapter[Posting] = TypeAdapter(Annotated[Posting, Field(discriminator="command")])


def owner(posting: Posting) -> TwinRef:
    """The twin that wants it, and is to hear what the ERP answers."""
    match posting:
        case PostGoodsIssue() | AccrueFreight() | MatchCarrierBill():
            return shipment(posting.shipment_id)
        case PostStockAdjustment() | PostTransfer():
            return stock(posting.sku, posting.location)
        case _:
            return order(posting.order_id)


class Action(StrEnum):
    POST = "post"
    REVERSE = "reverse"


class Command(Struct, frozen=True, gc=False):
    """One thing to tell an ERP. Its idempotency key is ``posting key @ version`` and the action."""

    SEPARATOR: ClassVar[str] = "@"

    action: Action
    version: int
    posting: Posting
    """For a reversal: the very posting that is mirrored."""
    again: int = 0
    """How often a refused reversal has been sent again by hand; a refused post gets a new version instead."""

    @property
    def key(self) -> PostingKey:
        return self.posting.key

    @property
    def idempotency_key(self) -> str:
        suffix = "" if self.action is Action.POST else "/reverse"
        telling = f"/{self.again}" if self.again else ""
        return f"{self.key}{self.SEPARATOR}{self.version}{suffix}{telling}"


def entries(posting: Posting, cost_of: Decimal | None = None) -> tuple[Entry, ...]:
    """The double entries of a posting; debits equal credits.

    *cost_of* values goods whose cost the posting leaves to the ERP (for the whole posting); None counts
    as zero. Units: the posting's currency.
    """
    fallback = cost_of or ZERO
    match posting:
        case ReserveStock():
            pairs: tuple[tuple[Account, Account, Decimal], ...] = ()
        case PostGoodsIssue(lines=lines):
            pairs = ((Account.COST_INTERIM, Account.INVENTORY, _cost(lines, fallback)),)
        case PostInvoice(lines=lines):
            cost = _cost(lines, fallback)
            pairs = (
                (Account.RECEIVABLE, Account.REVENUE, sum((line.net for line in lines), ZERO)),
                (Account.RECEIVABLE, Account.FREIGHT_INCOME, posting.freight),
                (
                    Account.RECEIVABLE,
                    Account.TAX,
                    sum((line.tax for line in lines), ZERO) + posting.freight_tax,
                ),
                (Account.COST_OF_GOODS, Account.COST_INTERIM, cost),
            )
        case AccrueFreight(amount=amount):
            pairs = ((Account.FREIGHT_EXPENSE, Account.ACCRUED_FREIGHT, amount),)
        case MatchCarrierBill(amount=amount, accrued=accrued):
            pairs = (
                (Account.ACCRUED_FREIGHT, Account.PAYABLE, accrued),
                (Account.FREIGHT_EXPENSE, Account.PAYABLE, amount - accrued),
            )
        case PostReturnReceipt(goods=goods):
            pairs = tuple(
                (
                    _INTO[part.disposition],
                    Account.RETURN_INTERIM,
                    fallback if part.cost is None else part.cost,
                )
                for part in goods
            )
        case PostCreditNote(net=net, tax=tax):
            cost = fallback if posting.cost is None else posting.cost
            pairs = (
                (Account.REVENUE, Account.RECEIVABLE, net),
                (Account.TAX, Account.RECEIVABLE, tax),
                (Account.RETURN_INTERIM, Account.COST_OF_GOODS, cost),
            )
        case PostStockAdjustment(cost=cost_signed):
            signed = fallback if cost_signed is None else cost_signed
            pairs = ((Account.INVENTORY, Account.VARIANCE, signed),)
        case PostTransfer(leg=leg, cost=moved):
            amount = fallback if moved is None else moved
            both = (Account.IN_TRANSIT, Account.INVENTORY)
            pairs = ((*(both if leg == "out" else both[::-1]), amount),)
        case PostPayment(amount=amount):
            pairs = ((Account.CASH_CLEARING, Account.RECEIVABLE, amount),)
        case PostRefund(amount=amount):
            pairs = ((Account.RECEIVABLE, Account.CASH_CLEARING, amount),)
    return tuple(entry for pair in pairs for entry in _double(*pair))


_INTO = {
    "sellable": Account.INVENTORY,
    "quarantine": Account.QUARANTINE,
    "damaged": Account.QUARANTINE,
    "scrap": Account.SCRAP,
}


def _cost(lines: Iterable[GoodsLine | InvoiceLine], fallback: Decimal) -> Decimal:
    known = [line.cost for line in lines]
    return sum((cost for cost in known if cost is not None), ZERO) + (fallback if None in known else ZERO)


def _double(debit: Account, credit: Account, amount: Decimal) -> tuple[Entry, ...]:
    """A negative amount goes the other way round; zero makes no entry."""
    if amount < 0:
        debit, credit, amount = credit, debit, -amount
    if amount == 0:
        return ()
    return Entry(debit, amount, ZERO), Entry(credit, ZERO, amount)


def mirrored(made: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries of a reversal."""
    return tuple(Entry(entry.account, entry.credit, entry.debit) for entry in made)
