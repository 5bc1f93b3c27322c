"""A shipment: goods on their way from a warehouse to orders.

Rules
- Picks, packages and milestones merge without order; the status is the furthest of them.
- Dispatch is told once; other tellings are witnesses, or disagreements where their lines differ.
- The goods issue covers what the orders accept. It waits until every order and item is known, and carries the
  item's cost of the moment of dispatch. A cost in another currency is left to the ERP. So is that of goods
  for an order in another, which is an exception.
- Goods leave the stock twin as dispatched, accepted or not: the shelf does not know about tolerance.
- Several parcels are delivered when the last of them is.
- Bills of the carrier are summed in the order of their dates. As many of the first of them as come to what
  was accrued, within the tolerance, are matched, and clear it together to the cent. What comes on top is an
  exception, and undoes no match. A bill in another currency is an exception, neither matched nor added.
- A void undoes everything, before and after dispatch. A carrier's scan before the dispatch is kept and seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from pydantic_core import to_json

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.shipment import (
    Package,
    PickedLine,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPacked,
    ShipmentPicked,
    ShipmentSubstituted,
    ShipmentVoided,
)
from canonical.facts.tracking import Milestone
from canonical.identity import EventId, PostingKey, TwinRef, item, order, posting_key, stock, tracking
from canonical.money import ZERO, rounded
from canonical.postings import AccrueFreight, GoodsLine, MatchCarrierBill, PostGoodsIssue, Posting
from canonical.types import plain
from twins.core.contributions import (
    BINDING,
    Acceptance,
    Bill,
    Binding,
    Carriage,
    CarrierWord,
    Cost,
    CostAsked,
    Issue,
    ItemCard,
    Moved,
    PickCount,
    ShipmentProgress,
    ShippedLine,
    Value,
)
from twins.core.rules import NOTHING, Finding, Policy, Registers, Rules, Waiting, nothing, terminal

# --- state -----------------------------------------------------------------------------------------------


class ShipmentStatus(StrEnum):
    PROVISIONAL = "provisional"
    CREATED = "created"
    PICKED = "picked"
    PACKED = "packed"
    DISPATCHED = "dispatched"
    IN_TRANSIT = "in-transit"
    OUT_FOR_DELIVERY = "out-for-delivery"
    DELIVERED = "delivered"
    RETURNED_TO_SENDER = "returned-to-sender"
    VOIDED = "voided"


TRANSITIONS: Mapping[ShipmentStatus, Mapping[type[Fact] | Milestone, ShipmentStatus]] = {
    ShipmentStatus.PROVISIONAL: {
        ShipmentCreated: ShipmentStatus.CREATED,
        ShipmentPicked: ShipmentStatus.PICKED,
        ShipmentPacked: ShipmentStatus.PACKED,
        ShipmentDispatched: ShipmentStatus.DISPATCHED,
    },
    ShipmentStatus.CREATED: {
        ShipmentPicked: ShipmentStatus.PICKED,
        ShipmentPacked: ShipmentStatus.PACKED,
        ShipmentDispatched: ShipmentStatus.DISPATCHED,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.PICKED: {
        ShipmentPacked: ShipmentStatus.PACKED,
        ShipmentDispatched: ShipmentStatus.DISPATCHED,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.PACKED: {
        ShipmentDispatched: ShipmentStatus.DISPATCHED,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.DISPATCHED: {
        Milestone.IN_TRANSIT: ShipmentStatus.IN_TRANSIT,
        Milestone.OUT_FOR_DELIVERY: ShipmentStatus.OUT_FOR_DELIVERY,
        Milestone.DELIVERED: ShipmentStatus.DELIVERED,
        Milestone.RETURN_TO_SENDER: ShipmentStatus.RETURNED_TO_SENDER,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.IN_TRANSIT: {
        Milestone.OUT_FOR_DELIVERY: ShipmentStatus.OUT_FOR_DELIVERY,
        Milestone.DELIVERED: ShipmentStatus.DELIVERED,
        Milestone.RETURN_TO_SENDER: ShipmentStatus.RETURNED_TO_SENDER,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.OUT_FOR_DELIVERY: {
        Milestone.DELIVERED: ShipmentStatus.DELIVERED,
        Milestone.RETURN_TO_SENDER: ShipmentStatus.RETURNED_TO_SENDER,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.DELIVERED: {
        Milestone.RETURN_TO_SENDER: ShipmentStatus.RETURNED_TO_SENDER,
        ShipmentVoided: ShipmentStatus.VOIDED,
    },
    ShipmentStatus.RETURNED_TO_SENDER: {},
    ShipmentStatus.VOIDED: {},
}
FINAL = terminal(TRANSITIONS) | {ShipmentStatus.DELIVERED}
"""Out of delivered lead only corrections, and a parcel that comes back after all."""


class Pick(Struct, frozen=True, gc=False):
    lines: tuple[PickedLine, ...]
    event: EventId


class ShipmentState(Struct, frozen=True, gc=False):
    created: ShipmentCreated | None = None
    created_by: EventId | None = None
    picks: Mapping[str, Pick] = msgspec.field(default_factory=dict)
    substitutions: tuple[tuple[ShipmentSubstituted, EventId], ...] = ()
    packages: Mapping[str, Package] = msgspec.field(default_factory=dict)
    dispatched: ShipmentDispatched | None = None
    dispatched_at: datetime | None = None
    dispatched_by: tuple[EventId, ...] = ()
    disagreements: tuple[tuple[str, EventId], ...] = ()
    voided_by: EventId | None = None
    void_reason: str | None = None


# --- evolve ----------------------------------------------------------------------------------------------


def evolve(state: ShipmentState, event: Event) -> ShipmentState | Waiting:
    match event.fact:
        case ShipmentCreated() as fact:
            if state.created is not None:
                return state
            return replace(state, created=fact, created_by=event.event_id)
        case ShipmentPicked() as fact:
            return replace(state, picks={**state.picks, fact.pick_id: Pick(fact.lines, event.event_id)})
        case ShipmentSubstituted() as fact:
            return _substituted(state, event, fact)
        case ShipmentPacked() as fact:
            told = {package.package_id: package for package in fact.packages}
            return replace(state, packages={**state.packages, **told})
        case ShipmentDispatched() as fact:
            return _dispatched(state, event, fact)
        case ShipmentVoided() as fact:
            if state.created is None and state.dispatched is None:
                return Waiting("the shipment to be created or dispatched")
            return replace(state, voided_by=state.voided_by or event.event_id, void_reason=fact.reason)
        case _:
            return state


def _substituted(state: ShipmentState, event: Event, fact: ShipmentSubstituted) -> ShipmentState:
    if any(known == fact for known, _ in state.substitutions):
        return state
    return replace(state, substitutions=(*state.substitutions, (fact, event.event_id)))


def _dispatched(state: ShipmentState, event: Event, fact: ShipmentDispatched) -> ShipmentState:
    if state.dispatched is None:
        return replace(state, dispatched=fact, dispatched_at=event.time, dispatched_by=(event.event_id,))
    seen = replace(
        state,
        dispatched=_completed(state.dispatched, fact),
        dispatched_by=(*state.dispatched_by, event.event_id),
    )
    if _goods(fact.lines) == _goods(state.dispatched.lines):
        return seen
    text = f"{event.source} tells of other goods than {state.dispatched_by[0].partition('#')[0]}"
    return replace(seen, disagreements=(*state.disagreements, (text, event.event_id)))


def _completed(first: ShipmentDispatched, other: ShipmentDispatched) -> ShipmentDispatched:
    """A witness fills in what the first telling left open; it overrules nothing."""
    changes: dict[str, Any] = {}
    if first.carrier is None and other.carrier is not None:
        changes["carrier"] = other.carrier
    if not first.tracking_numbers and other.tracking_numbers:
        changes["tracking_numbers"] = other.tracking_numbers
    if first.freight_cost is None and other.freight_cost is not None:
        changes |= {"freight_cost": other.freight_cost, "freight_currency": other.freight_currency}
    return dataclasses.replace(first, **changes) if changes else first


def _goods(lines: tuple[ShipmentLine, ...]) -> dict[tuple[str, str], Decimal]:
    """(order, SKU) → quantity: what two tellings must agree on, however each numbers its lines."""
    goods: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        goods[line.order_id, line.sku] = goods.get((line.order_id, line.sku), ZERO) + line.quantity
    return goods


# --- inbox -----------------------------------------------------------------------------------------------


class Goods(Struct, frozen=True, gc=False):
    """What follows from the warehouse's facts and from what orders and items say, whatever a carrier does."""

    state: ShipmentState
    orders: tuple[str, ...]
    waits_for: tuple[str, ...] = ()
    """What the goods issue waits for."""
    unit_costs: Mapping[str, Decimal | None] = msgspec.field(default_factory=nothing)
    goods_issue: PostGoodsIssue | None = None
    foreign: Mapping[tuple[str, str], str | None] = msgspec.field(default_factory=nothing)
    """See `_foreign`."""


class Delivery(NamedTuple):
    """What orders hear of the way of the goods."""

    delivered_at: datetime | None
    returned_to_sender: bool


class Matched(NamedTuple):
    """A bill, and what of the accrual it clears."""

    bill: Bill
    cleared: Decimal


_ON_ITS_WAY = Delivery(None, False)


@dataclass(slots=True)
class ShipmentInbox(Registers):
    """The words of neighbours. Most are a carrier's, and leave the goods as they are."""

    goods: Goods | None = None
    """As last looked at; an order or an item may have spoken since, if *is_stale*."""
    is_stale: bool = False
    said: Goods | None = None
    """What orders and stock were last told of, and on which way."""
    said_on: Delivery = _ON_ITS_WAY
    planned: Goods | None = None
    """What postings were last planned for, and with which bills."""
    planned_with: tuple[Bill, ...] = ()

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        self.is_stale |= not all(value is None or isinstance(value, CarrierWord) for value in (old, new))

    def goods_of(self, ref: TwinRef, state: ShipmentState, policy: Policy) -> Goods:
        """The very same as before, unless they have changed."""
        known = self.goods
        if known is None or known.state is not state:
            self.goods = _goods_of(ref, state, self, policy)
        elif self.is_stale:
            found = _goods_of(ref, state, self, policy)
            self.goods = known if found == known else found
        self.is_stale = False
        assert self.goods is not None
        return self.goods


# --- view ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ShipmentView:
    state: ShipmentState
    inbox: ShipmentInbox = field(repr=False)
    goods: Goods
    status: ShipmentStatus
    location: str | None
    delivery: Delivery
    milestones: Mapping[str, datetime]
    """Milestone → when the slowest parcel reached it, for those that all parcels did."""
    flags: tuple[str, ...]
    bills: tuple[Bill, ...]
    """In the order of their dates."""
    matched: tuple[Matched, ...]
    findings: tuple[Finding, ...]
    policy: Policy


def view(ref: TwinRef, state: ShipmentState, inbox: ShipmentInbox, policy: Policy) -> ShipmentView:
    words = inbox.of(CarrierWord)
    milestones = _common_milestones(state, words)
    told = (one.milestone for _, word in words for one in word.milestones)
    returned = Milestone.RETURN_TO_SENDER in told
    gone = state.dispatched if state.voided_by is None else None
    bills = _bills(words)
    seen = ShipmentView(
        state=state,
        inbox=inbox,
        goods=inbox.goods_of(ref, state, policy),
        status=ShipmentStatus.PROVISIONAL,
        location=_location(state),
        delivery=_delivery(milestones.get(Milestone.DELIVERED) if gone is not None else None, returned),
        milestones=milestones,
        flags=_flags(words),
        bills=bills,
        matched=_matched(gone, bills, policy) if bills and gone is not None else (),
        findings=(),
        policy=policy,
    )
    seen.status = _status(state, seen)
    seen.findings = tuple(_find(seen, words))
    return seen


def _delivery(delivered_at: datetime | None, returned: bool) -> Delivery:
    if returned:
        return Delivery(None, True)
    return _ON_ITS_WAY if delivered_at is None else Delivery(delivered_at, False)


def _goods_of(ref: TwinRef, state: ShipmentState, inbox: Registers, policy: Policy) -> Goods:
    orders = tuple(sorted({line.order_id for line in _lines(state)}))
    if state.dispatched is None or state.dispatched_at is None or state.voided_by is not None:
        return Goods(state, orders)
    acceptances = {source.key: value for source, value in inbox.of(Acceptance)}
    waits = [f"order {order_id}" for order_id in orders if order_id not in acceptances]
    costs: dict[str, Cost | None] = {}
    for sku in sorted({line.sku for line in state.dispatched.lines}):
        card = inbox.value(item(sku))
        known = isinstance(card, ItemCard)
        if not known and policy.require_master_data:
            waits.append(f"item {sku}")
        costs[sku] = card.cost(state.dispatched_at) if isinstance(card, ItemCard) else None
    accepted = {} if waits else {order_id: acceptances[order_id] for order_id in orders}
    unit_costs = {sku: None if cost is None else cost.amount for sku, cost in costs.items()}
    foreign = _foreign(accepted, costs)
    issue = _goods_issue(ref, state, accepted, unit_costs, foreign)
    return Goods(state, orders, tuple(waits), unit_costs, issue, foreign)


def _foreign(
    accepted: Mapping[str, Acceptance], costs: Mapping[str, Cost | None]
) -> Mapping[tuple[str, str], str | None]:
    """Order and SKU of goods whose cost is left to the ERP → why somebody must look at that, if one must.

    To buy in one currency and to sell in another is no exception.
    """
    found: dict[tuple[str, str], str | None] = {}
    ours = next((acceptance.currency for acceptance in accepted.values()), None)
    for order_id, acceptance in accepted.items():
        for line in acceptance.lines:
            cost = costs.get(line.sku)
            if cost is None or cost.amount is None or not line.accepted:
                continue
            if acceptance.currency != ours:
                theirs = f"order-placed {order_id}: currency is {acceptance.currency}"
                found[order_id, line.sku] = f"{theirs}, that of the goods issue {ours}"
            elif cost.currency not in (None, ours):
                found[order_id, line.sku] = None
    return found or NOTHING


def _location(state: ShipmentState) -> str | None:
    told = state.dispatched or state.created
    return told.location if told is not None else None


def _lines(state: ShipmentState) -> tuple[ShipmentLine, ...]:
    if state.dispatched is not None:
        return state.dispatched.lines
    return state.created.lines if state.created is not None else ()


def _common_milestones(
    state: ShipmentState, words: list[tuple[TwinRef, CarrierWord]]
) -> Mapping[str, datetime]:
    """A shipment reaches a milestone with its last parcel; a parcel that is further on has passed it."""
    numbers = len(state.dispatched.tracking_numbers) if state.dispatched is not None else 0
    if not words or len(words) < numbers:
        return NOTHING
    reached = [{one.milestone: one.at for one in word.milestones} for _, word in words]
    common: dict[str, datetime] = {}
    for index, milestone in enumerate(_PROGRESS):
        passed = [
            min((one[later] for later in _PROGRESS[index:] if later in one), default=None) for one in reached
        ]
        times = [moment for moment in passed if moment is not None]
        if len(times) == len(passed):
            common[milestone] = max(times)
    return common


_PROGRESS = (Milestone.IN_TRANSIT, Milestone.OUT_FOR_DELIVERY, Milestone.DELIVERED)


def _flags(words: list[tuple[TwinRef, CarrierWord]]) -> tuple[str, ...]:
    """Delays and exceptions that no later progress has answered."""
    raised: set[str] = set()
    for _, word in words:
        reached = {one.milestone: one.at for one in word.milestones}
        delivered = Milestone.DELIVERED in reached
        raised |= {
            flag for flag in (Milestone.DELAYED, Milestone.EXCEPTION) if flag in reached and not delivered
        }
    return tuple(sorted(raised))


def _bills(words: list[tuple[TwinRef, CarrierWord]]) -> tuple[Bill, ...]:
    """One bill a bill number and currency, summed over parcels."""
    merged: dict[tuple[str, str], Bill] = {}
    for bill in sorted(bill for _, word in words for bill in word.bills):
        known = merged.get((bill.bill_id, bill.currency))
        merged[bill.bill_id, bill.currency] = (
            bill
            if known is None
            else known._replace(
                amount=known.amount + bill.amount,
                at=max(known.at, bill.at),
                witnesses=(*known.witnesses, *bill.witnesses),
            )
        )
    return tuple(sorted(merged.values(), key=lambda one: (one.at, one.bill_id, one.currency)))


def _matched(dispatched: ShipmentDispatched, bills: tuple[Bill, ...], policy: Policy) -> tuple[Matched, ...]:
    """The longest run of first bills that fits. The shortest that does clears all, those after it nothing."""
    if not dispatched.freight_cost or dispatched.freight_currency is None:
        return ()
    currency = dispatched.freight_currency
    left = accrued = rounded(dispatched.freight_cost, currency)
    found: list[Matched] = []
    total, fitting = ZERO, 0
    for bill in bills:
        if bill.currency != currency:
            continue
        amount = rounded(bill.amount, currency)
        total += amount
        fits = abs(total - accrued) <= abs(accrued) * policy.carrier_bill_tolerance
        cleared = ZERO if fitting else left if fits else amount
        left -= cleared
        found.append(Matched(bill, cleared))
        if fits:
            fitting = len(found)
    return tuple(found[:fitting])


def _status(state: ShipmentState, seen: ShipmentView) -> ShipmentStatus:
    if state.voided_by is not None:
        return ShipmentStatus.VOIDED
    if state.dispatched is not None:
        return _on_the_way(seen)
    if state.packages:
        return ShipmentStatus.PACKED
    if state.picks:
        return ShipmentStatus.PICKED
    return ShipmentStatus.CREATED if state.created is not None else ShipmentStatus.PROVISIONAL


def _on_the_way(seen: ShipmentView) -> ShipmentStatus:
    if seen.delivery.returned_to_sender:
        return ShipmentStatus.RETURNED_TO_SENDER
    for milestone in reversed(_PROGRESS):
        if milestone in seen.milestones:
            return TRANSITIONS[ShipmentStatus.DISPATCHED][milestone]
    return ShipmentStatus.DISPATCHED


def _goods_issue(
    ref: TwinRef,
    state: ShipmentState,
    accepted: Mapping[str, Acceptance],
    unit_costs: Mapping[str, Decimal | None],
    foreign: Mapping[tuple[str, str], str | None],
) -> PostGoodsIssue | None:
    """*accepted*: by order, once all of them have spoken."""
    if not accepted:
        return None
    assert state.dispatched is not None
    assert state.dispatched_at is not None
    first = next(iter(accepted.values()))
    lines = tuple(
        GoodsLine(
            f"{order_id}/{line.line_id}",
            line.sku,
            state.dispatched.location,
            line.accepted,
            _line_cost(_unit_cost(unit_costs, foreign, order_id, line.sku), line.accepted, first.currency),
        )
        for order_id, acceptance in accepted.items()
        for line in acceptance.lines
        if line.accepted
    )
    if not lines:
        return None
    return PostGoodsIssue(
        key=posting_key("goods-issue", ref.key),
        event_date=state.dispatched_at.date(),
        company=first.company,
        currency=first.currency,
        justified_by=state.dispatched_by,
        shipment_id=ref.key,
        lines=lines,
    )


def _line_cost(unit_cost: Decimal | None, quantity: Decimal, currency: str) -> Decimal | None:
    return None if unit_cost is None else rounded(unit_cost * quantity, currency)


def _find(seen: ShipmentView, words: list[tuple[TwinRef, CarrierWord]]) -> Iterator[Finding]:
    state = seen.state
    for text, event in state.disagreements:
        yield Finding("sources-disagree", text, (event,))
    if state.dispatched is None and seen.milestones:
        first = min(seen.milestones.values())
        text = f"the carrier says {max(seen.milestones, key=_PROGRESS.index)}, the warehouse never dispatched"
        witnesses = tuple(one.witnesses[0] for _, word in words for one in word.milestones)
        due = first + seen.policy.dispatch_deadline
        yield Finding("dispatch-missing", text, witnesses, due)
    for flag in seen.flags:
        yield Finding(f"carrier-{flag}", f"the carrier reports {flag}")
    if seen.goods.waits_for and state.dispatched_at is not None:
        text = f"goods issue waits for {', '.join(seen.goods.waits_for)}"
        due = state.dispatched_at + seen.policy.origin_deadline
        yield Finding("goods-issue-waits", text, state.dispatched_by, due)
    for why in dict.fromkeys(filter(None, seen.goods.foreign.values())):
        text = f"{why}: what the goods cost is left to the ERP"
        yield Finding("other-currency", text, state.dispatched_by)
    if state.dispatched is not None and len(seen.bills) > len(seen.matched):
        yield from _unmatched(seen, state.dispatched)


def _unmatched(seen: ShipmentView, dispatched: ShipmentDispatched) -> Iterator[Finding]:
    matched = {one.bill for one in seen.matched}
    accrued = dispatched.freight_cost if seen.state.voided_by is None else None
    total = ZERO
    for bill in seen.bills:
        name, ours = f"carrier-billed {bill.bill_id}", dispatched.freight_currency
        if accrued and bill.currency != ours:
            text = f"{name}: currency is {bill.currency}, that of the accrual {ours}"
            yield Finding("other-currency", text, bill.witnesses)
            continue
        total += bill.amount
        if bill not in matched:
            beside = f"{plain(total)} billed by then, {accrued} accrued" if accrued else "nothing is accrued"
            text = f"{name} of {plain(bill.amount)} {bill.currency} is out of tolerance: {beside}"
            yield Finding("carrier-bill-mismatch", text, bill.witnesses)


# --- contributions ---------------------------------------------------------------------------------------


def contributions(ref: TwinRef, seen: ShipmentView) -> dict[TwinRef, Value]:
    found: dict[TwinRef, Value] = {}
    if seen.state.voided_by is not None:
        return found
    found |= _to_orders(seen)
    dispatched = seen.state.dispatched
    if dispatched is None:
        return found
    found |= _issues(seen, dispatched)
    return found | asks(seen.state)


def asks(state: ShipmentState) -> dict[TwinRef, Value]:
    """For master data, and for what carriers have told."""
    dispatched = state.dispatched
    if dispatched is None or state.voided_by is not None:
        return {}
    assert state.dispatched_at is not None
    asked = CostAsked(state.dispatched_at)
    found: dict[TwinRef, Value] = {item(line.sku): asked for line in dispatched.lines}
    if dispatched.carrier is not None:
        mine = _mine(dispatched)
        for number in dispatched.tracking_numbers:
            found[tracking(dispatched.carrier, number)] = mine
    return found


def _mine(dispatched: ShipmentDispatched) -> Carriage | Binding:
    if not dispatched.freight_cost or dispatched.freight_currency is None:
        return BINDING
    numbers = len(set(dispatched.tracking_numbers))
    return Carriage(dispatched.freight_cost, dispatched.freight_currency, numbers)


def changed_contributions(ref: TwinRef, seen: ShipmentView) -> Mapping[TwinRef, Value | None] | None:
    """None where the goods are not the same; orders hear of the way of those that are."""
    inbox = seen.inbox
    said, on = inbox.said, inbox.said_on
    inbox.said, inbox.said_on = seen.goods, seen.delivery
    if said is not seen.goods:
        return None
    return {} if on == seen.delivery or seen.state.voided_by is not None else _to_orders(seen)


def _to_orders(seen: ShipmentView) -> dict[TwinRef, Value]:
    return {order(order_id): _progress(seen, order_id) for order_id in seen.goods.orders}


def _progress(seen: ShipmentView, order_id: str) -> ShipmentProgress:
    state, dispatched, goods = seen.state, seen.state.dispatched, seen.goods
    picks: dict[str, tuple[Decimal, Decimal]] = {}
    for pick in state.picks.values():
        for line in pick.lines:
            if line.order_id == order_id:
                picked, short = picks.get(line.line_id, (ZERO, ZERO))
                picks[line.line_id] = (picked + line.quantity, short + line.short)
    shipped: dict[tuple[str, str], Decimal] = {}
    for gone in dispatched.lines if dispatched is not None else ():
        if gone.order_id == order_id:
            pair = (gone.line_id, gone.sku)
            shipped[pair] = shipped.get(pair, ZERO) + gone.quantity
    return ShipmentProgress(
        location=seen.location,
        picks=tuple(
            PickCount(line, plain(picked), plain(short)) for line, (picked, short) in sorted(picks.items())
        ),
        shipped=tuple(
            ShippedLine(
                line, sku, plain(quantity), _unit_cost(goods.unit_costs, goods.foreign, order_id, sku)
            )
            for (line, sku), quantity in sorted(shipped.items())
        ),
        dispatched_at=state.dispatched_at,
        delivered_at=seen.delivery.delivered_at,
        returned_to_sender=seen.delivery.returned_to_sender,
        goods_issue_digest=_digest(goods.goods_issue),
        causes=state.dispatched_by,
    )


def _unit_cost(
    unit_costs: Mapping[str, Decimal | None],
    foreign: Mapping[tuple[str, str], str | None],
    order_id: str,
    sku: str,
) -> Decimal | None:
    return None if (order_id, sku) in foreign else unit_costs.get(sku)


def _digest(posting: PostGoodsIssue | None) -> str | None:
    """Short content hash of the goods issue; what does not count as content is left out."""
    if posting is None:
        return None
    said = (posting.event_date, posting.company, posting.currency, posting.lines)
    return hashlib.sha256(to_json(said)).hexdigest()[:16]


def _issues(seen: ShipmentView, dispatched: ShipmentDispatched) -> dict[TwinRef, Value]:
    assert seen.state.dispatched_at is not None
    gone: dict[str, Decimal] = {}
    for line in dispatched.lines:
        gone[line.sku] = gone.get(line.sku, ZERO) + line.quantity
    return {
        stock(sku, dispatched.location): Issue(
            (Moved("issue", "sellable", plain(-quantity), seen.state.dispatched_at),)
        )
        for sku, quantity in sorted(gone.items())
        if quantity
    }


# --- postings --------------------------------------------------------------------------------------------


def postings(ref: TwinRef, seen: ShipmentView) -> dict[PostingKey, Posting]:
    goods_issue, dispatched = seen.goods.goods_issue, seen.state.dispatched
    if goods_issue is None or dispatched is None:
        return {}
    found: list[Posting] = [goods_issue]
    if dispatched.freight_cost:
        accrual = _accrual(ref, seen.state, goods_issue, dispatched.freight_cost)
        found.append(accrual)
        found += [_bill(ref, one, accrual) for one in seen.matched if one.cleared or one.bill.amount]
    return {posting.key: posting for posting in found}


def changed_postings(
    ref: TwinRef, seen: ShipmentView, inbox: ShipmentInbox
) -> Mapping[PostingKey, Posting | None] | None:
    """None unless goods and bills are what they were."""
    planned, bills = inbox.planned, inbox.planned_with
    inbox.planned, inbox.planned_with = seen.goods, seen.bills
    return {} if planned is seen.goods and bills == seen.bills else None


def _accrual(
    ref: TwinRef, state: ShipmentState, goods_issue: PostGoodsIssue, freight_cost: Decimal
) -> AccrueFreight:
    assert state.dispatched is not None
    currency = state.dispatched.freight_currency or goods_issue.currency
    return AccrueFreight(
        key=posting_key("freight-accrual", ref.key),
        event_date=goods_issue.event_date,
        company=goods_issue.company,
        currency=currency,
        justified_by=state.dispatched_by,
        shipment_id=ref.key,
        carrier=state.dispatched.carrier or "unknown",
        amount=rounded(freight_cost, currency),
    )


def _bill(ref: TwinRef, matched: Matched, accrual: AccrueFreight) -> MatchCarrierBill:
    bill = matched.bill
    return MatchCarrierBill(
        key=posting_key("carrier-bill", bill.bill_id, ref.key),
        event_date=bill.at.date(),
        company=accrual.company,
        currency=bill.currency,
        justified_by=bill.witnesses,
        requires=(accrual.key,),
        shipment_id=ref.key,
        bill_id=bill.bill_id,
        carrier=accrual.carrier,
        amount=rounded(bill.amount, bill.currency),
        accrued=rounded(matched.cleared, bill.currency),
    )


# --- what people see -------------------------------------------------------------------------------------


def findings(ref: TwinRef, seen: ShipmentView) -> tuple[Finding, ...]:
    return seen.findings


def document(ref: TwinRef, seen: ShipmentView) -> dict[str, Any]:
    state, dispatched = seen.state, seen.state.dispatched
    return {
        "shipment_id": ref.key,
        "location": seen.location,
        "orders": list(seen.goods.orders),
        "carrier": dispatched.carrier if dispatched else None,
        "tracking_numbers": list(dispatched.tracking_numbers) if dispatched else [],
        "dispatched_at": state.dispatched_at,
        "dispatched_by": list(state.dispatched_by),
        "delivered_at": seen.delivery.delivered_at,
        "milestones": dict(seen.milestones),
        "flags": list(seen.flags),
        "freight_cost": dispatched.freight_cost if dispatched else None,
        "voided": state.voided_by is not None,
        "lines": [line.ADAPTER.dump_python(line) for line in _lines(state)],
        "substitutions": [fact.ADAPTER.dump_python(fact) for fact, _ in state.substitutions],
        "packages": [one.ADAPTER.dump_python(one) for _, one in sorted(state.packages.items())],
        "waits_for": list(seen.goods.waits_for),
    }


def explain(ref: TwinRef, seen: ShipmentView) -> tuple[str, ...]:
    state, said = seen.state, []
    if state.created is not None:
        said.append(
            f"Created for {', '.join(seen.goods.orders)} at {state.created.location} ({state.created_by})."
        )
    for pick_id, pick in sorted(state.picks.items()):
        short = sum((line.short for line in pick.lines), ZERO)
        picked = sum((line.quantity for line in pick.lines), ZERO)
        said.append(f"Pick {pick_id} took {picked}{f', {short} short' if short else ''} ({pick.event}).")
    for fact, event in state.substitutions:
        said.append(f"{fact.substitute_sku} replaces {fact.quantity} × {fact.original_sku} ({event}).")
    if state.dispatched is not None:
        witnesses = ", ".join(state.dispatched_by)
        said.append(f"Dispatched {state.dispatched_at:%Y-%m-%d %H:%M}, told by {witnesses}.")
    for milestone, moment in seen.milestones.items():
        held = "" if state.dispatched is not None else " (held: nobody has said that it was dispatched)"
        said.append(f"Carrier: {milestone} since {moment:%Y-%m-%d %H:%M}{held}.")
    if seen.goods.waits_for:
        said.append(f"The goods issue waits for {', '.join(seen.goods.waits_for)}.")
    if state.voided_by is not None:
        said.append(f"Voided ({state.voided_by}): {state.void_reason or 'no reason given'}.")
    return tuple(said) or ("Others speak of this shipment; no warehouse has told of it.",)


def waits(seen: ShipmentView) -> tuple[str, ...]:
    if seen.state.dispatched is None and seen.milestones:
        return ("the warehouse to say that it was dispatched",)
    return seen.goods.waits_for


RULES: Rules[ShipmentState, ShipmentInbox, ShipmentView] = Rules(
    initial=ShipmentState(),
    evolve=evolve,
    inbox=ShipmentInbox,
    view=view,
    status=lambda seen: seen.status.value,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    waits=waits,
    final=frozenset(one.value for one in FINAL),
    asks=asks,
    changed_contributions=changed_contributions,
    changed_postings=changed_postings,
    labels=lambda ref, seen: {"location": seen.location},
)
