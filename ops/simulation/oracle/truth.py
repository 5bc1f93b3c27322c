"""What a set of facts must come to, written from the domain alone: slow, without twins, folds or ledgers.

Every question is answered by searching through the facts again. Quantities and amounts are fractions. Nothing
of `twins` is used, so that whatever the two agree on was thought out twice. It knows the facts that
`ops.simulation.stories` tells, told in a way that makes sense; the properties in the tests do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from canonical.envelope import Event
from canonical.facts import order as o
from canonical.facts import stock as st
from canonical.identity import Kind, TwinRef
from ops.simulation.oracle import exceptions, freight
from ops.simulation.oracle.facts import NONE, Plain, cents, exact
from ops.simulation.oracle.orders import Order, World
from ops.simulation.oracle.shelves import Stock


@dataclass
class Truth:
    states: dict[str, Plain]
    postings: dict[str, Plain]


MONEY = "money"
"""Name of the exceptions about money: pairs of a code and the events that it is about."""

Short = dict[tuple[TwinRef, str, str], Fraction]
"""(order, line, location) → what is allocated there and not there."""


def truth(told: Iterable[Event]) -> Truth:
    """What the facts come to: parts of the documents of orders, shipments and stock, and every posting."""
    world = World(told)
    orders = [world.order(ref.key) for ref in world.refs(Kind.ORDER)]
    for order in orders:
        if order.placed is not None:
            order.finish()
    stocks = [Stock(world, ref, orders) for ref in _stock_refs(world, orders)]
    short = {
        (order, line_id, stock.location): lacks
        for stock in stocks
        for (order, line_id), lacks in stock.short().items()
    }
    states = {
        str(order.ref): _order_document(order, short) | {MONEY: exceptions.of_order(order)}
        for order in orders
    }
    states |= {
        str(ref): {"status": world.shipment_status(ref), MONEY: exceptions.of_shipment(world, ref)}
        for ref in world.refs(Kind.SHIPMENT)
    }
    states |= {str(ref): {MONEY: exceptions.of_number(world, ref)} for ref in world.refs(Kind.TRACKING)}
    states |= {str(ref): {MONEY: exceptions.of_item(world, ref)} for ref in world.refs(Kind.ITEM)}
    states |= {str(stock.ref): stock.document() for stock in stocks}
    found = [
        *(one for order in orders if order.placed for one in _order_postings(order, short)),
        *(one for ref in world.refs(Kind.SHIPMENT) for one in _shipment_postings(world, ref)),
        *(one for stock in stocks for one in _stock_postings(stock)),
    ]
    return Truth(states, {one["key"]: one for one in found})


def _stock_refs(world: World, orders: Sequence[Order]) -> list[TwinRef]:
    """Those told of, and those that others speak of."""
    refs = set(world.refs(Kind.STOCK))
    refs |= {
        TwinRef(Kind.STOCK, f"{order.lines[line_id].told.sku}@{location}")
        for order in orders
        if order.placed is not None
        for line_id, location in order.allocations
    }
    for ref in world.refs(Kind.SHIPMENT):
        gone = world.dispatch(ref)
        if gone is not None:
            refs |= {
                TwinRef(Kind.STOCK, f"{line.sku}@{gone.fact.location}")
                for line in gone.fact.lines
                if line.quantity
            }
    return sorted(refs)


def _order_document(order: Order, short: Short) -> Plain:
    if order.placed is None:
        return {"status": "provisional"}
    return {
        "status": order.status(),
        "captured": order.total(o.PaymentCaptured, "payment_id"),
        "refunded": order.total(o.RefundIssued, "refund_id"),
        "balance_due": order.balance(),
        "lines": {
            line_id: {
                "ordered": line.ordered,
                "cancelled": line.cancelled,
                "shipped": line.shipped,
                "excess": line.excess,
                "delivered": line.delivered,
                "invoiced": line.invoiced,
                "returned": line.returned,
                "accepted": line.accepted,
                "credited": line.credited,
                "backordered": _lacking(short, order.ref, line_id),
                "open": line.open,
            }
            for line_id, line in order.lines.items()
        },
    }


def _lacking(short: Short, order: TwinRef, line_id: str) -> Fraction:
    return sum((lacks for (one, line, _), lacks in short.items() if (one, line) == (order, line_id)), NONE)


def _named(*parts: str) -> str:
    """A slash within a part is no separator."""
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def _posting(command: str, key: str, at: datetime, currency: str, **content: Any) -> Plain:
    common = {"command": command, "key": key, "event_date": at.date(), "company": "main"}
    return common | {"currency": currency} | content


def _order_postings(order: Order, short: Short) -> Iterator[Plain]:
    name = order.ref.key
    for (line_id, location), (still, gone) in order.reserved.items():
        there = still - short.get((order.ref, line_id, location), NONE) + gone
        if there:
            yield _posting(
                "reserve-stock",
                _named("reserve", name, line_id, location),
                order.allocations[line_id, location].event.time,
                order.currency,
                order_id=name,
                line_id=line_id,
                sku=order.lines[line_id].told.sku,
                location=location,
                quantity=there,
            )
    for command, kind, field_name in (
        ("payment", o.PaymentCaptured, "payment_id"),
        ("refund", o.RefundIssued, "refund_id"),
    ):
        for provider_id, one in order.first(kind, field_name).items():
            yield _posting(
                command,
                _named(command, provider_id, name),
                one.event.time,
                one.fact.currency,
                order_id=name,
                amount=cents(exact(one.fact.amount)),
                **{field_name: provider_id},
            )
    if not order.missing:
        yield from _invoices(order)
        yield from _return_postings(order)


def _invoices(order: Order) -> Iterator[Plain]:
    assert order.placed is not None
    for shipment in order.taken:
        lines = list(order.invoice_lines(shipment))
        if lines and order.world.has_goods_issue(shipment):
            gone = order.world.dispatch(shipment)
            assert gone is not None
            yield _posting(
                "invoice",
                _named("invoice", shipment.key, order.ref.key),
                gone.event.time,
                order.currency,
                order_id=order.ref.key,
                shipment_id=shipment.key,
                customer_id=order.placed.customer_id,
                lines=lines,
                freight=order.freight(shipment, "freight"),
                freight_tax=order.freight(shipment, "freight_tax"),
            )


def _return_postings(order: Order) -> Iterator[Plain]:
    assert order.placed is not None
    for back in order.backs:
        line = order.lines[back.line_id]
        if not all(order.world.has_goods_issue(ref) for ref in order.suppliers(back)):
            continue
        key = _named(back.return_id, back.line_id, order.ref.key)
        common = {"order_id": order.ref.key, "return_id": back.return_id, "line_id": back.line_id}
        goods, before = [], back.before
        for (location, disposition), quantity in sorted(back.goods.items()):
            for sku, many in sorted(order.left_as(back.line_id, before, quantity).items()):
                goods.append(
                    {
                        "location": location,
                        "disposition": disposition,
                        "quantity": many,
                        "cost": order.original_cost(back.line_id, before, quantity, sku),
                        "sku": None if sku == line.shipped_sku else sku,
                    }
                )
            before += quantity
        yield _posting(
            "return-receipt",
            f"return-receipt/{key}",
            back.at,
            order.currency,
            sku=line.shipped_sku,
            goods=goods,
            **common,
        )
        net, tax = order.credit(back)
        yield _posting(
            "credit-note",
            f"credit-note/{key}",
            back.at,
            order.currency,
            sku=line.shipped_sku,
            customer_id=order.placed.customer_id,
            quantity=back.quantity,
            net=net,
            tax=tax,
            cost=order.original_cost(back.line_id, back.before, back.quantity),
            **common,
        )


def _shipment_postings(world: World, ref: TwinRef) -> Iterator[Plain]:
    gone = world.dispatch(ref)
    if gone is None or not world.has_goods_issue(ref):
        return
    orders = [world.order(order_id) for order_id in sorted({line.order_id for line in gone.fact.lines})]
    lines = [
        {
            "line_id": f"{order.ref.key}/{went.line_id}",
            "sku": went.sku,
            "location": gone.fact.location,
            "quantity": went.accepted,
            "cost": went.cost,
        }
        for order in orders
        for went in order.went(ref)
        if went.accepted
    ]
    at = gone.event.time
    issue, ours = _named("goods-issue", ref.key), world.issue_currency(ref)
    assert ours is not None
    yield _posting("goods-issue", issue, at, ours, shipment_id=ref.key, lines=lines)
    aside = freight.accrued(world, ref)
    if aside is None:
        return
    amount, currency = aside
    carrier = world._told_of_dispatch(ref, "carrier") or "unknown"
    shared = {"shipment_id": ref.key, "carrier": carrier}
    key = _named("freight-accrual", ref.key)
    yield _posting("freight-accrual", key, at, currency, amount=cents(amount), **shared)
    for share in freight.paid(world, ref):
        bill = share.bill
        if bill.amount or share.cleared:
            key = _named("carrier-bill", bill.bill_id, ref.key)
            said = {"bill_id": bill.bill_id, "amount": cents(bill.amount), "accrued": share.cleared}
            yield _posting("carrier-bill", key, bill.at, bill.currency, **said, **shared)


def _stock_postings(stock: Stock) -> Iterator[Plain]:
    world, name = stock.world, stock.ref.key
    if not world.is_known(stock.sku):
        return
    common = {"sku": stock.sku, "location": stock.location}

    def worth(quantity: Fraction, at: datetime) -> tuple[str, Fraction | None]:
        currency = world.currency_of_costs(stock.sku, at)
        unit = world.cost(stock.sku, at, currency)
        return currency, None if unit is None else cents(unit * quantity)

    adjusted = [
        (_named("stock-adjustment", one.fact.adjustment_id), one, exact(one.fact.delta))
        for one in stock._once(st.StockAdjusted, "adjustment_id")
        if one.fact.delta
    ]
    adjusted += [
        (_named("stock-count", count.fact.count_id, count.fact.status.value), count, delta)
        for count, delta in stock.variances()
    ]
    for document, one, delta in adjusted:
        at = one.event.time
        currency, cost = worth(delta, at)
        yield _posting(
            "stock-adjustment",
            f"{document}/{_named(name)}",
            at,
            currency,
            status=one.fact.status.value,
            delta=delta,
            cost=cost,
            **common,
        )
    for leg, kind in (("out", st.TransferredOut), ("in", st.TransferredIn)):
        for one in stock._once(kind, "transfer_id"):
            quantity, at = exact(one.fact.quantity), one.event.time
            currency, cost = worth(quantity, at)
            yield _posting(
                "transfer",
                _named("transfer", one.fact.transfer_id, name, leg),
                at,
                currency,
                transfer_id=one.fact.transfer_id,
                leg=leg,
                quantity=quantity,
                cost=cost,
                **common,
            )
