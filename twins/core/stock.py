"""The stock of one SKU at one location.

Rules
- ``on hand = last count + movements dated after it``, for each status. A late movement dated before a count
  changes nothing now; it changes the variance that the count posted.
- Shipments and returns move stock by contribution; receipts, adjustments and transfers by their own events.
- Reservations are granted in order of their allocation. What exceeds the goods falls back on the last ones:
  the explicit backorder bucket. Nothing is oversold, and a negative on-hand is shown, never hidden.
- An opening count posts nothing: the ERP has it already.
- A posting is in the currency of the item's cost at its moment.
- A document told by a second source has a second witness, and moves nothing again.
- Any number of movements, counts and reservations: what one event changes costs the same among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from rpds import HashTrieMap
from sortedcontainers import SortedDict, SortedKeyList

from canonical.envelope import Event
from canonical.errors import InvariantViolated
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
from canonical.identity import EventId, Kind, PostingKey, TwinRef, item, posting_key, sku_and_location, stock
from canonical.money import ZERO, rounded
from canonical.postings import Posting, PostStockAdjustment, PostTransfer
from canonical.types import plain
from twins.core.contributions import (
    INTEREST,
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
from twins.core.rules import FEW, NOTHING, Around, Few, Finding, Inbox, Policy, Rules, compact
from twins.core.trail import Trail, between

TRANSITIONS: Mapping[StockStatus, Mapping[type[Fact], tuple[StockStatus, ...]]] = {
    status: {StockStatusChanged: tuple(other for other in StockStatus if other is not status)}
    for status in StockStatus
}
"""Goods may change from each status to each other."""


# --- state -----------------------------------------------------------------------------------------------


class Count(NamedTuple):
    """A count, what the count before it said, and what the twin's own movements in between add up to."""

    count_id: str
    status: StockStatus
    quantity: Decimal
    opening: bool
    at: datetime
    boundary: datetime
    """Movements up to then are in it: never earlier than the one of the count before, whatever clocks say."""
    before: str | None
    """The count before it, and its boundary and quantity."""
    since: datetime | None
    base: Decimal
    own: Decimal
    witnesses: tuple[EventId, ...]


class Adjustment(NamedTuple):
    status: StockStatus
    quantity: Decimal
    at: datetime
    witnesses: tuple[EventId, ...]


class Leg(NamedTuple):
    transfer_id: str
    leg: Literal["out", "in"]
    other: str
    quantity: Decimal
    at: datetime
    witnesses: tuple[EventId, ...]


class Movement(NamedTuple):
    """A receipt or a change of status: it moves stock, and the ERP hears of it elsewhere, or not at all."""

    status: StockStatus
    quantity: Decimal
    witnesses: tuple[EventId, ...]


Document = Count | Adjustment | Leg | Movement


class Inbound(NamedTuple):
    quantity: Decimal
    due: datetime


@dataclass(frozen=True, slots=True)
class StockState:
    documents: Mapping[str, Document] = field(default_factory=Few)
    """By kind and the id that sources give them: whoever tells of one again is a witness."""
    last: Mapping[StockStatus, str] = field(default_factory=Few)
    """Status → its last count."""
    since: Mapping[StockStatus, Decimal] = field(default_factory=Few)
    """Own movements after the last count, by status."""
    sent: Mapping[str, Decimal] = field(default_factory=Few)
    """Location → all that was ever transferred there."""
    arrived: Decimal = ZERO
    """All that ever came by transfer."""
    safety: Decimal = ZERO
    inbound: Mapping[str, Inbound] = field(default_factory=Few)
    disagreements: tuple[tuple[str, EventId], ...] = ()
    trail: Trail = field(default_factory=Trail, compare=False)

    def last_count(self, status: StockStatus) -> Count | None:
        name = self.last.get(status)
        found = self.documents[name] if name is not None else None
        assert found is None or isinstance(found, Count)
        return found


_UNTOLD = StockState()


def _with(documents: Mapping[str, Document], name: str, document: Document) -> Mapping[str, Document]:
    if isinstance(documents, HashTrieMap):
        return documents.insert(name, document)
    both = {**documents, name: document}
    return compact(both) if len(both) <= FEW else HashTrieMap(both)


# --- evolve ----------------------------------------------------------------------------------------------


def evolve(state: StockState, event: Event) -> StockState:
    """Every stock fact carries its own document id: a second telling of the same document adds nothing."""
    name: str
    document: Document
    moves: _Deltas
    match event.fact:
        case SafetyStockSet(quantity=quantity):
            return replace(state, safety=quantity)
        case InboundExpected() as fact:
            expected = Inbound(fact.quantity, fact.due)
            return replace(state, inbound={**state.inbound, fact.inbound_id: expected})
        case StockCounted() as fact:
            name, document, moves = f"count/{fact.status}/{fact.count_id}", _count(state, event, fact), ()
        case _:
            name, document, moves = _moving(event)
    known = state.documents.get(name)
    if known is not None:
        return _witnessed(state, event, name, known, document)
    return _filed(state, name, document, moves)


_Deltas = tuple[tuple[StockStatus, Decimal], ...]


def _moving(event: Event) -> tuple[str, Document, _Deltas]:
    """Name and content of a document that moves stock, and what it moves."""
    told, fact = (event.event_id,), event.fact
    match fact:
        case StockAdjusted(status=status, delta=delta):
            adjustment = Adjustment(status, delta, event.time, told)
            return f"adjustment/{fact.adjustment_id}", adjustment, ((status, delta),)
        case StockReceived(status=status, quantity=quantity):
            return f"receipt/{fact.receipt_id}", Movement(status, quantity, told), ((status, quantity),)
        case StockStatusChanged(from_status=origin, to_status=goal, quantity=quantity):
            movement = Movement(goal, quantity, told)
            return f"change/{fact.change_id}", movement, ((origin, -quantity), (goal, quantity))
        case TransferredOut(transfer_id=transfer_id, quantity=quantity):
            leg = Leg(transfer_id, "out", fact.to_location, quantity, event.time, told)
            return f"leg/{transfer_id}/out", leg, ((StockStatus.SELLABLE, -quantity),)
        case TransferredIn(transfer_id=transfer_id, quantity=quantity):
            leg = Leg(transfer_id, "in", fact.from_location, quantity, event.time, told)
            return f"leg/{transfer_id}/in", leg, ((StockStatus.SELLABLE, quantity),)
        case _:
            raise InvariantViolated(f"{event.type} is no fact about stock")


def slip_in(
    latest: StockState, event: Event, around: Around[StockState]
) -> Callable[[StockState], StockState] | None:
    """A late movement is on hand now, or for the next count to find; a late count comes between two."""
    if isinstance(event.fact, StockCounted):
        return _slip_count(latest, event, event.fact, around)
    if not isinstance(event.fact, _MOVING):
        return None
    name, document, moves = _moving(event)
    if name in latest.documents:
        return None
    following = [(status, delta, _first_count_after(latest, status, around)) for status, delta in moves]

    def slip(state: StockState) -> StockState:
        after = tuple((status, delta) for status, delta, count in following if count not in state.documents)
        slipped = _filed(state, name, document, after)
        for _, delta, count in following:
            if count in state.documents:
                slipped = _found_more(slipped, count, delta)
        return slipped

    return slip


def _slip_count(
    latest: StockState, event: Event, fact: StockCounted, around: Around[StockState]
) -> Callable[[StockState], StockState] | None:
    """What moved before it is counted; what moved after it is since then, or for the next count to find."""
    name, status = f"count/{fact.status}/{fact.count_id}", fact.status
    if name in latest.documents:
        return None
    count = _count(around.state_before(), event, fact)
    following = _first_count_after(latest, status, around)
    after = latest.documents.get(following)
    if isinstance(after, Count) and after.boundary < count.boundary:
        return None  # clocks were set back: boundaries of later counts depend on it too

    def slip(state: StockState) -> StockState:
        found = state.documents.get(following)
        documents, last, since = _with(state.documents, name, count), state.last, state.since
        trail = state.trail.then(name)
        if isinstance(found, Count):
            before = (name, count.boundary, count.quantity)
            later = found._replace(
                before=before[0], since=before[1], base=before[2], own=found.own - count.own
            )
            documents, trail = _with(documents, following, later), trail.then(following)
        else:
            last = compact({**last, status: name})
            since = _since(since, status, since.get(status, ZERO) - count.own)
        return replace(state, documents=documents, last=last, since=since, trail=trail)

    return slip


def _found_more(state: StockState, name: str, delta: Decimal) -> StockState:
    count = state.documents[name]
    assert isinstance(count, Count)
    counted = count._replace(own=count.own + delta)
    return replace(state, documents=_with(state.documents, name, counted), trail=state.trail.then(name))


_MOVING = (StockAdjusted, StockReceived, StockStatusChanged, TransferredOut, TransferredIn)


def _first_count_after(state: StockState, status: StockStatus, around: Around[StockState]) -> str:
    """Going back from the last. Empty where the event comes after all of them."""
    found, name = "", state.last.get(status)
    while name is not None:
        count = state.documents[name]
        assert isinstance(count, Count)
        if not around.precedes(count.witnesses[0]):
            break
        found, name = name, count.before
    return found


def _count(state: StockState, event: Event, fact: StockCounted) -> Count:
    before, own = state.last_count(fact.status), state.since.get(fact.status, ZERO)
    return Count(
        fact.count_id,
        fact.status,
        fact.quantity,
        fact.opening,
        event.time,
        event.time if before is None else max(event.time, before.boundary),
        state.last.get(fact.status),
        None if before is None else before.boundary,
        ZERO if before is None else before.quantity,
        own,
        (event.event_id,),
    )


def _witnessed(state: StockState, event: Event, name: str, known: Document, told: Document) -> StockState:
    seen = known._replace(witnesses=(*known.witnesses, event.event_id))
    state = replace(state, documents=_with(state.documents, name, seen))
    if (known.quantity, type(known)) == (told.quantity, type(told)):
        return state
    text = f"{name} is {known.quantity} by {known.witnesses[0]}, {told.quantity} by {event.event_id}"
    return replace(state, disagreements=(*state.disagreements, (text, event.event_id)))


def _since(
    since: Mapping[StockStatus, Decimal], status: StockStatus, quantity: Decimal
) -> Mapping[StockStatus, Decimal]:
    """One way to say that nothing has moved: no entry."""
    if quantity:
        return compact({**since, status: quantity})
    if status not in since:
        return since
    return compact({other: moved for other, moved in since.items() if other is not status})


def _filed(state: StockState, name: str, document: Document, moves: _Deltas) -> StockState:
    last, since, sent, arrived = state.last, state.since, state.sent, state.arrived
    for status, delta in moves:
        since = _since(since, status, since.get(status, ZERO) + delta)
    match document:
        case Count(status=status):
            last, since = compact({**last, status: name}), _since(since, status, ZERO)
        case Leg(leg="out", other=goal, quantity=quantity):
            sent = {**sent, goal: sent.get(goal, ZERO) + quantity}
        case Leg(quantity=quantity):
            arrived += quantity
        case _:
            pass
    return StockState(
        _with(state.documents, name, document),
        last,
        since,
        sent,
        arrived,
        state.safety,
        state.inbound,
        state.disagreements,
        state.trail.then(name),
    )


# --- inbox -----------------------------------------------------------------------------------------------


_NO_MAP: HashTrieMap[Any, Any] = HashTrieMap()
_NOBODY: frozenset[TwinRef] = frozenset()
_NOWHERE: frozenset[str] = frozenset()
_UNTOUCHED: frozenset[str] = frozenset()
"""Most stock has few neighbours, or none: what they share never changes; they make their own when needed."""


class _Row(NamedTuple):
    at: datetime
    source: TwinRef
    part: str
    delta: Decimal


@dataclass(slots=True)
class _Moves:
    """Contributed movements of one status, summed between the boundaries of counts: O(log n) a change."""

    rows: SortedKeyList = field(default_factory=lambda: SortedKeyList(key=lambda one: one[:3]))
    boundaries: SortedDict = field(default_factory=SortedDict)
    """Boundary → names of the counts at it. A movement at such a moment belongs before it."""
    sums: HashTrieMap[datetime, Decimal] = _NO_MAP
    """Boundary → what moved since the boundary before it."""
    after: Decimal = ZERO
    """What moved since the last boundary."""

    def add(self, row: _Row) -> set[str]:
        """Answers the counts that the movement is in."""
        self.rows.add(row)
        return self._sum(row.at, row.delta)

    def remove(self, row: _Row) -> set[str]:
        self.rows.remove(row)
        return self._sum(row.at, -row.delta)

    def _sum(self, at: datetime, delta: Decimal) -> set[str]:
        index = self.boundaries.bisect_left(at)
        if index == len(self.boundaries):
            self.after += delta
            return set()
        boundary, counts = self.boundaries.peekitem(index)
        self.sums = self.sums.insert(boundary, self.sums[boundary] + delta)
        return set(counts)

    def mark(self, boundary: datetime, count: str) -> None:
        """Sum up to a count's boundary."""
        if boundary in self.boundaries:
            self.boundaries[boundary].add(count)
            return
        index = self.boundaries.bisect_left(boundary)
        if index == len(self.boundaries):
            later = ZERO
            for row in reversed(self.rows):
                if row.at <= boundary:
                    break
                later += row.delta
            within, self.after = self.after - later, later
        else:
            start = self.boundaries.peekitem(index - 1)[0] if index else None
            within = self._moved(start, boundary)
            following = self.boundaries.peekitem(index)[0]
            self.sums = self.sums.insert(following, self.sums[following] - within)
        self.sums = self.sums.insert(boundary, within)
        self.boundaries[boundary] = {count}

    def unmark(self, boundary: datetime, count: str) -> None:
        counts = self.boundaries[boundary]
        counts.discard(count)
        if counts:
            return
        index = self.boundaries.index(boundary)
        within = self.sums[boundary]
        self.sums = self.sums.remove(boundary)
        del self.boundaries[boundary]
        if index == len(self.boundaries):
            self.after += within
        else:
            following = self.boundaries.peekitem(index)[0]
            self.sums = self.sums.insert(following, self.sums[following] + within)

    def _moved(self, start: datetime | None, end: datetime) -> Decimal:
        total = ZERO
        for row in self.rows.irange_key((start,) if start is not None else None):
            if row.at > end:
                break
            if start is None or row.at > start:
                total += row.delta
        return total


class _Place(NamedTuple):
    """Where a reservation stands in the order in which they are granted."""

    at: datetime
    source: TwinRef
    line_id: str


@dataclass(slots=True)
class _Reservations:
    """Open reservations in the order of their allocation, and the first that the goods do not cover.

    The goods go to those who were first. A change moves the cut by as much as it takes.
    """

    lines: SortedDict = field(default_factory=SortedDict)
    """_Place → quantity."""
    of: dict[TwinRef, tuple[_Place, ...]] = field(default_factory=dict)
    total: Decimal = ZERO
    cut: _Place | None = None
    """The first that is not covered as a whole; None: all are."""
    before_cut: Decimal = ZERO
    goods: Decimal = ZERO
    short: HashTrieMap[TwinRef, tuple[ShortLine, ...]] = _NO_MAP
    changed: set[TwinRef] = field(default_factory=set)
    """Whose shortage may have changed."""

    def replace(self, source: TwinRef, lines: tuple[ReservedLine, ...]) -> None:
        for place in self.of.pop(source, ()):
            self._remove(place)
        places = tuple(_Place(line.at, source, line.line_id) for line in lines)
        for place, line in zip(places, lines, strict=True):
            self._add(place, line.quantity)
        if places:
            self.of[source] = places
        self.changed.add(source)

    def _add(self, place: _Place, quantity: Decimal) -> None:
        self.lines[place] = quantity
        self.total += quantity
        if self.cut is None or place < self.cut:
            self.before_cut += quantity

    def _remove(self, place: _Place) -> None:
        if place == self.cut:
            index = self.lines.index(place) + 1
            self.cut = self.lines.peekitem(index)[0] if index < len(self.lines) else None
        elif self.cut is None or place < self.cut:
            self.before_cut -= self.lines[place]
        self.total -= self.lines.pop(place)

    def grant(self, goods: Decimal) -> set[TwinRef]:
        """Cover what *goods* cover. Answers those whose shortage has changed."""
        was, self.goods = self.cut, goods
        self._move_cut()
        changed, self.changed = self.changed, set()
        changed |= {cut.source for cut in (was, self.cut) if cut is not None}
        for source in changed:
            lines = tuple(sorted(self._lacking(source)))
            if lines:
                self.short = self.short.insert(source, lines)
            elif source in self.short:
                self.short = self.short.remove(source)
        return changed

    def _move_cut(self) -> None:
        index = len(self.lines) if self.cut is None else self.lines.index(self.cut)
        while index and self.before_cut > self.goods:
            index -= 1
            place, quantity = self.lines.peekitem(index)
            self.before_cut -= quantity
            self.changed.add(place.source)
        while index < len(self.lines):
            place, quantity = self.lines.peekitem(index)
            if self.before_cut + quantity > self.goods:
                break
            self.before_cut += quantity
            self.changed.add(place.source)
            index += 1
        self.cut = self.lines.peekitem(index)[0] if index < len(self.lines) else None

    def _lacking(self, source: TwinRef) -> Iterator[ShortLine]:
        if self.cut is None:
            return
        for place in self.of.get(source, ()):
            quantity = self.lines[place]
            if place == self.cut:
                quantity -= self.goods - self.before_cut
            if place >= self.cut and quantity:
                yield ShortLine(place.line_id, plain(quantity))


@dataclass(slots=True)
class StockInbox(Inbox):
    """Words of any number of neighbours, kept so that the change of one costs the same among many."""

    moves: dict[str, _Moves] | None = None
    """By status, of those that a neighbour ever moved."""
    reservations: _Reservations | None = None
    sent_here: Decimal = ZERO
    card: ItemCard | None = None
    destinations: frozenset[str] = _NOWHERE
    """Wherever goods were ever said to have been sent."""
    touched: frozenset[str] | None = None
    """Documents whose postings may have changed; None: any of them."""
    _counts: dict[str, tuple[str, datetime]] | None = None
    """Count → its status and boundary, as they are marked among `moves` of that status."""
    _followed: StockState = _UNTOLD

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        for value, sign in ((old, -1), (new, 1)):
            match value:
                case Reservations(restocks=restocks):
                    self._move(source, restocks, sign)
                case Issue(moves=moves):
                    self._move(source, moves, sign)
                case InTransit(sent=sent):
                    self.sent_here += sign * sent
                case ItemCard():
                    self.card = value if sign > 0 else None
                    self.touched = None
                case _:
                    pass
        if isinstance(old, Reservations) or isinstance(new, Reservations):
            self.reservations = self.reservations or _Reservations()
            self.reservations.replace(source, new.lines if isinstance(new, Reservations) else ())

    def _move(self, source: TwinRef, moves: tuple[Moved, ...], sign: int) -> None:
        for move in moves:
            of_status = self._moves_of(move.status)
            row = _Row(move.at, source, move.part, move.delta)
            self._touch(of_status.add(row) if sign > 0 else of_status.remove(row))

    def _moves_of(self, status: str) -> _Moves:
        """Those of one status; the first of them finds the counts that were followed before it."""
        self.moves = self.moves or {}
        found = self.moves.get(status)
        if found is None:
            found = self.moves[status] = _Moves()
            self._mark(name for name in self._followed.documents if name.startswith(f"count/{status}/"))
        return found

    def _touch(self, names: Set[str]) -> None:
        if self.touched is not None and names:
            self.touched |= names

    def follow(self, state: StockState) -> None:
        """Sum movements between the counts of *state*."""
        names, before = between(self._followed.trail, state.trail), self._followed.documents
        self._followed = state
        if names is None:
            names, self.touched = set(self._counts or ()) | set(state.documents), None
        else:
            names = {name for name in names if before.get(name) != state.documents.get(name)}
            self._touch(names)
        if self.moves:
            self._mark(name for name in names if name.startswith("count/"))

    def _mark(self, names: Iterable[str]) -> None:
        """Sum up to the boundaries of these counts, as they are now."""
        marked, moves = sorted(names), self.moves or {}
        counts = self._counts = self._counts or {}
        for name in marked:
            if name in counts:
                status, boundary = counts.pop(name)
                moves[status].unmark(boundary, name)
        found = [(name, self._followed.documents.get(name)) for name in marked]
        told = [(name, count) for name, count in found if isinstance(count, Count) and count.status in moves]
        for name, count in sorted(told, key=lambda one: one[1].boundary):
            counts[name] = (count.status, count.boundary)
            moves[count.status].mark(count.boundary, name)


# --- view ------------------------------------------------------------------------------------------------


class StockView(Struct, gc=False):
    state: StockState
    on_hand: Mapping[StockStatus, Decimal]
    moved: Mapping[str, HashTrieMap[datetime, Decimal]]
    """Status → boundary of a count → what others moved since the one before, where they ever moved any."""
    reserved: Decimal
    short: HashTrieMap[TwinRef, tuple[ShortLine, ...]]
    in_transit: Decimal
    card: ItemCard | None
    policy: Policy
    changed: Set[TwinRef]
    """Whose shortage, or goods in transit, may differ from the view before."""

    @property
    def sellable(self) -> Decimal:
        return self.on_hand.get(StockStatus.SELLABLE, ZERO)

    @property
    def lacking(self) -> Decimal:
        """What is reserved beyond the goods."""
        return max(ZERO, self.reserved - max(ZERO, self.sellable))

    def available(self, by: datetime | None = None) -> Decimal:
        """What may still be promised, counting inbound due by then."""
        due = sum((one.quantity for one in self.state.inbound.values() if by and one.due <= by), ZERO)
        return self.sellable - self.reserved - self.state.safety + due

    def variance(self, count: Count) -> Decimal:
        """What was counted less what had to be there."""
        moved = ZERO
        if count.since is None or count.since < count.boundary:
            moved = self.moved.get(count.status, _NO_MAP).get(count.boundary, ZERO)
        return plain(count.quantity - (count.base + count.own + moved))


def view(ref: TwinRef, state: StockState, inbox: StockInbox, policy: Policy) -> StockView:
    inbox.follow(state)
    on_hand: dict[StockStatus, Decimal] = {}
    moves, reservations = inbox.moves or {}, inbox.reservations
    for status in StockStatus:
        count, others = state.last_count(status), moves.get(status)
        base = count.quantity if count is not None else ZERO
        on_hand[status] = plain(base + state.since.get(status, ZERO) + (others.after if others else ZERO))
    changed: Set[TwinRef] = _NOBODY
    if reservations is not None:
        changed = reservations.grant(max(ZERO, on_hand[StockStatus.SELLABLE]))
    if not inbox.destinations.issuperset(state.sent):
        inbox.destinations |= state.sent.keys()
    if inbox.destinations:
        changed |= {stock(sku_and_location(ref)[0], location) for location in inbox.destinations}
    return StockView(
        state,
        compact(on_hand),
        {status: others.sums for status, others in moves.items()} if moves else NOTHING,
        ZERO if reservations is None else plain(reservations.total),
        _NO_MAP if reservations is None else reservations.short,
        plain(inbox.sent_here - state.arrived),
        inbox.card,
        policy,
        changed,
    )


def status(seen: StockView) -> str:
    if seen.sellable < 0:
        return "negative"
    if seen.lacking:
        return "oversold"
    return "out-of-stock" if seen.available() <= 0 else "in-stock"


# --- contributions ---------------------------------------------------------------------------------------


def contributions(ref: TwinRef, seen: StockView) -> dict[TwinRef, Value]:
    return _said_to(ref, seen, seen.short)


def changed_contributions(ref: TwinRef, seen: StockView) -> dict[TwinRef, Value | None]:
    """All but the shortages that are as they were; None for what is said no more."""
    return {**dict.fromkeys(sorted(seen.changed)), **_said_to(ref, seen, seen.changed)}


def _said_to(ref: TwinRef, seen: StockView, orders: Iterable[TwinRef]) -> dict[TwinRef, Value]:
    sku, _ = sku_and_location(ref)
    found: dict[TwinRef, Value] = {item(sku): INTEREST}
    for source in sorted(orders):
        lines = seen.short.get(source)
        if lines is not None and source.kind is Kind.ORDER:
            found[source] = Shortage(lines)
    for location, sent in seen.state.sent.items():
        found[stock(sku, location)] = InTransit(plain(sent))
    return found


# --- postings --------------------------------------------------------------------------------------------


def postings(ref: TwinRef, seen: StockView) -> dict[PostingKey, Posting]:
    """Variances, adjustments and transfer legs, once the item is known; receipts are the ERP's purchases."""
    found = (posting(ref, seen, name) for name in seen.state.documents)
    return {one.key: one for one in found if one is not None}


def changed_postings(
    ref: TwinRef, seen: StockView, inbox: StockInbox
) -> Mapping[PostingKey, Posting | None] | None:
    """Those that may differ since this was asked last; None: any may."""
    names, inbox.touched = inbox.touched, _UNTOUCHED
    if names is None:
        return None
    keys = ((name, _key(ref, name)) for name in names)
    return {key: posting(ref, seen, name) for name, key in keys if key is not None}


def _key(ref: TwinRef, name: str) -> PostingKey | None:
    kind, _, document_id = name.partition("/")
    match kind:
        case "adjustment":
            return posting_key("stock-adjustment", document_id, ref.key)
        case "count":
            status, _, count_id = document_id.partition("/")
            return posting_key("stock-count", count_id, status, ref.key)
        case "leg":
            transfer_id, _, leg = document_id.rpartition("/")
            return posting_key("transfer", transfer_id, ref.key, leg)
        case _:
            return None


def posting(ref: TwinRef, seen: StockView, name: str) -> Posting | None:
    """What the ERP should hold of one document."""
    key, document = _key(ref, name), seen.state.documents.get(name)
    if key is None or (seen.card is None and seen.policy.require_master_data):
        return None
    match document:
        case Adjustment(quantity=quantity) if quantity:
            return _adjustment(ref, seen, key, document, quantity)
        case Count(opening=False) if off := seen.variance(document):
            return _adjustment(ref, seen, key, document, off)
        case Leg():
            return _transfer(ref, seen, key, document)
        case _:
            return None


def _adjustment(
    ref: TwinRef, seen: StockView, key: PostingKey, document: Adjustment | Count, delta: Decimal
) -> PostStockAdjustment:
    sku, location = sku_and_location(ref)
    currency = _currency(seen, document.at)
    return PostStockAdjustment(
        key=key,
        event_date=document.at.date(),
        company="main",
        currency=currency,
        justified_by=document.witnesses,
        sku=sku,
        location=location,
        status=document.status.value,
        delta=delta,
        cost=_cost(seen, delta, document.at, currency),
    )


def _transfer(ref: TwinRef, seen: StockView, key: PostingKey, leg: Leg) -> PostTransfer:
    sku, location = sku_and_location(ref)
    currency = _currency(seen, leg.at)
    out = posting_key("transfer", leg.transfer_id, stock(sku, leg.other).key, "out")
    return PostTransfer(
        key=key,
        event_date=leg.at.date(),
        company="main",
        currency=currency,
        justified_by=leg.witnesses,
        requires=(out,) if leg.leg == "in" else (),
        transfer_id=leg.transfer_id,
        leg=leg.leg,
        sku=sku,
        location=location,
        quantity=leg.quantity,
        cost=_cost(seen, leg.quantity, leg.at, currency),
    )


def _currency(seen: StockView, at: datetime) -> str:
    """That of the cost in force, or of the first there was: what is told of an item later changes none."""
    named = tuple(cost for cost in seen.card.costs if cost.currency) if seen.card else ()
    cost = ItemCard(named).cost(at) or min(named, key=lambda one: one[:2], default=None)
    return seen.policy.currency if cost is None or cost.currency is None else cost.currency


def _cost(seen: StockView, quantity: Decimal, at: datetime, currency: str) -> Decimal | None:
    unit = seen.card.unit_cost(at) if seen.card is not None else None
    return None if unit is None else rounded(unit * quantity, currency)


# --- what people see -------------------------------------------------------------------------------------


def findings(ref: TwinRef, seen: StockView) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for state, quantity in seen.on_hand.items():
        if quantity < 0:
            found.append(Finding("negative-on-hand", f"{quantity} {state}: more left than ever came"))
    if seen.lacking:
        text = f"{seen.lacking} reserved beyond what is there, by {len(seen.short)} orders"
        found.append(Finding("oversold", text))
    if seen.in_transit < 0:
        found.append(Finding("transfer-unannounced", f"{-seen.in_transit} arrived that nobody sent"))
    for text, event in seen.state.disagreements:
        found.append(Finding("sources-disagree", text, (event,)))
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
        "counted_at": {
            status.value: count.at for status in StockStatus if (count := seen.state.last_count(status))
        },
        "short_orders": sorted(str(source) for source in seen.short),
    }


COUNTS_EXPLAINED = 10
"""The last counts; a shelf may have thousands behind it."""


def explain(ref: TwinRef, seen: StockView) -> tuple[str, ...]:
    said: list[str] = []
    for state in StockStatus:
        last = seen.state.last_count(state)
        if last is not None:
            moved, told = seen.on_hand[state] - last.quantity, ", ".join(last.witnesses)
            said.append(
                f"{state}: {last.quantity} counted {last.at:%Y-%m-%d %H:%M} ({told}), {moved:+} since."
            )
        elif seen.on_hand[state]:
            said.append(f"{state}: {seen.on_hand[state]} by movements alone; never counted.")
    said.append(
        f"{seen.reserved} reserved, {seen.state.safety} kept as safety: {seen.available()} available."
    )
    counts = [one for one in seen.state.documents.values() if isinstance(one, Count) and not one.opening]
    for count in sorted(counts, key=lambda one: (one.boundary, one.count_id))[-COUNTS_EXPLAINED:]:
        if off := seen.variance(count):
            expected = count.quantity - off
            said.append(f"Count {count.count_id} found {off:+} against {expected} {count.status} expected.")
    return tuple(said)


RULES: Rules[StockState, StockInbox, StockView] = Rules(
    initial=_UNTOLD,
    evolve=evolve,
    inbox=StockInbox,
    view=view,
    status=status,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    slip_in=slip_in,
    endless=True,
    changed_contributions=changed_contributions,
    changed_postings=changed_postings,
    labels=lambda ref, seen: dict(zip(("sku", "location"), sku_and_location(ref), strict=True)),
)
