"""Orders: every payload is a whole state.

Rules
- It tells of the placing, with the quantities first ordered; of an amendment where it was updated since; of a
  cancel where it has one; and of what its refunds cancelled.
- The quantities wanted now leave out what was edited away. What a refund cancelled is told as a cancel, and
  is not taken off twice; a refund of goods that shipped does not unship them.
- Whether pieces had shipped when they were refunded without being restocked, the fulfilments before that say,
  and once a line is fulfilled, what shipped of it at all.
- Amounts are for the whole line (Admin GraphQL, LineItem: discounts and taxes include those of refunded and
  removed quantities), so a line that shrank has its share of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import ROUND_UP, Decimal
from typing import Any

from adapters.shopify.models import LineItem, Order, Refund, Shipped
from adapters.shopify.telling import Telling, revision
from canonical import identity
from canonical.envelope import Event
from canonical.facts.order import CancelledLine, OrderAmended, OrderCancelled, OrderLine, OrderPlaced
from canonical.identity import TwinRef
from canonical.money import ZERO, minor_unit, share

DEFAULT_COMPANY = "main"

_FULFILLED = "fulfilled"
"""Of a line's ``fulfillment_status``: nothing of it is left to ship."""
_UNDONE = frozenset(("cancelled", "error", "failure"))
"""Of a fulfilment's ``status``."""


def order_events(payload: Any, telling: Telling) -> Iterator[Event]:
    order = Order.model_validate(payload)
    subject, path = identity.order(order.id), f"orders/{order.id}"
    updated = order.updated_at.isoformat()
    yield telling.event(f"{path}/placed/{updated}", subject, order.created_at, _placed(order, telling))
    if order.updated_at > order.created_at:
        yield telling.event(f"{path}/amended/{updated}", subject, order.updated_at, _amended(order))
    if order.cancelled_at is not None:
        fact = OrderCancelled(cancel_id=f"cancel/{order.id}", reason=order.cancel_reason)
        event_id = f"{path}/cancelled/{order.cancelled_at.isoformat()}"
        yield telling.event(event_id, subject, order.cancelled_at, fact)
    for refund in order.refunds:
        yield from cancelled_by_refund(refund, subject, telling)


def _placed(order: Order, telling: Telling) -> OrderPlaced:
    freight, freight_tax = _freight(order)
    return OrderPlaced(
        customer_id=order.customer.id if order.customer else None,
        currency=order.currency,
        lines=tuple(_order_line(line, line.quantity, order) for line in order.line_items),
        freight=freight,
        freight_tax=freight_tax,
        company=telling.connection.settings.get("company", DEFAULT_COMPANY),
        channel=order.source_name,
        reference=order.name,
    )


def _amended(order: Order) -> OrderAmended:
    freight, freight_tax = _freight(order)
    return OrderAmended(
        revision=revision(order.updated_at),
        lines=tuple(_order_line(line, _still_wanted(line, order), order) for line in order.line_items),
        freight=freight,
        freight_tax=freight_tax,
    )


def _still_wanted(line: LineItem, order: Order) -> Decimal:
    """``current_quantity``, without what fell off it by refunds that are no edit of the order."""
    if line.current_quantity is None:
        return line.quantity
    refunds = [
        (refund.created_at, part)
        for refund in order.refunds
        for part in refund.refund_line_items
        if part.line_item_id == line.id
    ]
    cancelled = sum((part.quantity for _, part in refunds if part.restock_type == "cancel"), ZERO)
    others = [(at, part.quantity) for at, part in refunds if part.restock_type != "cancel"]
    kept = cancelled + _refunded_after_shipping(line, line.current_quantity, others, order)
    return min(line.quantity, line.current_quantity + kept)


def _refunded_after_shipping(
    line: LineItem, current: Decimal, refunds: Iterable[tuple[datetime, Decimal]], order: Order
) -> Decimal:
    """How many of the pieces refunded had shipped: at least what shipped beyond the current quantity."""
    refunds = sorted(refunds)
    refunded = sum((quantity for _, quantity in refunds), ZERO)
    if order.fulfillments is None:
        return refunded if line.fulfillment_status is not None else ZERO
    least = min(refunded, max(ZERO, _shipped(line, order.fulfillments) - current))
    if line.fulfillment_status == _FULFILLED:
        return least
    found = ZERO
    for at, quantity in refunds:
        shipped = _shipped(line, (one for one in order.fulfillments if one.created_at <= at))
        found += min(quantity, max(ZERO, shipped - found))
    return max(least, found)


def _shipped(line: LineItem, fulfillments: Iterable[Shipped]) -> Decimal:
    lines = (goods for one in fulfillments if one.status not in _UNDONE for goods in one.line_items)
    return sum((goods.quantity for goods in lines if goods.id == line.id), ZERO)


def _order_line(line: LineItem, quantity: Decimal, order: Order) -> OrderLine:
    unit_price, discount = _net(line, order.currency) if order.taxes_included else (line.price, line.discount)
    return OrderLine(
        line_id=line.id,
        sku=line.our_sku,
        quantity=quantity,
        unit_price=unit_price,
        discount=_slice(discount, quantity, line, order.currency),
        tax=_slice(line.tax, quantity, line, order.currency),
        title=line.title,
    )


def _slice(whole: Decimal, quantity: Decimal, line: LineItem, currency: str) -> Decimal:
    return whole if quantity == line.quantity else share(whole, ZERO, quantity, line.quantity, currency)


def _net(line: LineItem, currency: str) -> tuple[Decimal, Decimal]:
    """Unit price and discount before tax, where the prices include it (``taxes_included``).

    The price is rounded up to the currency's precision and the discount takes the difference, so that
    ``quantity * price - discount + tax`` is exactly what the customer pays.
    """
    paid = line.quantity * line.price - line.discount
    net_paid = paid - line.tax
    exact = line.price * net_paid / paid if paid else line.price
    unit_price = exact.quantize(minor_unit(currency), rounding=ROUND_UP)
    return unit_price, line.quantity * unit_price - net_paid


def _freight(order: Order) -> tuple[Decimal, Decimal]:
    """Shipping before tax, and its tax."""
    charged = [line for line in order.shipping_lines if not line.is_removed]
    price = sum((line.price - line.discount for line in charged), ZERO)
    tax = sum((line.tax for line in charged), ZERO)
    return (price - tax if order.taxes_included else price), tax


def cancelled_by_refund(refund: Refund, subject: TwinRef, telling: Telling) -> Iterator[Event]:
    """``cancel``: "the items have not yet been fulfilled" (Admin REST, Refund, ``restock_type``)."""
    lines = tuple(
        CancelledLine(line_id=line.line_item_id, quantity=line.quantity)
        for line in refund.refund_line_items
        if line.restock_type == "cancel"
    )
    if lines:
        fact = OrderCancelled(cancel_id=f"refund/{refund.id}", lines=lines)
        yield telling.event(f"refunds/{refund.id}/cancelled", subject, refund.created_at, fact)
