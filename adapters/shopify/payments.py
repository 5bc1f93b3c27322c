"""Refunds and transactions: a refund moves money.

Rules
- Each transaction is one fact, told by ``refunds/create`` and ``order_transactions/create`` alike: its event
  says nothing that only one of them knows.
- A refund takes a line off the order only where its ``restock_type`` is ``cancel``; goods come back by
  returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adapters.shopify.models import Kind, Refund, Transaction
from adapters.shopify.orders import cancelled_by_refund
from adapters.shopify.telling import Telling
from canonical import identity
from canonical.envelope import Event
from canonical.errors import RejectedMessage
from canonical.facts.base import Fact
from canonical.facts.order import PaymentAuthorized, PaymentCaptured, RefundIssued
from canonical.identity import TwinRef


def refund_events(payload: Any, telling: Telling) -> Iterator[Event]:
    refund = Refund.model_validate(payload)
    subject = identity.order(_required(refund.order_id, "order_id"))
    for transaction in refund.transactions:
        if transaction.kind is Kind.REFUND:
            yield from _money_moved(transaction, subject, telling, refund.shop_currency)
    yield from cancelled_by_refund(refund, subject, telling)


def transaction_events(payload: Any, telling: Telling) -> Iterator[Event]:
    transaction = Transaction.model_validate(payload)
    subject = identity.order(_required(transaction.order_id, "order_id"))
    yield from _money_moved(transaction, subject, telling, None)


def _money_moved(
    transaction: Transaction, subject: TwinRef, telling: Telling, shop_currency: str | None
) -> Iterator[Event]:
    """One event, whichever webhook tells of the transaction: nothing in it that only one of them knows."""
    fact = _MONEY_MOVED[transaction.kind]
    if transaction.status != "success" or fact is None:
        return
    currency = transaction.currency or telling.connection.settings.get("currency") or shop_currency
    if currency is None:
        raise RejectedMessage("missing, and the connection has no setting 'currency'", field="currency")
    told = fact(transaction, currency)
    yield telling.event(f"transactions/{transaction.id}", subject, transaction.created_at, told)


def _authorized(told: Transaction, currency: str) -> Fact:
    return PaymentAuthorized(payment_id=told.id, amount=told.amount, currency=currency, provider=told.gateway)


def _captured(told: Transaction, currency: str) -> Fact:
    return PaymentCaptured(payment_id=told.id, amount=told.amount, currency=currency, provider=told.gateway)


def _refunded(told: Transaction, currency: str) -> Fact:
    return RefundIssued(refund_id=told.id, amount=told.amount, currency=currency, provider=told.gateway)


_MONEY_MOVED: Mapping[Kind, Callable[[Transaction, str], Fact] | None] = {
    Kind.AUTHORIZATION: _authorized,
    Kind.EMV_AUTHORIZATION: _authorized,
    Kind.CAPTURE: _captured,
    Kind.SALE: _captured,
    Kind.REFUND: _refunded,
    Kind.VOID: None,
    Kind.CHANGE: None,
}
"""None: nothing that moves money to or from a bank."""


def _required(value: str | None, field: str) -> str:
    if value is None:
        raise RejectedMessage("missing", field=field)
    return value
