"""What a set of facts must come to, written from the domain alone: slow, without twins, folds or ledgers.

Every question is answered by searching through the facts again. Quantities and amounts are fractions. Nothing
of `twins` is used, so that whatever the two agree on was thought out twice. It knows the facts that
`ops.simulation.stories` tells, told in a way that makes sense; the properties in the tests do the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

from canonical.envelope import Event
from canonical.facts import order as o
from canonical.facts import reference as r
from canonical.facts import shipment as sh
from canonical.facts import stock as st
from canonical.facts import tracking as tr
from canonical.facts.base import Fact, Retracted
from canonical.identity import Kind, TwinRef

F = TypeVar("F", bound=Fact)
Plain = dict[str, Any]
NONE = Fraction(0)
CENT = Fraction(1, 100)
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
TOLERANCE = Fraction(1, 20)
BILL_TOLERANCE = Fraction(1, 10)
WAY = (tr.Milestone.IN_TRANSIT, tr.Milestone.OUT_FOR_DELIVERY, tr.Milestone.DELIVERED)


def exact(number: Decimal | None) -> Fraction:
    return Fraction(number or 0)


def cents(amount: Fraction) -> Fraction:
    """Half a cent goes away from zero."""
    whole = int(abs(amount) / CENT + Fraction(1, 2))
    return whole * CENT * (-1 if amount < 0 else 1)


def slice_of(whole: Fraction, before: Fraction, part: Fraction, total: Fraction) -> Fraction:
    """What is due once *before* and *part* are, less what was due once *before* was."""
    if not total:
        return NONE
    return cents(whole * (before + part) / total) - cents(whole * before / total)


# --- which facts count, and when -------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A fact that counts, in its place."""

    at: datetime
    """When it happened, by its source's numbers where it has some."""
    event: Event

    @property
    def fact(self) -> Any:
        return self.event.fact


def what_counts(told: Iterable[Event]) -> dict[TwinRef, list[Said]]:
    """Of each id the version with the smallest digest, without what was taken back, in order."""
    versions: dict[tuple[TwinRef, str, str], list[Event]] = defaultdict(list)
    for event in told:
        versions[event.subject, event.source, event.id].append(event)
    standing = {key: min(found, key=lambda one: one.digest()) for key, found in versions.items()}
    for (subject, _, _), event in list(standing.items()):
        if isinstance(event.fact, Retracted):
            target = standing.get((subject, event.fact.source, event.fact.id))
            if target is not None and not isinstance(target.fact, Retracted):
                del standing[subject, target.source, target.id]
    by_twin: dict[TwinRef, list[Event]] = defaultdict(list)
    for event in standing.values():
        if not isinstance(event.fact, Retracted):  # as if neither had been sent
            by_twin[event.subject].append(event)
    _hand_on(by_twin)
    return {ref: list(_in_place(events)) for ref, events in by_twin.items()}


def _hand_on(by_twin: dict[TwinRef, list[Event]]) -> None:
    """Facts that know only a return number belong to the order that asked for the return."""
    for ref in [ref for ref in by_twin if ref.kind is Kind.RETURN]:
        for order in [one for one in by_twin if one.kind is Kind.ORDER]:
            facts = [event.fact for event in by_twin[order]]
            asked = any(isinstance(one, o.ReturnRequested) and one.return_id == ref.key for one in facts)
            if asked and any(isinstance(one, o.OrderPlaced) for one in facts):
                source = f"?by={ref}"
                by_twin[order] += [replace(one, source=one.source + source) for one in by_twin[ref]]


def _in_place(events: list[Event]) -> Iterator[Said]:
    """By time, then by the place that a kind of fact has in life; a source's numbers overrule both."""

    def moment(event: Event) -> tuple[datetime, int]:
        numbered = [one for one in events if one.source == event.source and one.sequence is not None]
        earlier = [one for one in numbered if (one.sequence, one.id) <= (event.sequence, event.id)]
        return max(
            (one.time, int(one.fact.RANK)) for one in (earlier if event.sequence is not None else [event])
        )

    def place(event: Event) -> Any:
        return moment(event), event.source, -1 if event.sequence is None else event.sequence, event.id

    return (Said(moment(event)[0], event) for event in sorted(events, key=place))


# --- the world -------------------------------------------------------------------------------------------


@dataclass
class Went:
    """What one shipment took of one line of one order."""

    line_id: str
    sku: str
    before: Fraction
    accepted: Fraction
    excess: Fraction
    cost: Fraction | None


@dataclass
class Line:
    """A line as the order has it now."""

    told: o.OrderLine
    ordered: Fraction
    first: Fraction
    """What was ordered before any amendment."""
    shipped: Fraction = NONE
    excess: Fraction = NONE
    delivered: Fraction = NONE
    invoiced: Fraction = NONE
    cancelled: Fraction = NONE
    accepted: Fraction = NONE
    credited: Fraction = NONE
    returned: Fraction = NONE
    by_sku: dict[str, Fraction] = field(default_factory=lambda: defaultdict(lambda: NONE))

    @property
    def open(self) -> Fraction:
        return max(NONE, self.ordered - self.cancelled - self.shipped)

    @property
    def net(self) -> Fraction:
        return exact(self.told.quantity) * exact(self.told.unit_price) - exact(self.told.discount)

    @property
    def whole(self) -> Fraction:
        return exact(self.told.quantity) or self.ordered

    @property
    def shipped_sku(self) -> str:
        others = [sku for sku, many in self.by_sku.items() if sku != self.told.sku and many == self.shipped]
        return others[0] if others and self.shipped else self.told.sku


@dataclass
class Back:
    """Goods of one line that came back in one return and were accepted."""

    return_id: str
    line_id: str
    before: Fraction
    goods: dict[tuple[str, str], Fraction]
    at: datetime

    @property
    def quantity(self) -> Fraction:
        return sum(self.goods.values(), NONE)


class World:
    def __init__(self, told: Iterable[Event]) -> None:
        self.said = what_counts(told)

    def of(self, ref: TwinRef, kind: type[F]) -> list[Said]:
        return [one for one in self.said.get(ref, ()) if isinstance(one.fact, kind)]

    def refs(self, kind: Kind) -> list[TwinRef]:
        return sorted(ref for ref in self.said if ref.kind is kind)

    # --- master data

    def is_known(self, sku: str) -> bool:
        return bool(self.of(TwinRef(Kind.ITEM, sku), r.ItemUpserted))

    def cost(self, sku: str, at: datetime) -> Fraction | None:
        valid = [one for one in self.of(TwinRef(Kind.ITEM, sku), r.ItemUpserted) if one.event.time <= at]
        if not valid:
            return None
        newest = max(valid, key=lambda one: (one.fact.revision, one.event.time))
        return None if newest.fact.unit_cost is None else exact(newest.fact.unit_cost)

    # --- shipments

    def voided(self, ref: TwinRef) -> bool:
        return bool(self.of(ref, sh.ShipmentVoided))

    def dispatch(self, ref: TwinRef) -> Said | None:
        """The first telling; void means that it did not happen."""
        found = self.of(ref, sh.ShipmentDispatched)
        return found[0] if found and not self.voided(ref) else None

    def _told_of_dispatch(self, ref: TwinRef, what: str) -> Any:
        """What the first telling left open, the next fills in."""
        told = (getattr(one.fact, what) for one in self.of(ref, sh.ShipmentDispatched))
        return next((value for value in told if value not in (None, ())), None)

    def way(self, ref: TwinRef) -> dict[str, datetime]:
        """When the last parcel reached each milestone, or had passed it."""
        numbers = self._told_of_dispatch(ref, "tracking_numbers") or ()
        carrier = self._told_of_dispatch(ref, "carrier")
        parcels = [TwinRef(Kind.TRACKING, f"{carrier}:{number}") for number in numbers]
        found: dict[str, datetime] = {}
        for index, milestone in enumerate(WAY):
            scanned = [[self._scanned(parcel, later) for later in WAY[index:]] for parcel in parcels]
            passed = [[at for at in times if at is not None] for times in scanned]
            if parcels and all(passed):
                found[milestone] = max(min(times) for times in passed)
        return found

    def _scanned(self, parcel: TwinRef, milestone: str) -> datetime | None:
        scans = self.of(parcel, tr.TrackingScanned)
        return min((one.event.time for one in scans if one.fact.milestone == milestone), default=None)

    def sent_back(self, ref: TwinRef) -> bool:
        numbers = self._told_of_dispatch(ref, "tracking_numbers") or ()
        carrier = self._told_of_dispatch(ref, "carrier")
        return any(
            self._scanned(TwinRef(Kind.TRACKING, f"{carrier}:{number}"), tr.Milestone.RETURN_TO_SENDER)
            for number in numbers
        )

    def is_delivered(self, ref: TwinRef) -> bool:
        return tr.Milestone.DELIVERED in self.way(ref) and not self.sent_back(ref)

    def shipment_status(self, ref: TwinRef) -> str:
        if self.voided(ref):
            return "voided"
        if self.dispatch(ref) is not None:
            if self.sent_back(ref):
                return "returned-to-sender"
            reached = [milestone.value for milestone in WAY if milestone in self.way(ref)]
            return reached[-1] if reached else "dispatched"
        for kind, name in ((sh.ShipmentPacked, "packed"), (sh.ShipmentPicked, "picked")):
            if self.of(ref, kind):
                return name
        return "created" if self.of(ref, sh.ShipmentCreated) else "provisional"

    def has_goods_issue(self, ref: TwinRef) -> bool:
        """Dispatched, everything about it known, and at least one order takes something."""
        gone = self.dispatch(ref)
        if gone is None or not all(self.is_known(line.sku) for line in gone.fact.lines):
            return False
        orders = [self.order(order_id) for order_id in sorted({line.order_id for line in gone.fact.lines})]
        if any(order.placed is None or order.missing for order in orders):
            return False
        return any(went.accepted for order in orders for went in order.went(ref))

    def order(self, order_id: str) -> Order:
        return self._orders.setdefault(order_id, Order(self, TwinRef(Kind.ORDER, order_id)))

    @cached_property
    def _orders(self) -> dict[str, Order]:
        return {}


class Order:
    def __init__(self, world: World, ref: TwinRef) -> None:
        self.world, self.ref = world, ref
        told = world.of(ref, o.OrderPlaced)
        self.placed: o.OrderPlaced | None = told[0].fact if told else None
        self.taken: dict[TwinRef, list[Went]] = {}
        self.backs: list[Back] = []
        self.lines: dict[str, Line] = {}
        if self.placed is not None:
            self._lines()
            self._ship()
            self._cancel()

    # --- what is wanted

    def said(self, kind: type[F]) -> list[Said]:
        return self.world.of(self.ref, kind)

    @cached_property
    def amended(self) -> Said | None:
        told = self.said(o.OrderAmended)
        newest = max((one.fact.revision for one in told), default=None)
        return next((one for one in told if one.fact.revision == newest), None)

    def _lines(self) -> None:
        assert self.placed is not None
        for line in self.placed.lines:
            self.lines[line.line_id] = Line(line, exact(line.quantity), exact(line.quantity))
        if self.amended is not None:
            amended = {line.line_id: line for line in self.amended.fact.lines}
            for line_id, known in self.lines.items():
                if line_id not in amended:
                    known.ordered = NONE
            for line_id, told in amended.items():
                if line_id in self.lines and not told.quantity:  # amended away: its price stays
                    self.lines[line_id].ordered = NONE
                    continue
                first = self.lines[line_id].first if line_id in self.lines else NONE
                self.lines[line_id] = Line(told, exact(told.quantity), first)

    @cached_property
    def missing(self) -> bool:
        assert self.placed is not None
        buyer = self.placed.customer_id
        known = buyer is None or self.world.of(TwinRef(Kind.CUSTOMER, buyer), r.CustomerUpserted)
        return not (known and all(self.world.is_known(line.told.sku) for line in self.lines.values()))

    # --- goods

    def _gone(self) -> list[tuple[datetime, TwinRef, Said]]:
        found = []
        for ref in self.world.refs(Kind.SHIPMENT):
            gone = self.world.dispatch(ref)
            if gone is not None and any(line.order_id == self.ref.key for line in gone.fact.lines):
                found.append((gone.event.time, ref, gone))
        return sorted(found, key=lambda one: one[:2])

    def _ship(self) -> None:
        for at, ref, gone in self._gone():
            asked: dict[tuple[str, str], Fraction] = defaultdict(lambda: NONE)
            for line in gone.fact.lines:
                if line.order_id == self.ref.key:
                    asked[line.line_id, line.sku] += exact(line.quantity)
            self.taken[ref] = [
                self._take(line_id, sku, many, at) for (line_id, sku), many in sorted(asked.items())
            ]

    def _take(self, line_id: str, sku: str, many: Fraction, at: datetime) -> Went:
        line = self.lines[line_id]
        covered = line.ordered
        if self.amended is not None and self.amended.event.time > at:
            covered = max(line.first, line.ordered)
        accepted = max(NONE, min(many, covered * (1 + TOLERANCE) - line.shipped))
        unit = self.world.cost(sku, at)
        cost = None if unit is None else cents(unit * accepted)
        went = Went(line_id, sku, line.shipped, accepted, many - accepted, cost)
        line.shipped += accepted
        line.excess += went.excess
        line.by_sku[sku] += accepted
        line.ordered = max(line.ordered, min(line.shipped, covered))
        return went

    def went(self, shipment: TwinRef) -> list[Went]:
        return self.taken.get(shipment, [])

    def _cancel(self) -> None:
        rejected = {one.fact.request_id for one in self.said(o.OrderCancelRejected)}
        accepted = {one.fact.request_id for one in self.said(o.OrderCancelAccepted)} - rejected
        cancels = [
            one.fact.lines for one in self.said(o.OrderCancelRequested) if one.fact.request_id in accepted
        ]
        cancels += [one.fact.lines for one in self.said(o.OrderCancelled)]
        for line_id, line in self.lines.items():
            left = max(NONE, line.ordered - line.shipped)
            parts = [
                exact(part.quantity) for lines in cancels for part in lines or () if part.line_id == line_id
            ]
            line.cancelled = left if any(lines is None for lines in cancels) else min(left, sum(parts, NONE))

    def finish(self) -> None:
        """What needs to know which shipments have their goods issue."""
        for shipment, parts in self.taken.items():
            for went in parts:
                line = self.lines[went.line_id]
                line.delivered += went.accepted if self.world.is_delivered(shipment) else NONE
                line.invoiced += went.accepted if self.world.has_goods_issue(shipment) else NONE
        requests = self.said(o.ReturnRequested)
        for one in sorted(requests, key=lambda one: (one.event.time, one.fact.return_id)):
            self._bring_back(one.fact.return_id)

    def _bring_back(self, return_id: str) -> None:
        looked_at = [one for one in self.said(o.ReturnInspected) if one.fact.return_id == return_id]
        for line_id, line in sorted(self.lines.items()):
            parts = [
                (part, one.event.time)
                for one in looked_at
                for part in one.fact.lines
                if part.line_id == line_id
            ]
            back = Back(return_id, line_id, line.accepted, defaultdict(lambda: NONE), LONG_AGO)
            room = line.shipped - line.accepted
            for part, at in parts:
                if part.disposition != "rejected":
                    fits = min(room, exact(part.quantity))
                    room -= fits
                    back.goods[part.location, part.disposition.value] += fits
                back.at = max(back.at, at)
            if back.quantity:
                self.backs.append(back)
                line.accepted += back.quantity
                line.credited += min(back.quantity, max(NONE, line.invoiced - back.before))
        receipts: set[str] = set()
        for one in self.said(o.ReturnReceived):
            if one.fact.return_id == return_id and one.fact.receipt_id not in receipts:
                receipts |= {one.fact.receipt_id} - {None}
                for part in one.fact.lines:
                    line = self.lines[part.line_id]
                    line.returned = min(line.shipped, line.returned + exact(part.quantity))

    def suppliers(self, back: Back) -> list[TwinRef]:
        """Shipments that the goods left with: the first to leave are the first to come back."""
        end = back.before + back.quantity
        return [
            ref
            for ref, parts in self.taken.items()
            for went in parts
            if went.line_id == back.line_id
            and went.before < end
            and went.before + went.accepted > back.before
        ]

    def original_cost(self, line_id: str, before: Fraction, quantity: Fraction) -> Fraction | None:
        parts = [went for found in self.taken.values() for went in found if went.line_id == line_id]
        end = before + quantity
        if any(p.cost is None and p.before < end and p.before + p.accepted > before for p in parts):
            return None

        def of_the_first(many: Fraction) -> Fraction:
            gone = [
                (went, min(went.accepted, max(NONE, many - went.before))) for went in parts if went.accepted
            ]
            return sum((cents((went.cost or NONE) * some / went.accepted) for went, some in gone), NONE)

        return of_the_first(end) - of_the_first(before)

    # --- reservations

    @cached_property
    def allocations(self) -> dict[tuple[str, str], Said]:
        """(line, location) → the last word."""
        return {(one.fact.line_id, one.fact.location): one for one in self.said(o.OrderAllocated)}

    @cached_property
    def reserved(self) -> dict[tuple[str, str], tuple[Fraction, Fraction]]:
        """(line, location) → still open, and shipped from there."""
        found: dict[tuple[str, str], tuple[Fraction, Fraction]] = {}
        left = {line_id: line.open for line_id, line in self.lines.items()}
        for (line_id, location), one in sorted(self.allocations.items()):
            gone = sum(
                (
                    went.accepted
                    for shipment, parts in self.taken.items()
                    for went in parts
                    if went.line_id == line_id and self._left_from(shipment) == location
                ),
                NONE,
            )
            quantity = exact(one.fact.quantity)
            still = min(left[line_id], max(NONE, quantity - gone))
            left[line_id] -= still
            found[line_id, location] = (still, min(gone, quantity))
        return found

    def _left_from(self, shipment: TwinRef) -> str:
        gone = self.world.dispatch(shipment)
        assert gone is not None
        return str(gone.fact.location)

    # --- money

    def money(self, kind: type[F], name: str) -> dict[str, Said]:
        """Provider's id → its first telling."""
        found: dict[str, Said] = {}
        for one in self.said(kind):
            found.setdefault(getattr(one.fact, name), one)
        return found

    def total(self, kind: type[F], name: str) -> Fraction:
        return sum((exact(one.fact.amount) for one in self.money(kind, name).values()), NONE)

    def invoice_lines(self, shipment: TwinRef) -> Iterator[Plain]:
        for went in self.went(shipment):
            line = self.lines[went.line_id]
            if went.accepted:
                yield {
                    "line_id": went.line_id,
                    "sku": went.sku,
                    "quantity": went.accepted,
                    "net": slice_of(line.net, went.before, went.accepted, line.whole),
                    "tax": slice_of(exact(line.told.tax), went.before, went.accepted, line.whole),
                    "cost": went.cost,
                }

    def freight(self, shipment: TwinRef, name: str) -> Fraction:
        assert self.placed is not None
        told = getattr(self.amended.fact, name) if self.amended is not None else None
        whole = exact(getattr(self.placed, name) if told is None else told)
        total = sum((line.ordered - line.cancelled for line in self.lines.values()), NONE)
        before = NONE
        for other, parts in self.taken.items():
            part = sum((went.accepted for went in parts), NONE)
            if other == shipment:
                before = min(before, total)
                return slice_of(whole, before, min(total - before, part), total)
            before += part
        return NONE

    def invoiced_amount(self) -> Fraction:
        found = NONE
        for shipment in self.taken:
            if self.world.has_goods_issue(shipment):
                found += sum((one["net"] + one["tax"] for one in self.invoice_lines(shipment)), NONE)
                found += self.freight(shipment, "freight") + self.freight(shipment, "freight_tax")
        return found

    def credit(self, back: Back) -> tuple[Fraction, Fraction]:
        line = self.lines[back.line_id]
        return (
            slice_of(line.net, back.before, back.quantity, line.whole),
            slice_of(exact(line.told.tax), back.before, back.quantity, line.whole),
        )

    def balance(self) -> Fraction:
        credited = sum((sum(self.credit(back), NONE) for back in self.backs), NONE)
        captured = self.total(o.PaymentCaptured, "payment_id")
        return self.invoiced_amount() - credited - captured + self.total(o.RefundIssued, "refund_id")

    # --- status

    def status(self) -> str:
        if self.placed is None:
            return "provisional"
        ordered, cancelled, shipped, delivered = (
            sum((getattr(line, name) for line in self.lines.values()), NONE)
            for name in ("ordered", "cancelled", "shipped", "delivered")
        )
        if ordered and ordered == cancelled:
            return "cancelled"
        if shipped:
            if shipped < ordered - cancelled:
                return "partly-shipped"
            if delivered < ordered - cancelled:
                return "partly-delivered" if delivered else "shipped"
            return "closed" if self._is_settled() else "delivered"
        return self._status_before_shipping(ordered - cancelled)

    def _status_before_shipping(self, wanted: Fraction) -> str:
        released = {one.fact.hold_id for one in self.said(o.OrderHoldReleased)}
        if self.missing or {one.fact.hold_id for one in self.said(o.OrderHeld)} - released:
            return "held"
        if any(one.fact.lines for one in self.said(o.OrderReleased)):
            return "released"
        allocated = sum((exact(one.fact.quantity) for one in self.allocations.values()), NONE)
        if wanted and allocated >= wanted:
            return "allocated"
        return "validated" if self.said(o.OrderValidated) else "placed"

    def _is_settled(self) -> bool:
        ended = {one.fact.return_id for kind in (o.ReturnClosed, o.ReturnDeclined) for one in self.said(kind)}
        return not self.balance() and all(one.fact.return_id in ended for one in self.said(o.ReturnRequested))


# --- stock -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    status: str
    delta: Fraction
    at: datetime


class Stock:
    def __init__(self, world: World, ref: TwinRef, orders: Sequence[Order]) -> None:
        self.world, self.ref, self.orders = world, ref, orders
        self.sku, _, self.location = ref.key.rpartition("@")

    def _once(self, kind: type[F], name: str) -> list[Said]:
        """One a document id: its first telling."""
        found: dict[str, Said] = {}
        for one in self.world.of(self.ref, kind):
            found.setdefault(getattr(one.fact, name), one)
        return list(found.values())

    def own_moves(self) -> Iterator[tuple[Said, str, Fraction]]:
        """By its own facts: what, status, quantity."""
        sellable = st.StockStatus.SELLABLE
        documents: list[tuple[type[Fact], str, Callable[[Any], list[tuple[str, Decimal]]]]] = [
            (st.StockReceived, "receipt_id", lambda fact: [(fact.status, fact.quantity)]),
            (st.StockAdjusted, "adjustment_id", lambda fact: [(fact.status, fact.delta)]),
            (st.TransferredOut, "transfer_id", lambda fact: [(sellable, -fact.quantity)]),
            (st.TransferredIn, "transfer_id", lambda fact: [(sellable, fact.quantity)]),
            (
                st.StockStatusChanged,
                "change_id",
                lambda fact: [(fact.from_status, -fact.quantity), (fact.to_status, fact.quantity)],
            ),
        ]
        for kind, name, moves in documents:
            for one in self._once(kind, name):
                for status, delta in moves(one.fact):
                    yield one, status, exact(delta)

    def others_moves(self) -> Iterator[Move]:
        """By shipments and returns."""
        for ref in self.world.refs(Kind.SHIPMENT):
            gone = self.world.dispatch(ref)
            if gone is not None and gone.fact.location == self.location:
                many = sum((exact(one.quantity) for one in gone.fact.lines if one.sku == self.sku), NONE)
                yield Move("sellable", -many, gone.event.time)
        for order in self.orders:
            for back in order.backs:
                for (location, disposition), quantity in back.goods.items():
                    same = order.lines[back.line_id].shipped_sku == self.sku and location == self.location
                    if same and disposition != "scrap":
                        yield Move(disposition, quantity, back.at)

    def counts(self, status: str) -> list[Said]:
        return [one for one in self._once(st.StockCounted, "count_id") if one.fact.status == status]

    def taken_at(self, count: Said) -> datetime:
        """A count cannot have been taken before one that its place is after."""
        counts = self.counts(count.fact.status)
        return max(one.event.time for one in counts[: counts.index(count) + 1])

    def moved(self, status: str, after: Said | None, until: Said | None) -> Fraction:
        """What moved after one count and up to another."""
        order = [one.event.event_id for one in self.world.said.get(self.ref, ())]

        def place(one: Said) -> int:
            return order.index(one.event.event_id)

        own = (
            delta
            for one, what, delta in self.own_moves()
            if what == status
            and (after is None or place(one) > place(after))
            and (until is None or place(one) < place(until))
        )
        others = (
            move.delta
            for move in self.others_moves()
            if move.status == status
            and (after is None or move.at > self.taken_at(after))
            and (until is None or move.at <= self.taken_at(until))
        )
        return sum(own, NONE) + sum(others, NONE)

    def on_hand(self, status: str) -> Fraction:
        counts = self.counts(status)
        if not counts:
            return self.moved(status, None, None)
        return exact(counts[-1].fact.quantity) + self.moved(status, counts[-1], None)

    def variances(self) -> Iterator[tuple[Said, Fraction]]:
        for status in st.StockStatus:
            last: Said | None = None
            for count in self.counts(status):
                base = exact(last.fact.quantity) if last is not None else NONE
                expected = base + self.moved(status, last, count)
                if not count.fact.opening and exact(count.fact.quantity) != expected:
                    yield count, exact(count.fact.quantity) - expected
                last = count

    @cached_property
    def reservations(self) -> list[tuple[datetime, TwinRef, str, Fraction]]:
        """In the order in which they are granted."""
        return sorted(
            (order.allocations[line_id, location].event.time, order.ref, line_id, still)
            for order in self.orders
            if order.placed is not None
            for (line_id, location), (still, _) in order.reserved.items()
            if still and location == self.location and order.lines[line_id].told.sku == self.sku
        )

    def short(self) -> dict[tuple[TwinRef, str], Fraction]:
        """(order, line) → what it lacks: the goods go to those who were first."""
        left = max(NONE, self.on_hand("sellable"))
        found: dict[tuple[TwinRef, str], Fraction] = {}
        for _, order, line_id, quantity in self.reservations:
            got = min(left, quantity)
            left -= got
            if got < quantity:
                found[order, line_id] = quantity - got
        return found

    def document(self) -> Plain:
        reserved = sum((one[3] for one in self.reservations), NONE)
        safety = self.world.of(self.ref, st.SafetyStockSet)
        kept = exact(safety[-1].fact.quantity) if safety else NONE
        return {
            "on_hand": {status.value: self.on_hand(status) for status in st.StockStatus},
            "reserved": reserved,
            "safety": kept,
            "available": self.on_hand("sellable") - reserved - kept,
            "in_transit": self._sent_here() - self._arrived(),
        }

    def _sent_here(self) -> Fraction:
        sent = NONE
        for ref in self.world.refs(Kind.STOCK):
            if ref.key.rpartition("@")[0] == self.sku:
                legs = Stock(self.world, ref, ())._once(st.TransferredOut, "transfer_id")
                sent += sum(
                    (exact(one.fact.quantity) for one in legs if one.fact.to_location == self.location), NONE
                )
        return sent

    def _arrived(self) -> Fraction:
        return sum((exact(one.fact.quantity) for one in self._once(st.TransferredIn, "transfer_id")), NONE)


# --- the answer ------------------------------------------------------------------------------------------


@dataclass
class Truth:
    states: dict[str, Plain]
    postings: dict[str, Plain]


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
    states = {str(order.ref): _order_document(order, short) for order in orders}
    states |= {str(ref): {"status": world.shipment_status(ref)} for ref in world.refs(Kind.SHIPMENT)}
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


def _posting(command: str, key: str, at: datetime, **content: Any) -> Plain:
    common = {"command": command, "key": key, "event_date": at.date(), "company": "main", "currency": "USD"}
    return common | content


def _order_postings(order: Order, short: Short) -> Iterator[Plain]:
    name = order.ref.key
    for (line_id, location), (still, gone) in order.reserved.items():
        there = still - short.get((order.ref, line_id, location), NONE) + gone
        if there:
            yield _posting(
                "reserve-stock",
                _named("reserve", name, line_id, location),
                order.allocations[line_id, location].event.time,
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
        for provider_id, one in order.money(kind, field_name).items():
            yield _posting(
                command,
                _named(command, provider_id, name),
                one.event.time,
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
            cost = order.original_cost(back.line_id, before, quantity)
            goods.append(
                {"location": location, "disposition": disposition, "quantity": quantity, "cost": cost}
            )
            before += quantity
        yield _posting(
            "return-receipt", f"return-receipt/{key}", back.at, sku=line.shipped_sku, goods=goods, **common
        )
        net, tax = order.credit(back)
        yield _posting(
            "credit-note",
            f"credit-note/{key}",
            back.at,
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
    yield _posting("goods-issue", _named("goods-issue", ref.key), at, shipment_id=ref.key, lines=lines)
    freight = world._told_of_dispatch(ref, "freight_cost")
    if not freight:
        return
    carrier = world._told_of_dispatch(ref, "carrier") or "unknown"
    accrued = cents(exact(freight))
    shared = {"shipment_id": ref.key, "carrier": carrier}
    yield _posting("freight-accrual", _named("freight-accrual", ref.key), at, amount=accrued, **shared)
    for number in world._told_of_dispatch(ref, "tracking_numbers") or ():
        bills: dict[str, Said] = {}
        for bill in world.of(TwinRef(Kind.TRACKING, f"{carrier}:{number}"), tr.CarrierBilled):
            bills.setdefault(bill.fact.bill_id, bill)
        for bill_id, bill in bills.items():
            amount = exact(bill.fact.amount)
            if abs(amount - exact(freight)) <= exact(freight) * BILL_TOLERANCE:
                key = _named("carrier-bill", bill_id, ref.key)
                yield _posting(
                    "carrier-bill",
                    key,
                    bill.event.time,
                    bill_id=bill_id,
                    amount=cents(amount),
                    accrued=accrued,
                    **shared,
                )


def _stock_postings(stock: Stock) -> Iterator[Plain]:
    world, name = stock.world, stock.ref.key
    if not world.is_known(stock.sku):
        return
    common = {"sku": stock.sku, "location": stock.location}

    def worth(quantity: Fraction, at: datetime) -> Fraction | None:
        unit = world.cost(stock.sku, at)
        return None if unit is None else cents(unit * quantity)

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
        yield _posting(
            "stock-adjustment",
            f"{document}/{_named(name)}",
            at,
            status=one.fact.status.value,
            delta=delta,
            cost=worth(delta, at),
            **common,
        )
    for leg, kind in (("out", st.TransferredOut), ("in", st.TransferredIn)):
        for one in stock._once(kind, "transfer_id"):
            quantity, at = exact(one.fact.quantity), one.event.time
            yield _posting(
                "transfer",
                _named("transfer", one.fact.transfer_id, name, leg),
                at,
                transfer_id=one.fact.transfer_id,
                leg=leg,
                quantity=quantity,
                cost=worth(quantity, at),
                **common,
            )


# --- accounts --------------------------------------------------------------------------------------------


def accounts(postings: Iterable[Plain]) -> dict[str, Fraction]:
    """Net debit of each account, by the table of postings; what has no cost is worth nothing here."""
    net: dict[str, Fraction] = defaultdict(lambda: NONE)

    def book(debit: str, credit: str, amount: Fraction | None) -> None:
        net[debit] += amount or NONE
        net[credit] -= amount or NONE

    into = {"sellable": "inventory", "scrap": "scrap"}
    for one in postings:
        match one["command"]:
            case "goods-issue":
                for line in one["lines"]:
                    book("cost-interim", "inventory", line["cost"])
            case "invoice":
                for line in one["lines"]:
                    book("receivable", "revenue", line["net"])
                    book("receivable", "tax", line["tax"])
                    book("cost-of-goods", "cost-interim", line["cost"])
                book("receivable", "freight-income", one["freight"])
                book("receivable", "tax", one["freight_tax"])
            case "freight-accrual":
                book("freight-expense", "accrued-freight", one["amount"])
            case "carrier-bill":
                book("accrued-freight", "payable", one["accrued"])
                book("freight-expense", "payable", one["amount"] - one["accrued"])
            case "return-receipt":
                for part in one["goods"]:
                    account = into.get(part["disposition"], "quarantine-inventory")
                    book(account, "return-interim", part["cost"])
            case "credit-note":
                book("revenue", "receivable", one["net"])
                book("tax", "receivable", one["tax"])
                book("return-interim", "cost-of-goods", one["cost"])
            case "stock-adjustment":
                book("inventory", "inventory-variance", one["cost"])
            case "transfer":
                debit, credit = (
                    ("in-transit", "inventory") if one["leg"] == "out" else ("inventory", "in-transit")
                )
                book(debit, credit, one["cost"])
            case "payment":
                book("cash-clearing", "receivable", one["amount"])
            case "refund":
                book("receivable", "cash-clearing", one["amount"])
    return {account: amount for account, amount in sorted(net.items()) if amount}
