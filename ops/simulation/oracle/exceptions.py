"""What about money somebody must look at: of each twin, pairs of a code and the events that it is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from canonical.facts import order as o
from canonical.facts import reference as r
from canonical.facts import shipment as sh
from canonical.identity import TwinRef
from ops.simulation.oracle import freight
from ops.simulation.oracle.orders import Order, World

MISMATCH, FOREIGN = "carrier-bill-mismatch", "other-currency"
CODES = frozenset({MISMATCH, FOREIGN})
Exceptions = list[tuple[str, list[str]]]


def _listed(found: Iterable[tuple[str, Iterable[str]]]) -> Exceptions:
    return sorted((code, sorted(set(told))) for code, told in found)


def of_order(order: Order) -> Exceptions:
    """Money that the order has no use for."""
    if order.placed is None:
        return []
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, name in _MONEY:
        for one in order.said(kind):
            told[kind.TYPE, getattr(one.fact, name)].append(one.event.event_id)
    return _listed((FOREIGN, told[strange]) for strange in order.strange_money())


_MONEY = ((o.PaymentCaptured, "payment_id"), (o.RefundIssued, "refund_id"))


def of_shipment(world: World, ref: TwinRef) -> Exceptions:
    """Bills that are not what was accrued; goods for orders in another currency than their goods issue."""
    aside = freight.accrued(world, ref)
    fine = [share.bill for share in freight.paid(world, ref)]
    found: list[tuple[str, Iterable[str]]] = []
    for bill in freight.billed(world, ref):
        if aside is not None and bill.currency != aside[1]:
            found.append((FOREIGN, bill.told_by))
        elif bill not in fine:
            found.append((MISMATCH, bill.told_by))
    witnesses = [one.event.event_id for one in world.of(ref, sh.ShipmentDispatched)]
    return _listed([*found, *((FOREIGN, witnesses) for _ in _uncosted(world, ref))])


def _uncosted(world: World, ref: TwinRef) -> set[str]:
    """Orders in a currency that the goods issue is not in, with goods of which a cost is known."""
    gone, ours = world.dispatch(ref), world.issue_currency(ref)
    found: set[str] = set()
    if gone is None or not world.has_goods_issue(ref):
        return found
    for order in (world.order(order_id) for order_id in {line.order_id for line in gone.fact.lines}):
        for went in order.went(ref):
            told = world.revision(went.sku, gone.event.time)
            if not went.accepted or told is None or told.unit_cost is None:
                continue
            if order.currency != ours:
                found.add(str(order.ref))
    return found


def of_number(world: World, parcel: TwinRef) -> Exceptions:
    """Bills that are for several shipments and for none of them."""
    sharing = freight.owners(world, parcel)
    if len(sharing) < 2:
        return []
    code = FOREIGN if any(freight.accrued(world, ref) is not None for ref in sharing) else MISMATCH
    return _listed(
        (code, [one.event.event_id for one in told])
        for told in freight.bills_of(world, parcel).values()
        if not freight.payers(world, parcel, told[0].fact.currency)
    )


def of_item(world: World, ref: TwinRef) -> Exceptions:
    """Each change of the cost's currency from the first one."""
    told = [one.fact for one in world.of(ref, r.ItemUpserted) if one.fact.currency is not None]
    return [(FOREIGN, []) for fact in told if fact.currency != told[0].currency]
