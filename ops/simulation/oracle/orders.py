"""Orders, and the shipments and master data that they depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from typing import Any

from canonical.envelope import Event
from canonical.facts import order as o
from canonical.facts import reference as r
from canonical.facts import shipment as sh
from canonical.facts import tracking as tr
from canonical.facts.base import Fact
from canonical.identity import Kind, TwinRef
from ops.simulation.oracle.facts import (
    LONG_AGO,
    NONE,
    TOLERANCE,
    WAY,
    F,
    Plain,
    Said,
    cents,
    exact,
    slice_of,
    what_counts,
)


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
    shipped: Fraction = NONE
    excess: Fraction = NONE
    excess_back: Fraction = NONE
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
class Put:
    """What an inspection put somewhere, when it did."""

    sku: str
    location: str
    disposition: str
    quantity: Fraction
    at: datetime


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

    def revision(self, sku: str, at: datetime) -> r.ItemUpserted | None:
        """What held of the item at that moment."""
        valid = [one for one in self.of(TwinRef(Kind.ITEM, sku), r.ItemUpserted) if one.event.time <= at]
        if not valid:
            return None
        fact = max(valid, key=lambda one: (one.fact.revision, one.event.time)).fact
        assert isinstance(fact, r.ItemUpserted)
        return fact

    def cost(self, sku: str, at: datetime, currency: str) -> Fraction | None:
        """In *currency*; what is told in another is no cost in this one."""
        told = self.revision(sku, at)
        if told is None or told.unit_cost is None or told.currency not in (None, currency):
            return None
        return exact(told.unit_cost)

    def currency_of_costs(self, sku: str, at: datetime) -> str:
        """What the books of a shelf were kept in at that moment, or first of all."""
        told = self.revision(sku, at)
        if told is None:
            upserts = self.of(TwinRef(Kind.ITEM, sku), r.ItemUpserted)
            told = min(upserts, key=lambda one: one.event.time).fact
        assert told is not None
        assert told.currency is not None, "stories name the currency of each cost"
        return told.currency

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

    def currency_of(self, order_id: str) -> str | None:
        told = self.of(TwinRef(Kind.ORDER, order_id), o.OrderPlaced)
        return told[0].fact.currency if told else None

    def issue_currency(self, ref: TwinRef) -> str | None:
        """A goods issue is one document, in the currency of the first of its orders."""
        gone = self.dispatch(ref)
        orders = {line.order_id for line in gone.fact.lines} if gone is not None else set()
        return self.currency_of(min(orders)) if orders else None

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
        self.puts: list[Put] = []
        self.lines: dict[str, Line] = {}
        if self.placed is not None:
            self._lines()
            self._ship()
            self._cancel()

    # --- what is wanted

    def said(self, kind: type[F]) -> list[Said]:
        return self.world.of(self.ref, kind)

    @cached_property
    def amendments(self) -> list[Said]:
        """Those that were the highest when they were told, in turn: one behind a higher never held."""
        found: list[Said] = []
        for one in self.said(o.OrderAmended):
            if not found or one.fact.revision > found[-1].fact.revision:
                found.append(one)
        return found

    @cached_property
    def amended(self) -> Said | None:
        return self.amendments[-1] if self.amendments else None

    def asked(self, line_id: str, at: datetime) -> Fraction:
        """By the order as it stood then."""
        assert self.placed is not None
        held = [one.fact.lines for one in self.amendments if one.event.time <= at]
        lines = held[-1] if held else self.placed.lines
        return sum((exact(line.quantity) for line in lines if line.line_id == line_id), NONE)

    def _lines(self) -> None:
        """Each as the last that asked for any of it has it; and what is asked for now."""
        assert self.placed is not None
        for line in self.placed.lines:
            self.lines[line.line_id] = Line(line, exact(line.quantity))
        for one in self.amendments:
            for known in self.lines.values():
                known.ordered = NONE
            for line in one.fact.lines:
                if line.quantity or (one is self.amended and line.line_id not in self.lines):
                    self.lines[line.line_id] = Line(line, exact(line.quantity))

    @cached_property
    def missing(self) -> bool:
        """Of the buyer, of what was placed and of what is asked for now; not of what was asked in between."""
        assert self.placed is not None
        skus = {line.line_id: line.sku for line in self.placed.lines}
        for line in self.amended.fact.lines if self.amended is not None else ():
            if line.quantity or line.line_id not in skus:
                skus[line.line_id] = line.sku
        buyer = self.placed.customer_id
        known = buyer is None or self.world.of(TwinRef(Kind.CUSTOMER, buyer), r.CustomerUpserted)
        return not (known and all(map(self.world.is_known, skus.values())))

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
                self._take(ref, line_id, sku, many, at) for (line_id, sku), many in sorted(asked.items())
            ]

    def _take(self, ref: TwinRef, line_id: str, sku: str, many: Fraction, at: datetime) -> Went:
        line = self.lines.get(line_id)
        if line is None:
            return Went(line_id, sku, NONE, NONE, many, None)
        covered = max(line.ordered, self.asked(line_id, at))
        accepted = max(NONE, min(many, covered * (1 + TOLERANCE) - line.shipped))
        is_ours = self.world.issue_currency(ref) == self.currency
        unit = self.world.cost(sku, at, self.currency) if is_ours else None
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
        answers: dict[str, Fact] = {}
        for one in self.world.said.get(self.ref, ()):
            if isinstance(one.fact, o.OrderCancelAccepted | o.OrderCancelRejected):
                answers.setdefault(one.fact.request_id, one.fact)
        requests = self.first(o.OrderCancelRequested, "request_id")
        cancels = [
            one.fact.lines
            for request_id, one in requests.items()
            if isinstance(answers.get(request_id), o.OrderCancelAccepted)
        ]
        cancels += [one.fact.lines for one in self.first(o.OrderCancelled, "cancel_id").values()]
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
                if went.line_id not in self.lines:
                    continue
                line = self.lines[went.line_id]
                line.delivered += went.accepted if self.world.is_delivered(shipment) else NONE
                line.invoiced += went.accepted if self.world.has_goods_issue(shipment) else NONE
        requests = self.said(o.ReturnRequested)
        for one in sorted(requests, key=lambda one: (one.event.time, one.fact.return_id)):
            self._bring_back(one.fact.return_id)

    def _bring_back(self, return_id: str) -> None:
        looked_at: dict[str, Said] = {}
        for one in self.said(o.ReturnInspected):
            if one.fact.return_id == return_id:
                looked_at.setdefault(one.fact.inspection_id, one)
        for line_id, line in sorted(self.lines.items()):
            parts = [
                (part, one.event.time)
                for one in looked_at.values()
                for part in one.fact.lines
                if part.line_id == line_id
            ]
            back = Back(return_id, line_id, line.accepted, defaultdict(lambda: NONE), LONG_AGO)
            fit: list[tuple[o.InspectedLine, datetime, Fraction, Fraction]] = []
            room, excess = line.shipped - line.accepted, line.excess - line.excess_back
            for part, at in parts:
                many = NONE if part.disposition == "rejected" else exact(part.quantity)
                fits = min(room, many)
                beyond = min(excess, many - fits)
                room, excess = room - fits, excess - beyond
                fit.append((part, at, fits, beyond))
                if fits:
                    back.goods[part.location, part.disposition.value] += fits
                back.at = max(back.at, at)
            self._put(line, back, fit)
            line.excess_back = line.excess - excess
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

    def _put(
        self, line: Line, back: Back, fit: list[tuple[o.InspectedLine, datetime, Fraction, Fraction]]
    ) -> None:
        """Goods that the order covered come before those beyond it; a receipt lists its goods by place."""
        so_far: dict[tuple[str, str], Fraction] = defaultdict(lambda: NONE)
        beyond_so_far = line.excess_back
        for part, at, fits, beyond in fit:
            where = part.location, part.disposition.value
            before = back.before + so_far[where]
            before += sum((many for other, many in back.goods.items() if other < where), NONE)
            skus = self.left_as(back.line_id, before, fits)
            for sku, many in self.left_as(back.line_id, beyond_so_far, beyond, "excess").items():
                skus[sku] = skus.get(sku, NONE) + many
            self.puts += [Put(sku, *where, many, at) for sku, many in skus.items()]
            so_far[where] += fits
            beyond_so_far += beyond

    def left_as(
        self, line_id: str, before: Fraction, quantity: Fraction, which: str = "accepted"
    ) -> dict[str, Fraction]:
        """SKUs of the *quantity* that left after so much had."""
        gone = [went for parts in self.taken.values() for went in parts if went.line_id == line_id]

        def of_the_first(many: Fraction) -> dict[str, Fraction]:
            found: dict[str, Fraction] = defaultdict(lambda: NONE)
            for went in gone:
                some = min(many, getattr(went, which))
                found[went.sku] += some
                many -= some
            return found

        until, then = of_the_first(before + quantity), of_the_first(before)
        return {sku: many - then[sku] for sku, many in until.items() if many != then[sku]}

    def suppliers(self, back: Back) -> list[TwinRef]:
        """Shipments that the goods left with: the first to leave are the first to come back."""
        end = back.before + back.quantity
        return [
            ref
            for ref, parts in self.taken.items()
            for went in parts
            if went.line_id == back.line_id
            and went.accepted
            and went.before < end
            and went.before + went.accepted > back.before
        ]

    def original_cost(
        self, line_id: str, before: Fraction, quantity: Fraction, sku: str | None = None
    ) -> Fraction | None:
        """*sku*: of what is of it."""
        parts = [
            went
            for found in self.taken.values()
            for went in found
            if went.line_id == line_id and went.accepted and sku in (None, went.sku)
        ]
        end = before + quantity
        if any(p.cost is None and p.before < end and p.before + p.accepted > before for p in parts):
            return None

        def of_the_first(many: Fraction) -> Fraction:
            gone = [(went, min(went.accepted, max(NONE, many - went.before))) for went in parts]
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

    def first(self, kind: type[F], name: str) -> dict[str, Said]:
        """Id → its first telling."""
        found: dict[str, Said] = {}
        for one in self.said(kind):
            found.setdefault(getattr(one.fact, name), one)
        return found

    @property
    def currency(self) -> str:
        assert self.placed is not None
        return self.placed.currency

    def total(self, kind: type[F], name: str, currency: str | None = None) -> Fraction:
        """In one currency, mostly the order's."""
        wanted = currency or self.currency
        told = [one.fact for one in self.first(kind, name).values()]
        return sum((exact(fact.amount) for fact in told if fact.currency == wanted), NONE)

    def strange_money(self) -> list[tuple[str, str]]:
        """(kind, provider's id) of money in currencies of which the order still has some, or lacks some."""
        moved = [
            (kind, provider_id, one.fact.currency)
            for kind, name in ((o.PaymentCaptured, "payment_id"), (o.RefundIssued, "refund_id"))
            for provider_id, one in self.first(kind, name).items()
        ]
        return [
            (kind.TYPE, provider_id)
            for kind, provider_id, currency in moved
            if currency != self.currency
            and self.total(o.PaymentCaptured, "payment_id", currency)
            != self.total(o.RefundIssued, "refund_id", currency)
        ]

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
        told = [getattr(one.fact, name) for one in self.amendments]
        said = [amount for amount in told if amount is not None]
        whole = exact(said[-1] if said else getattr(self.placed, name))
        due = {line_id: line.ordered - line.cancelled for line_id, line in self.lines.items()}
        gone: dict[str, Fraction] = {}
        for other, parts in self.taken.items():
            before = self._due_that_went(gone, due)
            for went in parts:
                gone[went.line_id] = gone.get(went.line_id, NONE) + went.accepted
            if other == shipment:
                part = self._due_that_went(gone, due) - before
                return slice_of(whole, before, part, sum(due.values(), NONE))
        return NONE

    def _due_that_went(self, gone: Mapping[str, Fraction], due: Mapping[str, Fraction]) -> Fraction:
        """What is too much of one line pays for no other's freight."""
        return sum((min(quantity, due.get(line_id, NONE)) for line_id, quantity in gone.items()), NONE)

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
            lines = self.lines.values()
            if any(line.shipped < line.ordered - line.cancelled for line in lines):
                return "partly-shipped"
            if any(line.delivered < line.ordered - line.cancelled for line in lines):
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
        if self.strange_money():
            return False
        ended = {one.fact.return_id for kind in (o.ReturnClosed, o.ReturnDeclined) for one in self.said(kind)}
        return not self.balance() and all(one.fact.return_id in ended for one in self.said(o.ReturnRequested))
