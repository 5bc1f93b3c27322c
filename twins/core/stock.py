"""The stock of one SKU at one location.

Rules
- ``on hand = last count + movements dated after it``, for each status. A late movement dated before a count
  changes nothing now; it changes the variance that the count posted.
- Shipments and returns move stock by contribution; receipts, adjustments and transfers by their own events.
- Reservations are granted in order of their allocation. What exceeds the goods falls back on the last ones:
  the explicit backorder bucket. Nothing is oversold, and a negative on-hand is shown, never hidden.
- An opening count posts nothing: the ERP has it already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from rpds import HashTrieMap
from sortedcontainers import SortedDict, SortedKeyList

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.stock import (
    InboundExpected,
    SafetyStockSet,
    StockAdjusted,
    StockCounted,
    StockReceived,
    StockStatus,
    StockStatusChanged,
    TransferredIn,
    TransferredOut,
)
from canonical.identity import EventId, Kind, PostingKey, TwinRef, item, sku_and_location, stock
from canonical.money import ZERO, rounded
from canonical.postings import Posting, PostStockAdjustment, PostTransfer
from twins.core.contributions import (
    Interest,
    InTransit,
    Issue,
    ItemCard,
    Moved,
    Reservations,
    ReservedLine,
    Shortage,
    ShortLine,
    Value,
)
from twins.core.rules import Finding, Policy, Rules

TRANSITIONS: Mapping[StockStatus, Mapping[type[Fact], tuple[StockStatus, ...]]] = {
    status: {StockStatusChanged: tuple(other for other in StockStatus if other is not status)}
    for status in StockStatus
}
"""Goods may change from each status to each other."""


# --- state -----------------------------------------------------------------------------------------------


class Count(NamedTuple):
    """A count, and what the twin's own movements since the count before it add up to."""

    count_id: str
    at: datetime
    boundary: datetime
    """Movements up to then are in it: never earlier than the one of the count before, whatever clocks say."""
    quantity: Decimal
    own_before: Decimal
    opening: bool
    event: EventId


class Adjustment(NamedTuple):
    delta: Decimal
    status: StockStatus
    at: datetime
    event: EventId


class Leg(NamedTuple):
    leg: Literal["out", "in"]
    other: str
    quantity: Decimal
    at: datetime
    event: EventId


class Inbound(NamedTuple):
    quantity: Decimal
    due: datetime


@dataclass(frozen=True, slots=True)
class StockState:
    counts: Mapping[StockStatus, tuple[Count, ...]] = field(default_factory=dict)
    since: Mapping[StockStatus, Decimal] = field(default_factory=dict)
    """Own movements after the last count, by status."""
    adjustments: HashTrieMap[str, Adjustment] = field(default_factory=HashTrieMap)
    legs: HashTrieMap[str, Leg] = field(default_factory=HashTrieMap)
    sent: Mapping[str, Decimal] = field(default_factory=dict)
    """Location → all that was ever transferred there."""
    arrived: Decimal = ZERO
    """All that ever came by transfer."""
    receipts: HashTrieMap[str, Decimal] = field(default_factory=HashTrieMap)
    changes: HashTrieMap[str, Decimal] = field(default_factory=HashTrieMap)
    """Changes of status, by their document."""
    safety: Decimal = ZERO
    inbound: Mapping[str, Inbound] = field(default_factory=dict)


# --- evolve ----------------------------------------------------------------------------------------------


def evolve(state: StockState, event: Event) -> StockState:
    """Every stock fact carries its own document id: a second telling of the same document adds nothing."""
    match event.fact:
        case StockReceived() as fact:
            if fact.receipt_id in state.receipts:
                return state
            moved = _move(state, fact.status, fact.quantity)
            return replace(moved, receipts=state.receipts.insert(fact.receipt_id, fact.quantity))
        case StockAdjusted() as fact:
            if fact.adjustment_id in state.adjustments:
                return state
            adjustment = Adjustment(fact.delta, fact.status, event.time, event.event_id)
            moved = _move(state, fact.status, fact.delta)
            return replace(moved, adjustments=state.adjustments.insert(fact.adjustment_id, adjustment))
        case StockCounted() as fact:
            return _counted(state, event, fact)
        case TransferredOut() as fact:
            return _left(state, event, fact)
        case TransferredIn() as fact:
            return _came(state, event, fact)
        case StockStatusChanged() as fact:
            if fact.change_id in state.changes:
                return state
            state = replace(state, changes=state.changes.insert(fact.change_id, fact.quantity))
            moved = _move(state, fact.from_status, -fact.quantity)
            return _move(moved, fact.to_status, fact.quantity)
        case SafetyStockSet() as fact:
            return replace(state, safety=fact.quantity)
        case InboundExpected() as fact:
            return replace(
                state, inbound={**state.inbound, fact.inbound_id: Inbound(fact.quantity, fact.due)}
            )
        case _:
            return state


def _move(state: StockState, status: StockStatus, delta: Decimal) -> StockState:
    return replace(state, since={**state.since, status: state.since.get(status, ZERO) + delta})


def _counted(state: StockState, event: Event, fact: StockCounted) -> StockState:
    counts = state.counts.get(fact.status, ())
    if any(known.count_id == fact.count_id for known in counts):
        return state
    own = state.since.get(fact.status, ZERO)
    boundary = max(event.time, counts[-1].boundary) if counts else event.time
    count = Count(fact.count_id, event.time, boundary, fact.quantity, own, fact.opening, event.event_id)
    return replace(
        state,
        counts={**state.counts, fact.status: (*counts, count)},
        since={**state.since, fact.status: ZERO},
    )


def _left(state: StockState, event: Event, fact: TransferredOut) -> StockState:
    leg_id = f"{fact.transfer_id}/out"
    if leg_id in state.legs:
        return state
    moved = _move(state, StockStatus.SELLABLE, -fact.quantity)
    leg = Leg("out", fact.to_location, fact.quantity, event.time, event.event_id)
    sent = {**state.sent, fact.to_location: state.sent.get(fact.to_location, ZERO) + fact.quantity}
    return replace(moved, legs=state.legs.insert(leg_id, leg), sent=sent)


def _came(state: StockState, event: Event, fact: TransferredIn) -> StockState:
    leg_id = f"{fact.transfer_id}/in"
    if leg_id in state.legs:
        return state
    moved = _move(state, StockStatus.SELLABLE, fact.quantity)
    leg = Leg("in", fact.from_location, fact.quantity, event.time, event.event_id)
    return replace(moved, legs=state.legs.insert(leg_id, leg), arrived=state.arrived + fact.quantity)


# --- inbox -----------------------------------------------------------------------------------------------


class _Movement(NamedTuple):
    at: datetime
    source: TwinRef
    part: str
    delta: Decimal


@dataclass(slots=True)
class _Ledger:
    """Contributed movements of one status, summed between counts; each change costs O(log n)."""

    movements: SortedKeyList = field(default_factory=lambda: SortedKeyList(key=lambda one: one[:3]))
    boundaries: list[datetime] = field(default_factory=list)
    """Moments of the counts; a movement at such a moment belongs before it."""
    sums: list[Decimal] = field(default_factory=lambda: [ZERO])

    def add(self, movement: _Movement) -> None:
        self.movements.add(movement)
        self.sums[bisect_left(self.boundaries, movement.at)] += movement.delta

    def remove(self, movement: _Movement) -> None:
        self.movements.remove(movement)
        self.sums[bisect_left(self.boundaries, movement.at)] -= movement.delta

    def between(self, boundaries: list[datetime]) -> list[Decimal]:
        """Sums of the movements up to each boundary from the one before, and after the last."""
        if boundaries != self.boundaries:
            if boundaries[:-1] == self.boundaries:
                self._append(boundaries[-1])
            else:
                self._rebuild(boundaries)
        return self.sums

    def _append(self, boundary: datetime) -> None:
        after = ZERO
        for movement in reversed(self.movements):
            if movement.at <= boundary:
                break
            after += movement.delta
        self.sums[-1] -= after
        self.sums.append(after)
        self.boundaries.append(boundary)

    def _rebuild(self, boundaries: list[datetime]) -> None:
        self.boundaries = list(boundaries)
        self.sums = [ZERO] * (len(boundaries) + 1)
        for movement in self.movements:
            self.sums[bisect_left(self.boundaries, movement.at)] += movement.delta


@dataclass(slots=True)
class StockInbox:
    """Reservations and movements of any number of neighbours, kept as sums and sorted rows."""

    ledgers: dict[str, _Ledger] = field(default_factory=dict)
    reserved: SortedDict = field(default_factory=SortedDict)
    """(allocated at, order, line) → quantity: the order in which they are granted."""
    reserved_total: Decimal = ZERO
    sent_here: Decimal = ZERO
    card: ItemCard | None = None

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        for value, sign in ((old, -1), (new, 1)):
            match value:
                case Reservations(lines=lines, restocks=restocks):
                    self._reserve(source, lines, sign)
                    self._move(source, restocks, sign)
                case Issue(moves=moves):
                    self._move(source, moves, sign)
                case InTransit(sent=sent):
                    self.sent_here += sign * sent
                case ItemCard():
                    self.card = value if sign > 0 else None
                case _:
                    pass

    def _reserve(self, source: TwinRef, lines: tuple[ReservedLine, ...], sign: int) -> None:
        for line in lines:
            key = (line.at, source, line.line_id)
            if sign > 0:
                self.reserved[key] = line.quantity
            else:
                del self.reserved[key]
            self.reserved_total += sign * line.quantity

    def _move(self, source: TwinRef, moves: tuple[Moved, ...], sign: int) -> None:
        for move in moves:
            ledger = self.ledgers.setdefault(move.status, _Ledger())
            movement = _Movement(move.at, source, move.part, move.delta)
            if sign > 0:
                ledger.add(movement)
            else:
                ledger.remove(movement)


# --- view ------------------------------------------------------------------------------------------------


class Variance(NamedTuple):
    counted: Count
    status: StockStatus
    expected: Decimal


@dataclass(slots=True)
class StockView:
    state: StockState
    on_hand: dict[StockStatus, Decimal]
    variances: tuple[Variance, ...]
    reserved: Decimal
    shortages: dict[TwinRef, tuple[ShortLine, ...]]
    in_transit: Decimal
    card: ItemCard | None
    policy: Policy

    @property
    def sellable(self) -> Decimal:
        return self.on_hand.get(StockStatus.SELLABLE, ZERO)

    def available(self, by: datetime | None = None) -> Decimal:
        """What may still be promised, counting inbound due by then."""
        due = sum((one.quantity for one in self.state.inbound.values() if by and one.due <= by), ZERO)
        return self.sellable - self.reserved - self.state.safety + due


def view(ref: TwinRef, state: StockState, inbox: StockInbox, policy: Policy) -> StockView:
    on_hand: dict[StockStatus, Decimal] = {}
    variances: list[Variance] = []
    for status in StockStatus:
        counts = state.counts.get(status, ())
        ledger = inbox.ledgers.get(status)
        sums = ledger.between([count.boundary for count in counts]) if ledger else [ZERO] * (len(counts) + 1)
        base = ZERO
        for count, moved in zip(counts, sums, strict=False):
            variances.append(Variance(count, status, base + count.own_before + moved))
            base = count.quantity
        on_hand[status] = base + state.since.get(status, ZERO) + sums[-1]
    shortages = _shortages(inbox, on_hand[StockStatus.SELLABLE])
    return StockView(
        state,
        on_hand,
        tuple(variances),
        inbox.reserved_total,
        shortages,
        inbox.sent_here - state.arrived,
        inbox.card,
        policy,
    )


def _shortages(inbox: StockInbox, sellable: Decimal) -> dict[TwinRef, tuple[ShortLine, ...]]:
    """Who goes without: the last to be allocated, as far as the goods fall short."""
    missing = inbox.reserved_total - max(ZERO, sellable)
    short: dict[TwinRef, tuple[ShortLine, ...]] = {}
    if missing <= 0:
        return short
    for (_, source, line_id), quantity in reversed(inbox.reserved.items()):
        lacks = min(missing, quantity)
        short[source] = (ShortLine(line_id, lacks), *short.get(source, ()))
        missing -= lacks
        if missing <= 0:
            break
    return {source: tuple(sorted(lines)) for source, lines in short.items()}


def status(seen: StockView) -> str:
    if seen.sellable < 0:
        return "negative"
    if seen.shortages:
        return "oversold"
    return "out-of-stock" if seen.available() <= 0 else "in-stock"


# --- contributions ---------------------------------------------------------------------------------------


def contributions(ref: TwinRef, seen: StockView) -> dict[TwinRef, Value]:
    sku, _ = sku_and_location(ref)
    found: dict[TwinRef, Value] = {item(sku): Interest()}
    for source, lines in seen.shortages.items():
        if source.kind is Kind.ORDER:
            found[source] = Shortage(lines)
    for location, sent in seen.state.sent.items():
        found[stock(sku, location)] = InTransit(sent)
    return found


# --- postings --------------------------------------------------------------------------------------------


def postings(ref: TwinRef, seen: StockView) -> dict[PostingKey, Posting]:
    """Variances, adjustments and transfer legs, once the item is known; receipts are the ERP's purchases."""
    if seen.card is None and seen.policy.require_master_data:
        return {}
    found: list[Posting] = [
        _adjustment(
            ref,
            seen,
            variance.counted.count_id,
            Adjustment(
                variance.counted.quantity - variance.expected,
                variance.status,
                variance.counted.at,
                variance.counted.event,
            ),
        )
        for variance in seen.variances
        if not variance.counted.opening and variance.counted.quantity != variance.expected
    ]
    found += [
        _adjustment(ref, seen, key, adjustment)
        for key, adjustment in seen.state.adjustments.items()
        if adjustment.delta
    ]
    found += [_transfer(ref, seen, key, leg) for key, leg in seen.state.legs.items()]
    return {posting.key: posting for posting in found}


def _adjustment(
    ref: TwinRef, seen: StockView, document_id: str, adjustment: Adjustment
) -> PostStockAdjustment:
    sku, location = sku_and_location(ref)
    currency = _currency(seen)
    return PostStockAdjustment(
        key=PostingKey(f"stock-adjustment/{document_id}/{ref.key}"),
        event_date=adjustment.at.date(),
        company="main",
        currency=currency,
        justified_by=(adjustment.event,),
        sku=sku,
        location=location,
        status=adjustment.status.value,
        delta=adjustment.delta,
        cost=_cost(seen, adjustment.delta, adjustment.at, currency),
    )


def _transfer(ref: TwinRef, seen: StockView, leg_id: str, leg: Leg) -> PostTransfer:
    sku, location = sku_and_location(ref)
    currency = _currency(seen)
    transfer_id = leg_id.rpartition("/")[0]
    out = PostingKey(f"transfer/{transfer_id}/{stock(sku, leg.other).key}/out")
    return PostTransfer(
        key=PostingKey(f"transfer/{transfer_id}/{ref.key}/{leg.leg}"),
        event_date=leg.at.date(),
        company="main",
        currency=currency,
        justified_by=(leg.event,),
        requires=(out,) if leg.leg == "in" else (),
        transfer_id=transfer_id,
        leg=leg.leg,
        sku=sku,
        location=location,
        quantity=leg.quantity,
        cost=_cost(seen, leg.quantity, leg.at, currency),
    )


def _currency(seen: StockView) -> str:
    named = [cost.currency for cost in seen.card.costs if cost.currency] if seen.card else []
    return named[-1] if named else seen.policy.currency


def _cost(seen: StockView, quantity: Decimal, at: datetime, currency: str) -> Decimal | None:
    unit = seen.card.unit_cost(at) if seen.card is not None else None
    return None if unit is None else rounded(unit * quantity, currency)


# --- what people see -------------------------------------------------------------------------------------


def findings(ref: TwinRef, seen: StockView) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for state, quantity in seen.on_hand.items():
        if quantity < 0:
            found.append(Finding("negative-on-hand", f"{quantity} {state}: more left than ever came"))
    if seen.shortages:
        short = sum((line.quantity for lines in seen.shortages.values() for line in lines), ZERO)
        text = f"{short} reserved beyond what is there, by {len(seen.shortages)} orders"
        found.append(Finding("oversold", text))
    if seen.in_transit < 0:
        found.append(Finding("transfer-unannounced", f"{-seen.in_transit} arrived that nobody sent"))
    return tuple(found)


def document(ref: TwinRef, seen: StockView) -> dict[str, Any]:
    sku, location = sku_and_location(ref)
    return {
        "sku": sku,
        "location": location,
        "on_hand": {status.value: quantity for status, quantity in seen.on_hand.items()},
        "reserved": seen.reserved,
        "safety": seen.state.safety,
        "available": seen.available(),
        "in_transit": seen.in_transit,
        "inbound": {
            key: {"quantity": one.quantity, "due": one.due}
            for key, one in sorted(seen.state.inbound.items())
            if one.quantity
        },
        "counted_at": {status.value: counts[-1].at for status, counts in seen.state.counts.items()},
        "short_orders": sorted(str(source) for source in seen.shortages),
    }


def explain(ref: TwinRef, seen: StockView) -> tuple[str, ...]:
    said: list[str] = []
    for state in StockStatus:
        counts = seen.state.counts.get(state, ())
        if counts:
            last = counts[-1]
            moved = seen.on_hand[state] - last.quantity
            said.append(
                f"{state}: {last.quantity} counted {last.at:%Y-%m-%d %H:%M} ({last.event}), {moved:+} since."
            )
        elif seen.on_hand[state]:
            said.append(f"{state}: {seen.on_hand[state]} by movements alone; never counted.")
    said.append(
        f"{seen.reserved} reserved, {seen.state.safety} kept as safety: {seen.available()} available."
    )
    for variance in seen.variances:
        off = variance.counted.quantity - variance.expected
        if off and not variance.counted.opening:
            said.append(
                f"Count {variance.counted.count_id} found {off:+} against {variance.expected} expected."
            )
    return tuple(said)


RULES: Rules[StockState, StockInbox, StockView] = Rules(
    initial=StockState(),
    evolve=evolve,
    inbox=StockInbox,
    view=view,
    status=status,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    endless=True,
    labels=lambda ref, seen: dict(zip(("sku", "location"), sku_and_location(ref), strict=True)),
)
