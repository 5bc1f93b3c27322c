"""An order: what was asked for, and what has become of it line by line.

Rules
- The header status is derived from line quantities; it is never stored.
- Of several tellings of the placing, the first in sort order counts; the highest revision of the lines wins.
- Goods win: what shipped can be neither cancelled nor amended away. It is covered by what the order asked for
  when it left, or asks for now. What ships beyond the tolerance is an exception: nothing is posted for it.
- An invoice follows its shipment's goods issue. Line amounts, tax and freight are divided over shipments by
  running totals in order of dispatch, so that the parts sum to the whole.
- A credit note follows an inspection that accepted goods, at the invoiced amounts and the original cost.
  A refund moves money only.
- What left first comes back first, as the SKU and at the cost with which it left; after all of that what had
  shipped beyond the order. Each inspection puts its goods on the shelf at its own moment.
- Money in another currency than the order's is posted in its own and settles nothing: it keeps the order
  open, and is an exception, until as much of it has gone back as came in.
- Unknown customers and items hold the order until their master data comes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from operator import attrgetter, is_
from typing import Any, NamedTuple, TypeVar, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.order import (
    CancelledLine,
    InspectedLine,
    OrderAllocated,
    OrderAmended,
    OrderCancelAccepted,
    OrderCancelled,
    OrderCancelRejected,
    OrderCancelRequested,
    OrderHeld,
    OrderHoldReleased,
    OrderLine,
    OrderPlaced,
    OrderReleased,
    OrderValidated,
    PaymentAuthorized,
    PaymentCaptured,
    RefundIssued,
    ReturnApproved,
    ReturnClosed,
    ReturnDeclined,
    ReturnInspected,
    ReturnReceived,
    ReturnRequested,
)
from canonical.identity import (
    EventId,
    PostingKey,
    TwinRef,
    customer,
    item,
    posting_key,
    return_,
    sku_and_location,
    stock,
)
from canonical.money import ZERO, rounded, share
from canonical.postings import (
    InvoiceLine,
    PostCreditNote,
    Posting,
    PostInvoice,
    PostPayment,
    PostRefund,
    PostReturnReceipt,
    ReserveStock,
    ReturnedGoods,
)
from canonical.types import plain
from twins.core.contributions import (
    BINDING,
    INTEREST,
    Acceptance,
    AcceptedLine,
    CustomerCard,
    ItemCard,
    ItemKnown,
    Moved,
    Reservations,
    ReservedLine,
    ShipmentProgress,
    Shortage,
    Value,
)
from twins.core.rules import Finding, FreightCharge, Policy, Registers, Rules, Waiting, compact, nothing

# --- state -----------------------------------------------------------------------------------------------


class Phase(StrEnum):
    PROVISIONAL = "provisional"
    PLACED = "placed"
    VALIDATED = "validated"
    HELD = "held"


class CancelStatus(StrEnum):
    REQUESTED = "requested"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class ReturnStatus(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    DECLINED = "declined"
    RECEIVED = "received"
    INSPECTED = "inspected"
    CLOSED = "closed"


TRANSITIONS: Mapping[Phase, Mapping[type[Fact], Phase]] = {
    Phase.PROVISIONAL: {OrderPlaced: Phase.PLACED},
    Phase.PLACED: {OrderValidated: Phase.VALIDATED, OrderHeld: Phase.HELD},
    Phase.VALIDATED: {OrderHeld: Phase.HELD},
    Phase.HELD: {OrderHoldReleased: Phase.PLACED},
}
"""Phases of the header; facts not named leave the phase as it is, but nothing enters a provisional order."""

CANCEL_TRANSITIONS: Mapping[CancelStatus, Mapping[type[Fact], CancelStatus]] = {
    CancelStatus.REQUESTED: {
        OrderCancelAccepted: CancelStatus.ACCEPTED,
        OrderCancelRejected: CancelStatus.REJECTED,
    },
    CancelStatus.ACCEPTED: {},
    CancelStatus.REJECTED: {},
}

RETURN_TRANSITIONS: Mapping[ReturnStatus, Mapping[type[Fact], ReturnStatus]] = {
    ReturnStatus.REQUESTED: {
        ReturnApproved: ReturnStatus.APPROVED,
        ReturnDeclined: ReturnStatus.DECLINED,
        ReturnReceived: ReturnStatus.RECEIVED,
    },
    ReturnStatus.APPROVED: {ReturnReceived: ReturnStatus.RECEIVED},
    ReturnStatus.DECLINED: {},
    ReturnStatus.RECEIVED: {
        ReturnApproved: ReturnStatus.RECEIVED,
        ReturnReceived: ReturnStatus.RECEIVED,
        ReturnInspected: ReturnStatus.INSPECTED,
        ReturnClosed: ReturnStatus.CLOSED,
    },
    ReturnStatus.INSPECTED: {
        ReturnApproved: ReturnStatus.INSPECTED,
        ReturnReceived: ReturnStatus.RECEIVED,
        ReturnInspected: ReturnStatus.INSPECTED,
        ReturnClosed: ReturnStatus.CLOSED,
    },
    ReturnStatus.CLOSED: {
        ReturnApproved: ReturnStatus.CLOSED,
        ReturnReceived: ReturnStatus.CLOSED,
        ReturnInspected: ReturnStatus.CLOSED,
    },
}
"""Closed is final, yet goods that another clock dates after the closing still count."""


class Allocation(Struct, frozen=True, gc=False):
    quantity: Decimal
    at: datetime
    event: EventId


class Cancel(Struct, frozen=True, gc=False):
    """*lines* None: everything that has not shipped."""

    status: CancelStatus
    lines: tuple[CancelledLine, ...] | None
    at: datetime
    event: EventId


class Money(Struct, frozen=True, gc=False):
    """An amount that moved, under the provider's own id."""

    amount: Decimal
    currency: str
    at: datetime
    witnesses: tuple[EventId, ...]


class Inspected(Struct, frozen=True, gc=False):
    name: str
    """The inspection, and the place of the line in it."""
    line: InspectedLine
    at: datetime
    event: EventId


class Return(Struct, frozen=True, gc=False):
    status: ReturnStatus
    requested: Mapping[str, Decimal]
    received: Mapping[str, Decimal]
    receipts: frozenset[str]
    """Receipts that have been told: told again, one adds nothing."""
    inspected: Mapping[str, tuple[Inspected, ...]]
    """By inspection, in their order: a repeated telling of the same inspection counts once."""
    at: datetime


class Superseded(Struct, frozen=True, gc=False):
    """What an amendment asked for that a higher one has replaced."""

    since: datetime
    lines: tuple[OrderLine, ...]


class OrderState(Struct, frozen=True, gc=False):
    phase: Phase = Phase.PROVISIONAL
    placed: OrderPlaced | None = None
    placed_at: datetime | None = None
    placed_by: tuple[EventId, ...] = ()
    revision: int = -1
    amended: OrderAmended | None = None
    amended_by: EventId | None = None
    amended_at: datetime | None = None
    superseded: tuple[Superseded, ...] = ()
    """By revision; one with the lines of what it replaced says nothing new, and is left out."""
    freight: Decimal | None = None
    freight_tax: Decimal | None = None
    """As the last amendment that says so has them; None: as placed."""
    validated_by: EventId | None = None
    holds: Mapping[str, tuple[str, EventId]] = msgspec.field(default_factory=dict)
    """Hold → its reason, and the event that said so."""
    allocations: Mapping[tuple[str, str], Allocation] = msgspec.field(default_factory=dict)
    """(line, location) → what the OMS allocated there, last word first."""
    released: Mapping[tuple[str, str], Decimal] = msgspec.field(default_factory=dict)
    """(release, line) → quantity."""
    cancels: Mapping[str, Cancel] = msgspec.field(default_factory=dict)
    """Of which nobody was asked."""
    requests: Mapping[str, Cancel] = msgspec.field(default_factory=dict)
    """Cancels that the warehouse answers; their ids are none of those above."""
    authorized: Mapping[str, Money] = msgspec.field(default_factory=dict)
    captured: Mapping[str, Money] = msgspec.field(default_factory=dict)
    refunded: Mapping[str, Money] = msgspec.field(default_factory=dict)
    returns: Mapping[str, Return] = msgspec.field(default_factory=dict)
    disagreements: tuple[tuple[str, EventId], ...] = ()
    """Facts told twice, with different content, by different events."""


# --- evolve ----------------------------------------------------------------------------------------------


def evolve(state: OrderState, event: Event) -> OrderState | Waiting:
    fact = event.fact
    if state.phase is Phase.PROVISIONAL and not isinstance(fact, OrderPlaced):
        return Waiting("the order to be placed")
    apply = _EVOLVE.get(type(fact))
    return state if apply is None else apply(state, event, fact)


def _placed(state: OrderState, event: Event, fact: OrderPlaced) -> OrderState:
    if state.placed is not None:
        return replace(state, placed_by=(*state.placed_by, event.event_id))
    return replace(state, phase=Phase.PLACED, placed=fact, placed_at=event.time, placed_by=(event.event_id,))


def _amended(state: OrderState, event: Event, fact: OrderAmended) -> OrderState:
    if fact.revision <= state.revision:
        return state
    return replace(
        state,
        revision=fact.revision,
        amended=fact,
        amended_by=event.event_id,
        amended_at=event.time,
        superseded=_superseded(state),
        freight=state.freight if fact.freight is None else fact.freight,
        freight_tax=state.freight_tax if fact.freight_tax is None else fact.freight_tax,
    )


def _superseded(state: OrderState) -> tuple[Superseded, ...]:
    """With the amendment that now gives way."""
    if state.amended is None or state.amended_at is None or state.placed is None:
        return ()
    before = state.superseded[-1] if state.superseded else None
    lines = state.placed.lines if before is None else before.lines
    if state.amended.lines == lines and (before is None or before.since <= state.amended_at):
        return state.superseded
    return (*state.superseded, Superseded(state.amended_at, state.amended.lines))


def _validated(state: OrderState, event: Event, fact: OrderValidated) -> OrderState:
    phase = TRANSITIONS[state.phase].get(OrderValidated, state.phase)
    return replace(state, phase=phase, validated_by=event.event_id)


def _held(state: OrderState, event: Event, fact: OrderHeld) -> OrderState:
    holds = {**state.holds, fact.hold_id: (fact.reason, event.event_id)}
    return replace(state, phase=Phase.HELD, holds=holds)


def _hold_released(state: OrderState, event: Event, fact: OrderHoldReleased) -> OrderState | Waiting:
    if fact.hold_id not in state.holds:
        return Waiting(f"hold {fact.hold_id}")
    holds = {hold: why for hold, why in state.holds.items() if hold != fact.hold_id}
    freed = Phase.VALIDATED if state.validated_by else TRANSITIONS[Phase.HELD][OrderHoldReleased]
    return replace(state, phase=Phase.HELD if holds else freed, holds=holds)


def _allocated(state: OrderState, event: Event, fact: OrderAllocated) -> OrderState | Waiting:
    if fact.line_id not in _lines(state):
        return Waiting(f"line {fact.line_id}")
    pair = (fact.line_id, fact.location)
    allocation = Allocation(fact.quantity, event.time, event.event_id)
    return replace(state, allocations={**state.allocations, pair: allocation})


def _released(state: OrderState, event: Event, fact: OrderReleased) -> OrderState:
    told = {(fact.release_id, line.line_id): line.quantity for line in fact.lines}
    return replace(state, released={**state.released, **told})


def _cancel_requested(state: OrderState, event: Event, fact: OrderCancelRequested) -> OrderState:
    if fact.request_id in state.requests:
        return state
    cancel = Cancel(CancelStatus.REQUESTED, fact.lines, event.time, event.event_id)
    return replace(state, requests={**state.requests, fact.request_id: cancel})


def _cancel_answered(
    state: OrderState, event: Event, fact: OrderCancelAccepted | OrderCancelRejected
) -> OrderState | Waiting:
    cancel = state.requests.get(fact.request_id)
    if cancel is None:
        return Waiting(f"cancel request {fact.request_id}")
    status = CANCEL_TRANSITIONS[cancel.status].get(type(fact))
    if status is None:
        return state
    answered = replace(cancel, status=status, at=event.time, event=event.event_id)
    return replace(state, requests={**state.requests, fact.request_id: answered})


def _cancelled(state: OrderState, event: Event, fact: OrderCancelled) -> OrderState:
    if fact.cancel_id in state.cancels:
        return state
    cancel = Cancel(CancelStatus.ACCEPTED, fact.lines, event.time, event.event_id)
    return replace(state, cancels={**state.cancels, fact.cancel_id: cancel})


def _authorized(state: OrderState, event: Event, fact: PaymentAuthorized) -> OrderState:
    money, disagreement = _moved(state.authorized.get(fact.payment_id), event, fact)
    return replace(
        state,
        authorized={**state.authorized, fact.payment_id: money},
        disagreements=state.disagreements + disagreement,
    )


def _captured(state: OrderState, event: Event, fact: PaymentCaptured) -> OrderState:
    money, disagreement = _moved(state.captured.get(fact.payment_id), event, fact)
    return replace(
        state,
        captured={**state.captured, fact.payment_id: money},
        disagreements=state.disagreements + disagreement,
    )


def _refunded(state: OrderState, event: Event, fact: RefundIssued) -> OrderState:
    money, disagreement = _moved(state.refunded.get(fact.refund_id), event, fact)
    return replace(
        state,
        refunded={**state.refunded, fact.refund_id: money},
        disagreements=state.disagreements + disagreement,
    )


def _moved(
    known: Money | None, event: Event, fact: PaymentAuthorized | PaymentCaptured | RefundIssued
) -> tuple[Money, tuple[tuple[str, EventId], ...]]:
    """The same provider id is the same money, however many sources tell of it."""
    if known is None:
        return Money(fact.amount, fact.currency, event.time, (event.event_id,)), ()
    seen = replace(known, witnesses=(*known.witnesses, event.event_id))
    if (known.amount, known.currency) == (fact.amount, fact.currency):
        return seen, ()
    return seen, ((f"{fact.TYPE} says {fact.amount} {fact.currency}, not {known.amount}", event.event_id),)


def _return_requested(state: OrderState, event: Event, fact: ReturnRequested) -> OrderState:
    if fact.return_id in state.returns:
        return state
    asked = {line.line_id: line.quantity for line in fact.lines}
    opened = Return(ReturnStatus.REQUESTED, asked, {}, frozenset(), {}, event.time)
    return replace(state, returns={**state.returns, fact.return_id: opened})


def _return_moved(
    state: OrderState,
    event: Event,
    fact: ReturnApproved | ReturnDeclined | ReturnReceived | ReturnInspected | ReturnClosed,
) -> OrderState | Waiting:
    known = state.returns.get(fact.return_id)
    if known is None:
        return Waiting(f"return {fact.return_id} to be requested")
    status = RETURN_TRANSITIONS[known.status].get(type(fact))
    if status is None:
        if known.status.value == fact.TYPE.split(".")[-2].removeprefix("return-"):
            return state
        return Waiting(f"return {fact.return_id} to leave {known.status}")
    moved = replace(known, status=status)
    if isinstance(fact, ReturnReceived):
        if fact.receipt_id in known.receipts:
            return state
        receipts = known.receipts | {fact.receipt_id} if fact.receipt_id is not None else known.receipts
        received = dict(known.received)
        for line in fact.lines:
            received[line.line_id] = received.get(line.line_id, ZERO) + line.quantity
        moved = replace(moved, received=received, receipts=receipts)
    elif isinstance(fact, ReturnInspected):
        if fact.inspection_id in known.inspected:
            return state
        lines = tuple(
            Inspected(f"{fact.inspection_id}/{place}", line, event.time, event.event_id)
            for place, line in enumerate(fact.lines)
        )
        moved = replace(moved, inspected={**known.inspected, fact.inspection_id: lines})
    return replace(state, returns={**state.returns, fact.return_id: moved})


_EVOLVE: Mapping[type[Fact], Callable[[OrderState, Event, Any], OrderState | Waiting]] = {
    OrderPlaced: _placed,
    OrderAmended: _amended,
    OrderValidated: _validated,
    OrderHeld: _held,
    OrderHoldReleased: _hold_released,
    OrderAllocated: _allocated,
    OrderReleased: _released,
    OrderCancelRequested: _cancel_requested,
    OrderCancelAccepted: _cancel_answered,
    OrderCancelRejected: _cancel_answered,
    OrderCancelled: _cancelled,
    PaymentAuthorized: _authorized,
    PaymentCaptured: _captured,
    RefundIssued: _refunded,
    ReturnRequested: _return_requested,
    ReturnApproved: _return_moved,
    ReturnDeclined: _return_moved,
    ReturnReceived: _return_moved,
    ReturnInspected: _return_moved,
    ReturnClosed: _return_moved,
}


def _lines(state: OrderState) -> dict[str, OrderLine]:
    told = state.amended or state.placed
    return {} if told is None else {line.line_id: line for line in told.lines}


# --- inbox -----------------------------------------------------------------------------------------------


class Changes(NamedTuple):
    """What differs between two states of an order, where no more than this does."""

    lines: frozenset[str]
    """Lines allocated otherwise."""
    captures: frozenset[str]


NOTHING = Changes(frozenset(), frozenset())


@dataclass(slots=True)
class OrderInbox(Registers):
    """The words of neighbours, and what has changed since they were last spoken to and postings planned."""

    seen: OrderState | None = None
    view: OrderView | None = None
    """The last one, where no word has come since that could change its goods."""
    has_arrivals: bool = False
    """But goods that had left have come further."""
    unsaid: Changes | None = None
    """None: anything."""
    unplanned: Changes | None = None

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        if _is_on_its_way(old, new):
            self.has_arrivals = True
        else:
            self.unsaid = self.unplanned = self.view = None

    def follow(self, state: OrderState) -> None:
        found = None if self.seen is None else _changes(self.seen, state)
        self.seen = state
        self.unsaid, self.unplanned = _both(self.unsaid, found), _both(self.unplanned, found)

    def take_unsaid(self) -> Changes | None:
        found, self.unsaid = self.unsaid, NOTHING
        return found

    def take_unplanned(self) -> Changes | None:
        found, self.unplanned = self.unplanned, NOTHING
        return found


def _is_on_its_way(old: Value | None, new: Value | None) -> bool:
    """Goods that have left come further: nobody is told, and nothing is posted for it."""
    if not isinstance(old, ShipmentProgress) or not isinstance(new, ShipmentProgress):
        return False
    arrived = dataclasses.replace(
        old, delivered_at=new.delivered_at, returned_to_sender=new.returned_to_sender
    )
    return arrived == new


def _both(one: Changes | None, other: Changes | None) -> Changes | None:
    if one is None or other is None:
        return None
    return Changes(one.lines | other.lines, one.captures | other.captures)


def _changes(before: OrderState, after: OrderState) -> Changes | None:
    """Parts of a state that an event leaves alone are the very same objects in the next."""
    if not _are_the_same(_MATTERS, before, after):
        return None
    lines = _differing(before.allocations, after.allocations)
    captures = _differing(before.captured, after.captured)
    if lines is None or captures is None:
        return None
    return Changes(frozenset(line_id for line_id, _ in lines), frozenset(captures))


def _are_the_same(
    parts: Callable[[OrderState], tuple[Any, ...]], before: OrderState, after: OrderState
) -> bool:
    return all(map(is_, parts(before), parts(after)))


_MATTERS = attrgetter(
    "placed",
    "placed_at",
    "placed_by",
    "amended",
    "amended_at",
    "amended_by",
    "superseded",
    "freight",
    "freight_tax",
    "cancels",
    "requests",
    "refunded",
    "returns",
)
"""Parts that anything may follow from; other parts but allocations and captures say nothing to anyone."""
_ABOUT_GOODS = attrgetter(
    "placed",
    "amended",
    "amended_at",
    "superseded",
    "cancels",
    "requests",
    "allocations",
    "released",
    "returns",
)
"""Parts that quantities follow from."""
_TOUCHING = attrgetter("cancels", "requests", "allocations", "released", "returns")
"""Those of them without which a line is as it was ordered."""
K = TypeVar("K")


def _differing(before: Mapping[K, Any], after: Mapping[K, Any]) -> list[K] | None:
    """Members that are new or other; None where one is gone."""
    if before is after:
        return []
    found = [key for key, value in after.items() if before.get(key) is not value]
    was_there = sum(key in before for key in found)
    return found if len(after) - len(found) + was_there == len(before) else None


# --- view ------------------------------------------------------------------------------------------------


class LineView(Struct, gc=False):
    """Quantities of one line, in its unit. *shipped* includes substitutes and stops at the tolerance."""

    line: OrderLine
    ordered: Decimal
    cancelled: Decimal = ZERO
    allocated: Decimal = ZERO
    released: Decimal = ZERO
    picked: Decimal = ZERO
    shipped: Decimal = ZERO
    excess: Decimal = ZERO
    excess_back: Decimal = ZERO
    delivered: Decimal = ZERO
    invoiced: Decimal = ZERO
    returned: Decimal = ZERO
    accepted: Decimal = ZERO
    credited: Decimal = ZERO
    backordered: Decimal = ZERO
    substituted: dict[str, Decimal] = msgspec.field(default_factory=nothing)
    """Substitute SKU → quantity of it that shipped in place of the ordered one."""

    @property
    def open(self) -> Decimal:
        return max(ZERO, self.ordered - self.cancelled - self.shipped)

    @property
    def shipped_sku(self) -> str:
        """What the line is called when it is returned: its one substitute, where nothing else shipped."""
        only = [sku for sku, quantity in self.substituted.items() if quantity == self.shipped]
        return only[0] if only else self.line.sku

    @property
    def net_total(self) -> Decimal:
        return self.line.quantity * self.line.unit_price - self.line.discount


class ShippedPart(Struct, gc=False):
    """What one shipment took of one line."""

    line_id: str
    sku: str
    before: Decimal
    accepted: Decimal
    excess: Decimal
    cost: Decimal | None


class ShipmentPart(Struct, gc=False):
    shipment: TwinRef
    progress: ShipmentProgress
    parts: list[ShippedPart]


class ReturnPart(Struct, gc=False):
    """Goods of one line that one return brought back and inspection accepted."""

    return_id: str
    line_id: str
    before: Decimal
    quantity: Decimal
    goods: dict[tuple[str, str], Decimal]
    """(location, disposition) → quantity."""
    at: datetime
    """The last inspection."""
    causes: tuple[EventId, ...]


class Restock(NamedTuple):
    """Goods that one inspection put on a shelf."""

    sku: str
    location: str
    move: Moved


@dataclass(slots=True)
class OrderView:
    state: OrderState
    inbox: OrderInbox = field(repr=False)
    currency: str
    company: str
    lines: Mapping[str, LineView]
    policy: Policy
    shipments: tuple[ShipmentPart, ...] = ()
    """Dispatched ones, in order of dispatch."""
    known_shipments: tuple[TwinRef, ...] = ()
    returns: tuple[ReturnPart, ...] = ()
    restocks: tuple[Restock, ...] = ()
    reservations: dict[tuple[str, str], Decimal] = field(default_factory=nothing)
    """(line, location) → open allocated quantity."""
    taken: dict[tuple[str, str], Decimal] = field(default_factory=nothing)
    """(line, location) → allocated quantity that shipped from there."""
    short: dict[tuple[str, str], Decimal] = field(default_factory=nothing)
    """(line, location) → allocated there, and not in stock there."""
    missing: tuple[str, ...] = ()
    """Master data that is not known yet."""
    findings: tuple[Finding, ...] = ()
    """About goods."""


def view(ref: TwinRef, state: OrderState, inbox: OrderInbox, policy: Policy) -> OrderView:
    inbox.follow(state)
    known, arrivals = inbox.view, inbox.has_arrivals
    if known is not None and _are_the_same(_ABOUT_GOODS, known.state, state):
        seen = _with_the_same_goods(known, state, inbox if arrivals else None)
    else:
        seen = _seen_anew(ref, state, inbox, policy)
    inbox.view, inbox.has_arrivals = seen, False
    return seen


def _with_the_same_goods(known: OrderView, state: OrderState, arrived: Registers | None) -> OrderView:
    """*arrived*: where goods may have come further since."""
    seen = dataclasses.replace(known, state=state)
    if arrived is not None:
        seen.lines = {line_id: replace(line, delivered=ZERO) for line_id, line in known.lines.items()}
        seen.shipments = tuple(_come_further(seen, part, arrived) for part in known.shipments)
    return seen


def _come_further(seen: OrderView, known: ShipmentPart, inbox: Registers) -> ShipmentPart:
    word = inbox.value(known.shipment)
    assert isinstance(word, ShipmentProgress)
    if _is_delivered(word):
        for part in known.parts:
            if part.accepted:
                seen.lines[part.line_id].delivered += part.accepted
    return replace(known, progress=word)


def _seen_anew(ref: TwinRef, state: OrderState, inbox: OrderInbox, policy: Policy) -> OrderView:
    placed, shipments = state.placed, inbox.of(ShipmentProgress)
    is_touched = bool(shipments) or any(_TOUCHING(state)) or bool(inbox.of(Shortage))
    seen = OrderView(
        state,
        inbox,
        placed.currency if placed else "XXX",
        placed.company if placed else "main",
        compact({line_id: LineView(*wanted) for line_id, wanted in _wanted(state).items()}),
        policy,
    )
    if placed is None:
        seen.known_shipments = tuple(ref for ref, _ in shipments)
        return seen
    seen.missing = _missing(state, seen.lines, inbox) if policy.require_master_data else ()
    if state.superseded:
        _remember(seen)
    if not is_touched:
        return seen
    _ship(seen, shipments, policy)
    _cancel(seen)
    _allocate(seen, inbox)
    _bring_back(seen)
    return seen


def _wanted(state: OrderState) -> dict[str, tuple[OrderLine, Decimal]]:
    """Lines and how much of each is asked for now; one that was amended away stays, with none."""
    if state.placed is None:
        return {}
    if state.amended is None:
        return {line.line_id: (line, line.quantity) for line in state.placed.lines}
    wanted = {line.line_id: (line, ZERO) for line in state.placed.lines}
    for line_id, line in _lines(state).items():
        if line.quantity or line_id not in wanted:
            wanted[line_id] = (line, line.quantity)
    return wanted


def _remember(seen: OrderView) -> None:
    """Lines that nobody asks for now stay as the last amendment had them that did: goods may have left."""
    asked = {line_id for line_id, line in _lines(seen.state).items() if line.quantity}
    former: dict[str, LineView] = {}
    for line in chain.from_iterable(one.lines for one in seen.state.superseded):
        if line.quantity and line.line_id not in asked:
            former[line.line_id] = LineView(line, ZERO)
    if former:
        seen.lines = compact({**seen.lines, **former})


def _missing(state: OrderState, lines: Mapping[str, LineView], inbox: Registers) -> tuple[str, ...]:
    assert state.placed is not None
    skus = {view.line.sku for view in lines.values()}
    unknown = [_named(item(sku)) for sku in skus if not isinstance(inbox.value(item(sku)), _KNOWN)]
    unknown.sort()
    buyer = state.placed.customer_id
    if buyer is not None and not isinstance(inbox.value(customer(buyer)), CustomerCard):
        unknown.append(_named(customer(buyer)))
    return tuple(unknown)


_KNOWN = ItemKnown, ItemCard
"""The latter is what orders were told by earlier code."""


@lru_cache(maxsize=4_096)
def _named(ref: TwinRef) -> str:
    return f"{ref.kind} {ref.key}"


@lru_cache(maxsize=4_096)
def _waits_for(name: str) -> Finding:
    """One object for all orders that wait for the same."""
    return Finding("unknown-master-data", f"waits for {name}")


def _ship(seen: OrderView, progress: list[tuple[TwinRef, ShipmentProgress]], policy: Policy) -> None:
    """Count shipments in order of dispatch; each may take what is left of the tolerance."""
    seen.known_shipments = tuple(ref for ref, _ in progress)
    for _, word in progress:
        for pick in word.picks:
            if pick.line_id in seen.lines:
                seen.lines[pick.line_id].picked += pick.picked
    gone = [(word.dispatched_at, ref, word) for ref, word in progress if word.dispatched_at is not None]
    for _, ref, word in sorted(gone, key=lambda one: one[:2]):
        seen.shipments += (ShipmentPart(ref, word, _parts(seen, ref, word, policy)),)


def _parts(seen: OrderView, ref: TwinRef, word: ShipmentProgress, policy: Policy) -> list[ShippedPart]:
    found: list[ShippedPart] = []
    for shipped in sorted(word.shipped, key=lambda one: (one.line_id, one.sku)):
        line = seen.lines.get(shipped.line_id)
        if line is None:
            found.append(ShippedPart(shipped.line_id, shipped.sku, ZERO, ZERO, shipped.quantity, None))
            text = f"{ref} ships line {shipped.line_id}, which the order does not have"
            seen.findings += (Finding("unknown-line", text, word.causes),)
            continue
        covered = _covered(seen.state, line, word)
        most = covered + covered * policy.over_ship_tolerance
        accepted = max(ZERO, min(shipped.quantity, most - line.shipped))
        excess = shipped.quantity - accepted
        cost = None
        if shipped.unit_cost is not None:
            cost = rounded(shipped.unit_cost * accepted, seen.currency)
        found.append(ShippedPart(shipped.line_id, shipped.sku, line.shipped, accepted, excess, cost))
        _count(line, shipped.sku, accepted, excess, word)
        line.ordered = max(line.ordered, min(line.shipped, covered))
        if excess:
            text = f"{ref} ships {excess} of line {shipped.line_id} beyond the order and its tolerance"
            seen.findings += (Finding("over-shipped", text, word.causes),)
    return found


def _covered(state: OrderState, line: LineView, word: ShipmentProgress) -> Decimal:
    """What the order asked for when the goods left: a later amendment cannot unship them."""
    assert word.dispatched_at is not None
    if state.amended_at is None or state.amended_at <= word.dispatched_at:
        return line.ordered
    line_id, lines = line.line.line_id, _lines_before_amended(state, word.dispatched_at)
    then = next((one.quantity for one in lines if one.line_id == line_id), ZERO)
    return max(then, line.ordered)


def _lines_before_amended(state: OrderState, moment: datetime) -> tuple[OrderLine, ...]:
    """As they were at a *moment* before the amendment that counts."""
    assert state.placed is not None
    held = (one.lines for one in reversed(state.superseded) if one.since <= moment)
    return next(held, state.placed.lines)


def _count(line: LineView, sku: str, accepted: Decimal, excess: Decimal, word: ShipmentProgress) -> None:
    line.shipped += accepted
    line.excess += excess
    if sku != line.line.sku:
        line.substituted = line.substituted or {}
        line.substituted[sku] = line.substituted.get(sku, ZERO) + accepted
    if _is_delivered(word):
        line.delivered += accepted
    if word.goods_issue_digest is not None:
        line.invoiced += accepted


def _is_delivered(word: ShipmentProgress) -> bool:
    return word.delivered_at is not None and not word.returned_to_sender


def _cancel(seen: OrderView) -> None:
    """Apply accepted cancels; what has shipped stays shipped, and asks for a return instead."""
    cancels, requests = seen.state.cancels, seen.state.requests
    if not cancels and not requests:
        return
    asked: dict[str, Decimal] = {}
    whole = False
    for cancel in chain(cancels.values(), requests.values()):
        if cancel.status is not CancelStatus.ACCEPTED:
            continue
        whole |= cancel.lines is None
        for part in cancel.lines or ():
            asked[part.line_id] = asked.get(part.line_id, ZERO) + part.quantity
    for line_id, line in seen.lines.items():
        left = max(ZERO, line.ordered - line.shipped)
        wanted = asked.get(line_id, ZERO)
        line.cancelled = left if whole else min(left, wanted)
        if wanted > left and line.shipped:
            text = f"{wanted - left} of line {line_id} shipped before its cancel: a return is needed"
            seen.findings += (Finding("cancel-lost-race", text),)


def _allocate(seen: OrderView, inbox: Registers) -> None:
    if seen.state.allocations:
        _reserve(seen)
    for (_, line_id), quantity in seen.state.released.items():
        if line_id in seen.lines:
            seen.lines[line_id].released += quantity
    for source, shortage in inbox.of(Shortage):
        _, location = sku_and_location(source)
        seen.short = seen.short or {}
        for short in shortage.lines:
            if short.line_id in seen.lines:
                seen.lines[short.line_id].backordered += short.quantity
                seen.short[short.line_id, location] = short.quantity


def _reserve(seen: OrderView) -> None:
    seen.reservations, seen.taken = {}, {}
    shipped_from: dict[tuple[str, str], Decimal] = {}
    for shipment in seen.shipments:
        for part in shipment.parts:
            pair = (part.line_id, shipment.progress.location or "")
            shipped_from[pair] = shipped_from.get(pair, ZERO) + part.accepted
    left = {line_id: line.open for line_id, line in seen.lines.items()}
    for pair, allocation in _in_order(seen.state.allocations):
        line = seen.lines.get(pair[0])
        if line is None:
            continue
        quantity, still = allocation.quantity, left[pair[0]]
        line.allocated += quantity
        gone = shipped_from.get(pair, ZERO)
        if still > quantity - gone:
            still = max(ZERO, quantity - gone)
        left[pair[0]] -= still
        seen.reservations[pair] = still
        seen.taken[pair] = min(gone, quantity)


def _in_order(
    allocations: Mapping[tuple[str, str], Allocation],
) -> Iterable[tuple[tuple[str, str], Allocation]]:
    """What is open of a line goes to its locations by name; where there is but one, any order is the same."""
    several = len({location for _, location in allocations}) > 1
    return sorted(allocations.items()) if several else allocations.items()


def _bring_back(seen: OrderView) -> None:
    """Accept returned goods in order of the returns' requests, up to what shipped."""
    if not seen.state.returns:
        return
    for return_id, known in sorted(seen.state.returns.items(), key=lambda one: (one[1].at, one[0])):
        by_line: dict[str, list[Inspected]] = {}
        for one in chain.from_iterable(known.inspected.values()):
            by_line.setdefault(one.line.line_id, []).append(one)
        for line_id, inspected in sorted(by_line.items()):
            line = seen.lines.get(line_id)
            if line is not None:
                part = _returned_part(seen, return_id, line_id, line, inspected)
                if part.quantity:
                    seen.returns += (part,)
        for line_id, quantity in known.received.items():
            if line_id in seen.lines:
                line = seen.lines[line_id]
                line.returned = min(line.shipped, line.returned + quantity)


def _returned_part(
    seen: OrderView, return_id: str, line_id: str, line: LineView, inspected: list[Inspected]
) -> ReturnPart:
    before = line.accepted
    goods: dict[tuple[str, str], Decimal] = {}
    back: list[tuple[Inspected, Decimal, Decimal]] = []
    room, beyond = line.shipped - before, line.excess - line.excess_back
    for one in inspected:
        if one.line.disposition == "rejected":
            continue
        fits = min(room, one.line.quantity)
        excess = min(beyond, one.line.quantity - fits)
        room, beyond = room - fits, beyond - excess
        back.append((one, fits, excess))
        if fits + excess < one.line.quantity:
            more = one.line.quantity - fits - excess
            text = f"{return_id} returns {more} of line {line_id} more than shipped"
            seen.findings += (Finding("over-returned", text, (one.event,)),)
        if fits:
            pair = (one.line.location, one.line.disposition.value)
            goods[pair] = goods.get(pair, ZERO) + fits
    quantity = sum(goods.values(), ZERO)
    causes = tuple(sorted({one.event for one in inspected}))
    at = max(one.at for one in inspected)
    part = ReturnPart(return_id, line_id, before, quantity, goods, at, causes)
    seen.restocks += tuple(_restocks(seen, part, line.excess_back, back))
    line.accepted += quantity
    line.excess_back = line.excess - beyond
    credited = min(quantity, max(ZERO, line.invoiced - before))
    line.credited += credited
    return part


def _restocks(
    seen: OrderView, part: ReturnPart, excess_before: Decimal, back: list[tuple[Inspected, Decimal, Decimal]]
) -> Iterator[Restock]:
    """Where inspections put what they accepted, and what had shipped beyond the order.

    *back*: with how much of each. What it is follows from how it left, as its cost does.
    """
    went = _went(seen, part.line_id)
    covered, excess = [(one.sku, one.accepted) for one in went], [(one.sku, one.excess) for one in went]
    position, start = {}, part.before
    for pair, quantity in sorted(part.goods.items()):
        position[pair], start = start, start + quantity
    for one, fits, more in back:
        pair = (one.line.location, one.line.disposition.value)
        moved: dict[str, Decimal] = {}
        start = position.get(pair, ZERO)
        for sku, many in chain(_next_of(covered, start, fits), _next_of(excess, excess_before, more)):
            moved[sku] = moved.get(sku, ZERO) + many
        position[pair] = start + fits
        excess_before += more
        if one.line.disposition != "scrap":
            for sku, many in moved.items():
                move = Moved(f"{part.return_id}/{one.name}", one.line.disposition.value, plain(many), one.at)
                yield Restock(sku, one.line.location, move)


def _went(seen: OrderView, line_id: str) -> list[ShippedPart]:
    return [part for shipment in seen.shipments for part in shipment.parts if part.line_id == line_id]


def _next_of(
    went: Iterable[tuple[str, Decimal]], before: Decimal, quantity: Decimal
) -> Iterator[tuple[str, Decimal]]:
    """The *quantity* that comes after what came *before*, by SKU: what left first comes back first."""
    start = ZERO
    for sku, many in went:
        end = start + many
        taken = min(end, before + quantity) - max(start, before)
        if taken > 0:
            yield sku, taken
        start = end


def _other_findings(seen: OrderView) -> Iterator[Finding]:
    captured, refunded = _paid(seen), _given_back(seen)
    if refunded > captured:
        text = f"refunded {refunded} {seen.currency}, captured only {captured}"
        yield Finding("refund-exceeds-payment", text)
    yield from _of_other_currencies(seen)
    for text, event in seen.state.disagreements:
        yield Finding("sources-disagree", text, (event,))
    for name in seen.missing:
        yield _waits_for(name)
    for hold_id, (reason, event) in sorted(seen.state.holds.items()):
        yield Finding("held", f"hold {hold_id}: {reason}", (event,))
    for line_id in sorted(line_id for line_id, line in seen.lines.items() if line.backordered):
        line = seen.lines[line_id]
        text = f"{line.backordered} of line {line_id} ({line.line.sku}) is allocated but not in stock"
        yield Finding("backordered", text)


def _paid(seen: OrderView) -> Decimal:
    return _sum(seen.state.captured, seen.currency)


def _given_back(seen: OrderView) -> Decimal:
    return _sum(seen.state.refunded, seen.currency)


def _sum(moves: Mapping[str, Money], currency: str) -> Decimal:
    return sum((money.amount for money in moves.values() if money.currency == currency), ZERO)


def _open_currencies(seen: OrderView) -> list[str]:
    """Other than the order's, of which more came in than went back, or less."""
    told = chain(seen.state.captured.values(), seen.state.refunded.values())
    others = {money.currency for money in told if money.currency != seen.currency}
    return [one for one in others if _sum(seen.state.captured, one) != _sum(seen.state.refunded, one)]


def _of_other_currencies(seen: OrderView) -> Iterator[Finding]:
    open_ones = _open_currencies(seen)
    for what, moves in (("payment-captured", seen.state.captured), ("refund-issued", seen.state.refunded)):
        for provider_id, money in sorted(moves.items()) if open_ones else ():
            if money.currency in open_ones:
                text = f"{what} {provider_id}: currency is {money.currency}, the order's is {seen.currency}"
                yield Finding("other-currency", text, money.witnesses)


# --- status ----------------------------------------------------------------------------------------------


FINAL = frozenset({"closed", "cancelled"})


def status(seen: OrderView) -> str:
    """The header, from the lines; the furthest that all or some of them have come."""
    state = seen.state
    if state.placed is None:
        return "provisional"
    ordered = cancelled = ZERO
    is_shipped = is_open = is_arrived = is_on_its_way = False
    for line in seen.lines.values():
        ordered += line.ordered
        cancelled += line.cancelled
        is_shipped |= line.shipped > 0
        is_open |= line.open > 0
        is_arrived |= line.delivered > 0
        is_on_its_way |= line.delivered < line.ordered - line.cancelled
    wanted = ordered - cancelled
    if ordered and not wanted:
        return "cancelled"
    if is_shipped:
        if is_open:
            return "partly-shipped"
        if is_on_its_way:
            return "partly-delivered" if is_arrived else "shipped"
        return "closed" if _settled(seen) else "delivered"
    return _before_shipping(seen, wanted)


def _before_shipping(seen: OrderView, wanted: Decimal) -> str:
    if seen.state.phase is Phase.HELD or seen.missing:
        return "held"
    if any(line.released for line in seen.lines.values()):
        return "released"
    if wanted and sum((line.allocated for line in seen.lines.values()), ZERO) >= wanted:
        return "allocated"
    return seen.state.phase.value


def _settled(seen: OrderView) -> bool:
    """Nothing owed either way, in any currency, and no return on its way."""
    done = {ReturnStatus.DECLINED, ReturnStatus.CLOSED}
    if balance_due(seen) != 0 or _open_currencies(seen):
        return False
    return all(known.status in done for known in seen.state.returns.values())


def balance_due(seen: OrderView) -> Decimal:
    """Invoiced less credited less paid plus refunded, in the order's currency."""
    billed = sum((_invoice_total(seen, shipment) for shipment in seen.shipments), ZERO)
    credited = sum((sum(_credit_amounts(seen, part), ZERO) for part in seen.returns), ZERO)
    return billed - credited - _paid(seen) + _given_back(seen)


def payment_status(seen: OrderView) -> str:
    captured, refunded = _paid(seen), _given_back(seen)
    if refunded:
        return "refunded" if refunded >= captured else "partly-refunded"
    if captured:
        return "paid"
    return "authorized" if seen.state.authorized else "unpaid"


def invoice_status(seen: OrderView) -> str:
    invoiced = sum((line.invoiced for line in seen.lines.values()), ZERO)
    shipped = sum((line.shipped for line in seen.lines.values()), ZERO)
    if not invoiced:
        return "not-invoiced"
    return "invoiced" if invoiced >= shipped else "partly-invoiced"


# --- contributions ---------------------------------------------------------------------------------------


def contributions(ref: TwinRef, seen: OrderView) -> dict[TwinRef, Value]:
    state = seen.state
    found: dict[TwinRef, Value] = {}
    if state.placed is None:
        return found
    found |= _to_stocks(seen)
    found |= _to_shipments(seen)
    return found | asks(state)


def asks(state: OrderState) -> dict[TwinRef, Value]:
    """For master data, and for what returns have heard."""
    if state.placed is None:
        return {}
    found: dict[TwinRef, Value] = {item(line.sku): INTEREST for line, _ in _wanted(state).values()}
    if state.placed.customer_id is not None:
        found[customer(state.placed.customer_id)] = INTEREST
    for return_id in state.returns:
        found[return_(return_id)] = BINDING
    return found


def changed_contributions(ref: TwinRef, seen: OrderView) -> Mapping[TwinRef, Value | None] | None:
    """To the shelves of lines that are allocated otherwise, where nothing else has changed."""
    changes = seen.inbox.take_unsaid()
    if changes is None or seen.state.placed is None:
        return None
    skus = {seen.lines[line_id].line.sku for line_id in changes.lines if line_id in seen.lines}
    return _to_stocks(seen, skus) if skus else {}


def _to_stocks(seen: OrderView, skus: Collection[str] | None = None) -> dict[TwinRef, Value]:
    """*skus*: those alone."""
    reserved: dict[TwinRef, list[ReservedLine]] = {}
    restocked: dict[TwinRef, list[Moved]] = {}
    for (line_id, location), quantity in seen.reservations.items():
        sku = seen.lines[line_id].line.sku
        if skus is not None and sku not in skus:
            continue
        target = stock(sku, location)
        at = seen.state.allocations[line_id, location].at
        reserved.setdefault(target, [])
        if quantity:
            reserved[target].append(ReservedLine(line_id, plain(quantity), at))
    for sku, location, move in seen.restocks:
        if skus is None or sku in skus:
            restocked.setdefault(stock(sku, location), []).append(move)
    return {
        target: Reservations(tuple(sorted(reserved.get(target, ()))), tuple(restocked.get(target, ())))
        for target in sorted(reserved.keys() | restocked.keys())
    }


def _to_shipments(seen: OrderView) -> dict[TwinRef, Value]:
    if seen.missing:
        return {}
    causes = seen.state.placed_by[:1] + ((seen.state.amended_by,) if seen.state.amended_by else ())
    accepted = {
        part.shipment: tuple(
            AcceptedLine(one.line_id, one.sku, plain(one.accepted), plain(one.excess)) for one in part.parts
        )
        for part in seen.shipments
    }
    return {
        shipment: Acceptance(seen.company, seen.currency, accepted.get(shipment, ()), causes)
        for shipment in seen.known_shipments
    }


# --- postings --------------------------------------------------------------------------------------------


def postings(ref: TwinRef, seen: OrderView) -> dict[PostingKey, Posting]:
    if seen.state.placed is None:
        return {}
    found: list[Posting] = [*_reserves(ref, seen), *_payments(ref, seen)]
    if not seen.missing:
        found += _invoices(ref, seen)
        found += _return_postings(ref, seen)
    return {posting.key: posting for posting in found}


def changed_postings(
    ref: TwinRef, seen: OrderView, inbox: OrderInbox
) -> Mapping[PostingKey, Posting | None] | None:
    """Reservations of lines that are allocated otherwise, and captures, where nothing else has changed."""
    changes = inbox.take_unplanned()
    if changes is None or seen.state.placed is None:
        return None
    found: list[Posting] = [*_reserves(ref, seen, changes.lines), *_payments(ref, seen, changes.captures)]
    named: dict[PostingKey, Posting | None] = {
        posting_key("reserve", ref.key, line_id, location): None
        for line_id, location in seen.reservations
        if line_id in changes.lines
    }
    return {**named, **{posting.key: posting for posting in found}}


def _reserves(ref: TwinRef, seen: OrderView, lines: Collection[str] | None = None) -> list[Posting]:
    """What was allocated and has shipped from there, or is open and in stock; a goods issue consumes it.

    *lines*: of those alone.
    """
    found: list[Posting] = []
    for (line_id, location), still in sorted(seen.reservations.items()):
        if lines is not None and line_id not in lines:
            continue
        open_there = max(ZERO, still - seen.short.get((line_id, location), ZERO))
        quantity = open_there + seen.taken[line_id, location]
        allocation = seen.state.allocations[line_id, location]
        if quantity:
            found.append(
                ReserveStock(
                    key=posting_key("reserve", ref.key, line_id, location),
                    event_date=allocation.at.date(),
                    company=seen.company,
                    currency=seen.currency,
                    justified_by=(allocation.event,),
                    order_id=ref.key,
                    line_id=line_id,
                    sku=seen.lines[line_id].line.sku,
                    location=location,
                    quantity=quantity,
                )
            )
    return found


def _payments(ref: TwinRef, seen: OrderView, captures: Collection[str] | None = None) -> list[Posting]:
    """*captures*: those alone, besides the refunds."""
    found: list[Posting] = [
        PostPayment(
            key=posting_key("payment", payment_id, ref.key),
            event_date=money.at.date(),
            company=seen.company,
            currency=money.currency,
            justified_by=money.witnesses,
            order_id=ref.key,
            payment_id=payment_id,
            amount=rounded(money.amount, money.currency),
        )
        for payment_id, money in sorted(seen.state.captured.items())
        if captures is None or payment_id in captures
    ]
    found += [
        PostRefund(
            key=posting_key("refund", refund_id, ref.key),
            event_date=money.at.date(),
            company=seen.company,
            currency=money.currency,
            justified_by=money.witnesses,
            order_id=ref.key,
            refund_id=refund_id,
            amount=rounded(money.amount, money.currency),
        )
        for refund_id, money in sorted(seen.state.refunded.items())
    ]
    return found


def _invoice_key(ref: TwinRef, shipment: TwinRef) -> PostingKey:
    return posting_key("invoice", shipment.key, ref.key)


def _invoices(ref: TwinRef, seen: OrderView) -> list[Posting]:
    found: list[Posting] = []
    for shipment in seen.shipments:
        digest, at = shipment.progress.goods_issue_digest, shipment.progress.dispatched_at
        lines = tuple(_invoice_line(seen, part) for part in shipment.parts if part.accepted)
        if digest is None or at is None or not lines:
            continue
        freight, freight_tax = _freight_share(seen, shipment)
        found.append(
            PostInvoice(
                key=_invoice_key(ref, shipment.shipment),
                event_date=at.date(),
                company=seen.company,
                currency=seen.currency,
                justified_by=(*seen.state.placed_by[:1], *shipment.progress.causes),
                requires=(posting_key("goods-issue", shipment.shipment.key),),
                order_id=ref.key,
                shipment_id=shipment.shipment.key,
                customer_id=seen.state.placed.customer_id if seen.state.placed else None,
                lines=lines,
                freight=freight,
                freight_tax=freight_tax,
                goods_issue_digest=digest,
            )
        )
    return found


def _invoice_line(seen: OrderView, part: ShippedPart) -> InvoiceLine:
    line = seen.lines[part.line_id]
    net, tax = (
        share(whole, part.before, part.accepted, line.line.quantity or line.ordered, seen.currency)
        for whole in (line.net_total, line.line.tax)
    )
    return InvoiceLine(part.line_id, part.sku, part.accepted, net, tax, part.cost)


def _freight(seen: OrderView) -> tuple[Decimal, Decimal]:
    """Freight and the tax on it, as the last revision that says so has them."""
    state, placed = seen.state, seen.state.placed
    assert placed is not None
    freight = placed.freight if state.freight is None else state.freight
    tax = placed.freight_tax if state.freight_tax is None else state.freight_tax
    return freight, tax


def order_total(seen: OrderView) -> Decimal:
    """What the customer ordered comes to, tax and freight included, in the order's currency."""
    lines = (LineView(line, line.quantity).net_total + line.tax for line in _lines(seen.state).values())
    return plain(sum(lines, ZERO) + sum(_freight(seen), ZERO))


def _freight_share(seen: OrderView, shipment: ShipmentPart) -> tuple[Decimal, Decimal]:
    """Freight in proportion to what is not cancelled; an over-shipment within the tolerance adds none.

    Or, as the policy has it, all of it with the shipment that is the last.
    """
    freight, tax = _freight(seen)
    wanted = {line_id: line.ordered - line.cancelled for line_id, line in seen.lines.items()}
    total, shipped = sum(wanted.values(), ZERO), dict.fromkeys(wanted, ZERO)
    before = after = ZERO
    for one in seen.shipments:
        before = after
        for taken in one.parts:
            if taken.accepted:  # of a line that was ordered
                shipped[taken.line_id] += taken.accepted
        after = sum(map(min, shipped.values(), wanted.values()), ZERO)
        if one is shipment:
            break
    before, after = (_charged_for(seen.policy, charged, total) for charged in (before, after))
    part = after - before
    return share(freight, before, part, total, seen.currency), share(tax, before, part, total, seen.currency)


def _charged_for(policy: Policy, shipped: Decimal, total: Decimal) -> Decimal:
    """Of how much of *total* the freight is charged once so much of it has shipped."""
    match policy.freight_charge:
        case FreightCharge.PRORATED:
            return shipped
        case FreightCharge.FINAL_SHIPMENT:
            return shipped if shipped == total else ZERO
    assert_never(policy.freight_charge)


def _invoice_total(seen: OrderView, shipment: ShipmentPart) -> Decimal:
    if shipment.progress.goods_issue_digest is None:
        return ZERO
    lines = [_invoice_line(seen, part) for part in shipment.parts if part.accepted]
    return sum((line.net + line.tax for line in lines), sum(_freight_share(seen, shipment), ZERO))


def _return_postings(ref: TwinRef, seen: OrderView) -> list[Posting]:
    """A receipt for all accepted goods; a credit note for those of them that were invoiced."""
    found: list[Posting] = []
    for part in seen.returns:
        line = seen.lines[part.line_id]
        suppliers = [one for one, _ in _suppliers(seen, part.line_id, part.before, part.quantity)]
        if not all(one.progress.goods_issue_digest for one in suppliers):
            continue
        found.append(_return_receipt(ref, seen, line, part, suppliers))
        found.append(_credit_note(ref, seen, line, part, suppliers))
    return found


def _suppliers(
    seen: OrderView, line_id: str, before: Decimal, quantity: Decimal
) -> list[tuple[ShipmentPart, ShippedPart]]:
    """Where goods that come back came from: what left first comes back first."""
    return [
        (shipment, part)
        for shipment in seen.shipments
        for part in shipment.parts
        if part.line_id == line_id
        and part.accepted
        and part.before < before + quantity
        and before < part.before + part.accepted
    ]


def _original_cost(
    seen: OrderView, line_id: str, before: Decimal, quantity: Decimal, sku: str | None = None
) -> Decimal | None:
    """What returned goods cost when they left. *sku*: those of it alone."""
    cost = ZERO
    for _, part in _suppliers(seen, line_id, before, quantity):
        if sku is not None and part.sku != sku:
            continue
        if part.cost is None:
            return None
        start = max(ZERO, before - part.before)
        end = min(part.accepted, before + quantity - part.before)
        cost += share(part.cost, start, end - start, part.accepted, seen.currency)
    return cost


def _return_receipt(
    ref: TwinRef, seen: OrderView, line: LineView, part: ReturnPart, suppliers: list[ShipmentPart]
) -> PostReturnReceipt:
    goods: list[ReturnedGoods] = []
    before = part.before
    went = [(one.sku, one.accepted) for one in _went(seen, part.line_id)]
    for (location, disposition), quantity in sorted(part.goods.items()):
        by_sku: dict[str, Decimal] = {}
        for sku, many in _next_of(went, before, quantity):
            by_sku[sku] = by_sku.get(sku, ZERO) + many
        for sku, many in sorted(by_sku.items()):
            goods.append(
                ReturnedGoods(
                    location=location,
                    disposition=disposition,
                    quantity=many,
                    cost=_original_cost(seen, part.line_id, before, quantity, sku),
                    sku=None if sku == line.shipped_sku else sku,
                )
            )
        before += quantity
    return PostReturnReceipt(
        key=posting_key("return-receipt", part.return_id, part.line_id, ref.key),
        event_date=part.at.date(),
        company=seen.company,
        currency=seen.currency,
        justified_by=part.causes,
        requires=tuple(posting_key("goods-issue", one.shipment.key) for one in suppliers),
        order_id=ref.key,
        return_id=part.return_id,
        line_id=part.line_id,
        sku=line.shipped_sku,
        goods=tuple(goods),
    )


def _credit_amounts(seen: OrderView, part: ReturnPart) -> tuple[Decimal, Decimal]:
    line = seen.lines[part.line_id]
    whole = line.line.quantity or line.ordered
    return (
        share(line.net_total, part.before, part.quantity, whole, seen.currency),
        share(line.line.tax, part.before, part.quantity, whole, seen.currency),
    )


def _credit_note(
    ref: TwinRef, seen: OrderView, line: LineView, part: ReturnPart, suppliers: list[ShipmentPart]
) -> PostCreditNote:
    net, tax = _credit_amounts(seen, part)
    return PostCreditNote(
        key=posting_key("credit-note", part.return_id, part.line_id, ref.key),
        event_date=part.at.date(),
        company=seen.company,
        currency=seen.currency,
        justified_by=part.causes,
        requires=tuple(_invoice_key(ref, one.shipment) for one in suppliers),
        order_id=ref.key,
        return_id=part.return_id,
        line_id=part.line_id,
        customer_id=seen.state.placed.customer_id if seen.state.placed else None,
        sku=line.shipped_sku,
        quantity=part.quantity,
        net=net,
        tax=tax,
        cost=_original_cost(seen, part.line_id, part.before, part.quantity),
    )


# --- what people see -------------------------------------------------------------------------------------


def findings(ref: TwinRef, seen: OrderView) -> tuple[Finding, ...]:
    if seen.state.placed is None:
        return ()
    return seen.findings + tuple(_other_findings(seen))


def document(ref: TwinRef, seen: OrderView) -> dict[str, Any]:
    state, placed = seen.state, seen.state.placed
    return {
        "order_id": ref.key,
        "customer_id": placed.customer_id if placed else None,
        "reference": placed.reference if placed else None,
        "channel": placed.channel if placed else None,
        "company": seen.company,
        "currency": seen.currency if placed else None,
        "total": order_total(seen) if placed else None,
        "placed_at": state.placed_at,
        "revision": max(state.revision, 0),
        "payment": {
            "status": payment_status(seen),
            "captured": _paid(seen),
            "refunded": _given_back(seen),
            "balance_due": balance_due(seen),
            "captures": _moves(state.captured),
            "refunds": _moves(state.refunded),
        },
        "invoicing": invoice_status(seen),
        "holds": {hold: reason for hold, (reason, _) in sorted(state.holds.items())},
        "cancels": {key: cancel.status.value for key, cancel in _cancels(state)},
        "lines": [_line_document(line_id, line) for line_id, line in sorted(seen.lines.items())],
        "shipments": [str(shipment) for shipment in sorted(seen.known_shipments)],
        "returns": {
            return_id: {"status": _return_status(seen, return_id, known), "received": dict(known.received)}
            for return_id, known in sorted(state.returns.items())
        },
    }


def _moves(moves: Mapping[str, Money]) -> dict[str, dict[str, Any]]:
    return {
        provider_id: {
            "amount": money.amount,
            "currency": money.currency,
            "at": money.at,
            "witnesses": list(money.witnesses),
        }
        for provider_id, money in sorted(moves.items())
    }


def _cancels(state: OrderState) -> list[tuple[str, Cancel]]:
    """By id; of one that is a request's and a cancel's, the request comes first."""
    return sorted((*state.requests.items(), *state.cancels.items()), key=lambda one: one[0])


def _return_status(seen: OrderView, return_id: str, known: Return) -> str:
    credited = any(part.return_id == return_id for part in seen.returns)
    return "credited" if credited and known.status is ReturnStatus.INSPECTED else known.status.value


_QUANTITIES = [
    "ordered",
    "cancelled",
    "allocated",
    "released",
    "picked",
    "shipped",
    "excess",
    "delivered",
    "invoiced",
    "returned",
    "accepted",
    "credited",
    "backordered",
    "open",
]


def _line_document(line_id: str, line: LineView) -> dict[str, Any]:
    quantities = {name: getattr(line, name) for name in _QUANTITIES}
    substituted = {"substituted_by": dict(sorted(line.substituted.items()))} if line.substituted else {}
    return {"line_id": line_id, "sku": line.line.sku, "unit": line.line.unit, **quantities, **substituted}


def explain(ref: TwinRef, seen: OrderView) -> tuple[str, ...]:
    state = seen.state
    if state.placed is None:
        return ("Other twins speak of this order, but nobody has said that it was placed.",)
    said = [f"Placed {state.placed_at:%Y-%m-%d %H:%M}, told by {', '.join(state.placed_by)}."]
    if state.amended is not None:
        said.append(f"Revision {state.revision} of its lines counts ({state.amended_by}).")
    for shipment in seen.shipments:
        word = shipment.progress
        goods = ", ".join(f"{part.accepted} × {part.sku} (line {part.line_id})" for part in shipment.parts)
        arrived = f"delivered {word.delivered_at:%m-%d %H:%M}" if word.delivered_at else "not yet delivered"
        said.append(f"{shipment.shipment} took {goods} on {word.dispatched_at:%m-%d %H:%M}; {arrived}.")
        if word.goods_issue_digest is None:
            said.append(f"{shipment.shipment} has no goods issue yet, so it is not invoiced.")
    for key, cancel in _cancels(state):
        what = "everything not shipped" if cancel.lines is None else f"{len(cancel.lines)} lines"
        said.append(f"Cancel {key} of {what}: {cancel.status} ({cancel.event}).")
    said.extend(
        f"Return {part.return_id} brought back {part.quantity} of line {part.line_id}."
        for part in seen.returns
    )
    said.append(f"Balance due: {balance_due(seen)} {seen.currency}; payment {payment_status(seen)}.")
    return tuple(said)


def waits(seen: OrderView) -> tuple[str, ...]:
    said = list(seen.missing)
    if seen.state.placed is None:
        return ("the order to be placed",)
    said += [f"hold {hold} to be released" for hold in sorted(seen.state.holds)]
    said += [
        f"the warehouse to answer cancel {key}"
        for key, cancel in sorted(seen.state.requests.items())
        if cancel.status is CancelStatus.REQUESTED
    ]
    said += [
        f"the goods issue of {shipment.shipment}"
        for shipment in seen.shipments
        if shipment.progress.goods_issue_digest is None
    ]
    if any(line.backordered for line in seen.lines.values()):
        said.append("goods in stock")
    return tuple(said)


RULES: Rules[OrderState, OrderInbox, OrderView] = Rules(
    initial=OrderState(),
    evolve=evolve,
    inbox=OrderInbox,
    view=view,
    status=status,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    waits=waits,
    final=FINAL,
    asks=asks,
    changed_contributions=changed_contributions,
    changed_postings=changed_postings,
    labels=lambda ref, seen: {"customer_id": seen.state.placed.customer_id if seen.state.placed else None},
)
