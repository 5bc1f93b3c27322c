"""A day of orders, made from one seed: what every party said of it, in its own format.

The same seed gives the same bytes. Orders are placed within one day; what becomes of them takes a week.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random

from canonical import identity
from canonical.envelope import STRUCTURED, Event
from canonical.facts.base import Fact
from canonical.facts.erp import PeriodClosed
from canonical.facts.order import (
    Disposition,
    InspectedLine,
    OrderAllocated,
    OrderCancelAccepted,
    OrderCancelRejected,
    OrderHeld,
    OrderHoldReleased,
    OrderValidated,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
)
from canonical.facts.reference import ItemUpserted
from canonical.facts.stock import (
    InboundExpected,
    SafetyStockSet,
    StockAdjusted,
    StockCounted,
    StockStatus,
    StockStatusChanged,
    TransferredIn,
    TransferredOut,
)
from canonical.facts.tracking import CarrierBilled
from canonical.identity import Kind, TwinRef
from canonical.money import ZERO, share
from canonical.translation import Connection
from ops.demo import carrier, shop, warehouse
from ops.demo.carrier import Scan
from ops.demo.goods import CURRENCY, Parcel, Pick, SoldLine, SoldOrder
from ops.demo.warehouse import line_pick

ANY_CLOCK_S = 20 * 366 * 86_400.0
"""How far ahead events may be dated where a day has a date of its own, whatever this machine's clock says."""
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
DALLAS, RENO, STORE = LOCATIONS = ("DC-DALLAS", "DC-RENO", "STORE-AUSTIN")
"""Dallas sends 945s; Reno 945s and, of the same goods, 856s; the store fulfils in Shopify."""
SKUS = tuple(f"SKU-{number:03}" for number in range(1, 25))
LATE_SKU, LATE_CUSTOMER = "SKU-NEW", "7999"
OPEN_HOURS = 9
"""For which orders are placed; the last of their scans come two days later."""
OPENING_EACH_MIN, ORDERS_A_PIECE = 400, 4
"""Pieces on each shelf before the first order: a warehouse cannot tell of less than none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it reaches an adapter. *happened_at* is when it would come if nothing were late."""

    adapter: str
    connection: str
    headers: Mapping[str, str]
    body: bytes
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class Day:
    messages: tuple[Message, ...]
    """As they were written; `in_order` sorts them."""
    connections: Mapping[tuple[str, str], Connection]
    cases: Mapping[str, int]
    """What befell the orders → how many of them."""


CONNECTIONS = {
    (one.adapter, one.name): one
    for one in (
        Connection("shopify", "shop", {"currency": CURRENCY}),
        Connection("easypost", "parcels"),
        Connection("x12", "dallas", {"location": DALLAS, "carrier.UPSN": "ups"}),
        Connection("x12", "reno", {"location": RENO, "carrier.UPSN": "ups"}),
        Connection("canonical", "oms"),
        Connection("canonical", "erp"),
        Connection("canonical", "wms"),
        Connection("canonical", "returns-portal"),
        Connection("canonical", "carrier"),
    )
}
WAREHOUSES = {DALLAS: "dallas", RENO: "reno"}
"""Location → the connection its interchanges come through."""


def in_order(day: Day) -> list[Message]:
    """Everything once, as it happened."""
    return sorted(day.messages, key=lambda message: message.happened_at)


def make_day(seed: int, orders: int, hours: int = OPEN_HOURS) -> Day:
    """Shape: about 14 messages an order, and 120 of master data and stock. Orders are placed for *hours*."""
    writer = _Writer(Random(f"day-{seed}"), hours)
    _open(writer, max(OPENING_EACH_MIN, orders // ORDERS_A_PIECE))
    for number, case in enumerate(_cases(writer.random, orders)):
        writer.cases[case] += 1
        _CASES[case].tell(writer, writer.order(number))
    _move_stock(writer)
    return Day(tuple(writer.messages), CONNECTIONS, dict(writer.cases))


def _cases(random: Random, orders: int) -> list[str]:
    """Each rare case at least once where there is room; the rest are plain."""
    told = [name for name, case in _CASES.items() for _ in range(max(1, round(case.share * orders)))]
    told = (told + ["plain"] * orders)[:orders]
    random.shuffle(told)
    return told


# --- writing ---------------------------------------------------------------------------------------------


def after(moment: datetime, **amount: float) -> datetime:
    return moment + timedelta(**amount)


@dataclass(slots=True)
class _Writer:
    random: Random
    hours: int
    messages: list[Message] = field(default_factory=list)
    cases: Counter[str] = field(default_factory=Counter)
    serial: count[int] = field(default_factory=lambda: count(1))
    moved: list[tuple[datetime, str, str, int]] = field(default_factory=list)
    """(moment, SKU, location, change) of goods on the shelves, for whoever counts them."""

    # --- parties

    def shopify(self, topic: str, body: bytes, at: datetime) -> None:
        headers = {"x-shopify-topic": topic, "x-shopify-triggered-at": at.isoformat()}
        self.messages.append(Message("shopify", "shop", headers, body, at))

    def x12(self, location: str, body: bytes, at: datetime) -> None:
        self.messages.append(Message("x12", WAREHOUSES[location], {}, body, at))

    def canonical(self, party: str, subject: TwinRef, fact: Fact, at: datetime) -> None:
        event = Event(f"/{party}/demo", f"{party}-{next(self.serial)}", subject, at, fact)
        self.messages.append(
            Message("canonical", party, {"content-type": STRUCTURED}, event.structured(), at)
        )

    # --- orders

    def order(self, number: int) -> SoldOrder:
        random = self.random
        order_id = str(5_100_000_001 + number)
        skus = random.sample(SKUS, random.choice((1, 1, 2, 2, 3)))
        lines = tuple(
            SoldLine(
                f"{order_id}{position}", sku, random.randint(2, 6), Decimal(random.randint(900, 9_900)) / 100
            )
            for position, sku in enumerate(skus, start=1)
        )
        placed_at = after(MIDNIGHT, hours=6, seconds=random.randrange(self.hours * 3600))
        customer_id = str(7_000 + random.randrange(60))
        freight = random.choice((ZERO, Decimal("7.50"), Decimal("12.95")))
        return SoldOrder(order_id, 1001 + number, customer_id, placed_at, lines, freight)

    def place(self, order: SoldOrder, location: str) -> None:
        """Accepted, and all of it allocated at one place."""
        self.accept(order)
        for line in order.lines:
            self.allocate(order, line, location, line.quantity)

    def accept(self, order: SoldOrder) -> None:
        """Placed, authorised and checked."""
        self.shopify("orders/create", shop.order_body(order, order.placed_at), order.placed_at)
        self.pay(order, "authorization", after(order.placed_at, seconds=20))
        subject = identity.order(order.order_id)
        self.canonical("oms", subject, OrderValidated(), after(order.placed_at, minutes=2))

    def allocate(self, order: SoldOrder, line: SoldLine, location: str, quantity: int) -> None:
        fact = OrderAllocated(line_id=line.line_id, location=location, quantity=Decimal(quantity))
        self.canonical("oms", identity.order(order.order_id), fact, after(order.placed_at, minutes=4))

    def pay(self, order: SoldOrder, kind: str, at: datetime) -> None:
        number = f"{order.order_id}{1 if kind == 'authorization' else 2}"
        body = shop.transaction_body(number, order, kind, order.total, at)
        self.shopify("order_transactions/create", body, at)

    # --- shipments

    def parcel(
        self,
        order: SoldOrder,
        location: str,
        picks: Sequence[Pick],
        *,
        number: int = 1,
        hours: float | None = None,
    ) -> Parcel:
        """Leaves *hours* after the order was placed."""
        serial = next(self.serial)
        shipment_id = f"{order.order_id}9{number}" if location == STORE else f"SHP-{order.number}-{number}"
        waits = self.random.uniform(1.0, 6.0) if hours is None else hours
        left_at = after(order.placed_at, seconds=round(waits * 3600))
        cost = Decimal(self.random.randint(450, 1_450)) / 100
        return Parcel(shipment_id, order.order_id, location, f"1Z{serial:016}", tuple(picks), left_at, cost)

    def release(self, order: SoldOrder, parcel: Parcel) -> None:
        if parcel.location in WAREHOUSES:
            at = max(after(order.placed_at, minutes=10), after(parcel.left_at, hours=-2))
            body = warehouse.release(order.order_id, parcel.shipment_id, parcel.location, parcel.picks, at)
            self.x12(parcel.location, body, at)

    def dispatch(self, parcel: Parcel) -> None:
        left = parcel.left_at
        if parcel.location == STORE:
            self.shopify("fulfillments/create", shop.fulfillment_body(parcel, "success", left), left)
        else:
            serial = next(self.serial)
            self.x12(parcel.location, warehouse.advice(parcel, serial), left)
            if parcel.location == RENO:
                self.x12(RENO, warehouse.ship_notice(parcel, serial), after(left, minutes=3))
        for pick in parcel.taken:
            self.moved.append((left, pick.sku, parcel.location, -pick.taken))

    def carry(self, parcel: Parcel, *, delivered: bool = True) -> datetime:
        """The parcel's scans; answers when the last one was."""
        left, hours = parcel.left_at, self.random.uniform(0, 6)
        scans = [
            Scan("pre_transit", "LABEL CREATED", after(left, minutes=-20), "AUSTIN"),
            Scan("in_transit", "ORIGIN SCAN", after(left, hours=1), "AUSTIN"),
            Scan("in_transit", "DEPARTED FACILITY", after(left, hours=7 + hours), "DALLAS"),
        ]
        if self.random.random() < 0.1:
            told = "WEATHER DELAY"
            scans.append(Scan("in_transit", told, after(left, hours=12 + hours), "TULSA"))
        if delivered:
            scans.append(Scan("out_for_delivery", "OUT FOR DELIVERY", after(left, hours=20 + hours), "TULSA"))
            scans.append(Scan("delivered", "DELIVERED", after(left, hours=26 + hours), "TULSA"))
        for many in range(1, len(scans) + 1):
            signed = "J. DOE" if scans[many - 1].status == "delivered" else None
            body = carrier.tracker_body(parcel.tracking_number, scans[:many], signed)
            self.messages.append(Message("easypost", "parcels", {}, body, scans[many - 1].at))
        return scans[-1].at

    def bill(self, parcel: Parcel) -> None:
        """A week later; one in ten is far from what was agreed."""
        dear = Decimal("1.40") if self.random.random() < 0.1 else Decimal(1)
        fact = CarrierBilled(
            bill_id=f"UPS-{self.random.randint(1, 4)}",
            amount=(parcel.cost * dear).quantize(Decimal("0.01")),
            currency=CURRENCY,
        )
        subject = identity.tracking("ups", parcel.tracking_number)
        self.canonical("carrier", subject, fact, after(parcel.left_at, days=7))

    def ship(self, order: SoldOrder, parcel: Parcel) -> datetime:
        """The whole way of a parcel; answers when it was delivered."""
        self.release(order, parcel)
        self.dispatch(parcel)
        delivered_at = self.carry(parcel)
        if parcel.location in WAREHOUSES:
            self.bill(parcel)
        return delivered_at

    def anywhere(self) -> str:
        return self.random.choice((DALLAS, DALLAS, RENO, RENO, STORE))


# --- what befalls orders ---------------------------------------------------------------------------------


def _plain(told: _Writer, order: SoldOrder) -> None:
    location = told.anywhere()
    told.place(order, location)
    parcel = told.parcel(order, location, [line_pick(line) for line in order.lines])
    told.ship(order, parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))


def _split(told: _Writer, order: SoldOrder) -> None:
    """Half of each line from either coast."""
    told.accept(order)
    picks: dict[str, list[Pick]] = {DALLAS: [], RENO: []}
    for line in order.lines:
        near = line.quantity // 2
        for location, part in ((DALLAS, near), (RENO, line.quantity - near)):
            told.allocate(order, line, location, part)
            picks[location].append(Pick(line, part, part, line.sku))
    for number, location in enumerate((DALLAS, RENO), start=1):
        parcel = told.parcel(order, location, picks[location], number=number)
        told.ship(order, parcel)
    told.pay(order, "capture", after(order.placed_at, hours=7))


def _short(told: _Writer, order: SoldOrder) -> None:
    """The warehouse finds less than was asked for; the rest follows the next day."""
    told.place(order, DALLAS)
    first = told.parcel(order, DALLAS, [line_pick(line, line.quantity - 1) for line in order.lines])
    told.ship(order, first)
    rest = [Pick(line, 1, 1, line.sku) for line in order.lines]
    told.ship(order, told.parcel(order, DALLAS, rest, number=2, hours=30))
    told.pay(order, "capture", after(first.left_at, minutes=1))


def _substitution(told: _Writer, order: SoldOrder) -> None:
    told.place(order, DALLAS)
    other = SKUS[(SKUS.index(order.lines[0].sku) + 1) % len(SKUS)]
    picks = [line_pick(line) for line in order.lines]
    picks[0] = line_pick(order.lines[0], sku=other)
    parcel = told.parcel(order, DALLAS, picks)
    told.ship(order, parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))


def _amended(told: _Writer, order: SoldOrder) -> None:
    """The customer takes one piece less, before the release."""
    told.place(order, DALLAS)
    first = order.lines[0]
    updated = after(order.placed_at, minutes=8)
    body = shop.order_body(order, updated, removed={first.line_id: 1})
    told.shopify("orders/updated", body, updated)
    picks = [Pick(first, first.quantity - 1, first.quantity - 1, first.sku)]
    picks += [line_pick(line) for line in order.lines[1:]]
    parcel = told.parcel(order, DALLAS, picks)
    told.ship(order, parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))


def _cancelled(told: _Writer, order: SoldOrder) -> None:
    """Before anything was released."""
    told.place(order, told.anywhere())
    at = after(order.placed_at, minutes=8)
    told.shopify("orders/cancelled", shop.order_body(order, at, cancelled_at=at), at)


def _cancel_accepted(told: _Writer, order: SoldOrder) -> None:
    told.place(order, RENO)
    parcel = told.parcel(order, RENO, [line_pick(line) for line in order.lines], hours=4)
    told.release(order, parcel)
    _ask_to_cancel(told, order, parcel, OrderCancelAccepted(request_id=f"940/{parcel.shipment_id}"))


def _cancel_lost(told: _Writer, order: SoldOrder) -> None:
    """The goods win the race."""
    told.place(order, RENO)
    parcel = told.parcel(order, RENO, [line_pick(line) for line in order.lines], hours=4)
    refused = OrderCancelRejected(request_id=f"940/{parcel.shipment_id}", reason="loaded already")
    _ask_to_cancel(told, order, parcel, refused)
    told.ship(order, parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))


def _ask_to_cancel(told: _Writer, order: SoldOrder, parcel: Parcel, answer: Fact) -> None:
    at = after(order.placed_at, hours=3)
    body = warehouse.cancel(order.order_id, parcel.shipment_id, RENO, parcel.picks, at)
    told.x12(RENO, body, at)
    told.canonical("wms", identity.order(order.order_id), answer, after(at, minutes=30))


def _held(told: _Writer, order: SoldOrder) -> None:
    """Checked by a person, who lets it go."""
    subject, at = identity.order(order.order_id), after(order.placed_at, minutes=1)
    told.canonical("oms", subject, OrderHeld(hold_id="fraud", reason="address mismatch"), at)
    told.canonical("oms", subject, OrderHoldReleased(hold_id="fraud"), after(at, minutes=25))
    _plain(told, order)


def _stuck(told: _Writer, order: SoldOrder) -> None:
    """Nobody lets it go."""
    told.place(order, told.anywhere())
    fact = OrderHeld(hold_id="credit", reason="credit limit exceeded")
    told.canonical("oms", identity.order(order.order_id), fact, after(order.placed_at, minutes=3))


def _unknown_item(told: _Writer, order: SoldOrder) -> None:
    """Sold before anyone told us of the article."""
    _plain(told, replace(order, lines=(replace(order.lines[0], sku=LATE_SKU), *order.lines[1:])))


def _unknown_customer(told: _Writer, order: SoldOrder) -> None:
    _plain(told, replace(order, customer_id=LATE_CUSTOMER))


def _voided_after(told: _Writer, order: SoldOrder) -> None:
    """Dispatched and invoiced, then withdrawn; another parcel takes its place."""
    location = told.random.choice((RENO, STORE))
    told.place(order, location)
    picks = [line_pick(line) for line in order.lines]
    first = told.parcel(order, location, picks, hours=2)
    told.release(order, first)
    told.dispatch(first)
    at = after(first.left_at, hours=1)
    if location == STORE:
        told.shopify("fulfillments/update", shop.fulfillment_body(first, "cancelled", at), at)
    else:
        told.x12(location, warehouse.withdrawal(first.shipment_id, at), at)
    for pick in picks:
        told.moved.append((at, pick.sku, location, pick.taken))
    told.ship(order, told.parcel(order, location, picks, number=2, hours=5))
    told.pay(order, "capture", after(order.placed_at, hours=6))


def _voided_before(told: _Writer, order: SoldOrder) -> None:
    """Withdrawn while it was being picked."""
    told.place(order, RENO)
    picks = [line_pick(line) for line in order.lines]
    first = told.parcel(order, RENO, picks, hours=3)
    told.release(order, first)
    at = after(first.left_at, hours=-1)
    told.x12(RENO, warehouse.withdrawal(first.shipment_id, at), at)
    told.ship(order, told.parcel(order, RENO, picks, number=2, hours=6))
    told.pay(order, "capture", after(order.placed_at, hours=7))


def _never_dispatched(told: _Writer, order: SoldOrder) -> None:
    """The carrier delivers what the warehouse never said it sent."""
    told.place(order, DALLAS)
    parcel = told.parcel(order, DALLAS, [line_pick(line) for line in order.lines])
    told.release(order, parcel)
    told.carry(parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))


def _returned(told: _Writer, order: SoldOrder) -> None:
    """Part of it comes back, some of it damaged; the money follows."""
    location = told.random.choice((DALLAS, RENO))
    told.place(order, location)
    parcel = told.parcel(order, location, [line_pick(line) for line in order.lines])
    delivered_at = told.ship(order, parcel)
    told.pay(order, "capture", after(parcel.left_at, minutes=1))
    line = order.lines[0]
    back = told.random.randint(1, line.quantity)
    _bring_back(told, order, line, back, location, after(delivered_at, days=1))


def _bring_back(
    told: _Writer, order: SoldOrder, line: SoldLine, back: int, location: str, at: datetime
) -> None:
    random, return_id = told.random, f"{order.order_id}7"
    lines = [(line, back)]
    told.shopify("returns/request", shop.return_body(return_id, order, lines, "requested"), at)
    if random.random() < 0.15:
        declined = shop.return_body(return_id, order, lines, "declined")
        told.shopify("returns/decline", declined, after(at, hours=1))
        return
    told.shopify("returns/approve", shop.return_body(return_id, order, lines, "open"), after(at, hours=1))
    # Half of the docks read the RMA number alone off the parcel.
    dock = identity.return_(return_id) if random.random() < 0.5 else identity.order(order.order_id)
    arrived = ReturnReceived(
        return_id=return_id, lines=(ReturnLine(line_id=line.line_id, quantity=Decimal(back)),)
    )
    told.canonical("returns-portal", dock, arrived, after(at, days=2))
    damaged = random.randint(0, back)
    parts = {"sellable": back - damaged, random.choice(("damaged", "scrap", "quarantine")): damaged}
    inspected = tuple(
        InspectedLine(
            line_id=line.line_id,
            quantity=Decimal(quantity),
            disposition=Disposition(disposition),
            location=location,
        )
        for disposition, quantity in parts.items()
        if quantity
    )
    told.canonical(
        "returns-portal",
        dock,
        ReturnInspected(return_id=return_id, inspection_id=f"I-{return_id}", lines=inspected),
        after(at, days=2, hours=1),
    )
    told.moved.append((after(at, days=2, hours=1), line.sku, location, back - damaged))
    tax = share(line.tax, ZERO, Decimal(back), Decimal(line.quantity), CURRENCY)
    amount = back * line.unit_price + tax
    refund = shop.refund_body(f"{order.order_id}8", order, lines, amount, after(at, days=2, hours=2))
    told.shopify("refunds/create", refund, after(at, days=2, hours=2))
    closed = shop.return_body(return_id, order, lines, "closed")
    told.shopify("returns/close", closed, after(at, days=2, hours=3))


@dataclass(frozen=True, slots=True)
class _Case:
    share: float
    """Of all orders."""
    tell: Callable[[_Writer, SoldOrder], None]


_CASES: Mapping[str, _Case] = {
    "plain": _Case(0.0, _plain),
    "returned": _Case(0.12, _returned),
    "short pick": _Case(0.08, _short),
    "split": _Case(0.08, _split),
    "substitution": _Case(0.05, _substitution),
    "cancel after release": _Case(0.04, _cancel_accepted),
    "cancel lost the race": _Case(0.03, _cancel_lost),
    "cancelled": _Case(0.04, _cancelled),
    "amended": _Case(0.04, _amended),
    "voided after dispatch": _Case(0.03, _voided_after),
    "voided before dispatch": _Case(0.02, _voided_before),
    "held and let go": _Case(0.03, _held),
    "held": _Case(0.01, _stuck),
    "unknown item": _Case(0.02, _unknown_item),
    "unknown customer": _Case(0.01, _unknown_customer),
    "delivered, never dispatched": _Case(0.01, _never_dispatched),
}


# --- master data and stock -------------------------------------------------------------------------------


def _open(told: _Writer, pieces: int) -> None:
    """What is known before the first order. *pieces*: of each item on each shelf."""
    at = after(MIDNIGHT, hours=1)
    for number, sku in enumerate(SKUS):
        _item(told, sku, Decimal(300 + 75 * number) / 100, at)
        for location in LOCATIONS:
            fact = StockCounted(count_id="OPENING", quantity=Decimal(pieces), opening=True)
            told.canonical("wms", identity.stock(sku, location), fact, at)
            told.moved.append((at, sku, location, pieces))
    opening = StockCounted(count_id="OPENING", quantity=Decimal(pieces), opening=True)
    for location in LOCATIONS:
        told.canonical("wms", identity.stock(LATE_SKU, location), opening, at)
    for number in range(60):
        body = shop.customer_body(str(7_000 + number), "Customer", f"No. {number + 1}", at)
        told.shopify("customers/create", body, at)
    # Master data that comes after the orders that need it.
    evening = after(MIDNIGHT, hours=20)
    _item(told, LATE_SKU, Decimal("4.20"), at, told_at=evening)
    told.shopify("customers/create", shop.customer_body(LATE_CUSTOMER, "Late", "Comer", at), evening)
    # The cost of one article rises during the day.
    _item(told, SKUS[0], Decimal("3.40"), after(MIDNIGHT, hours=13), revision=2)


def _item(
    told: _Writer,
    sku: str,
    cost: Decimal,
    at: datetime,
    *,
    revision: int = 1,
    told_at: datetime | None = None,
) -> None:
    fact = ItemUpserted(revision=revision, title=f"Article {sku}", unit_cost=cost, currency=CURRENCY)
    told.canonical("erp", identity.item(sku), fact, at)
    if told_at is not None:
        told.messages[-1] = replace(told.messages[-1], happened_at=told_at)


def _move_stock(told: _Writer) -> None:
    """Receipts, transfers, corrections, a recount, and a period that was closed the day before."""
    yesterday = after(MIDNIGHT, hours=-2)
    closed = PeriodClosed(closed_through=yesterday.date())
    told.canonical("erp", TwinRef(Kind.ERP, "main"), closed, after(MIDNIGHT, hours=0.5))
    broken = StockAdjusted(adjustment_id="ADJ-OLD", delta=Decimal(-2), reason="found broken")
    told.canonical("wms", identity.stock(SKUS[3], RENO), broken, yesterday)
    told.messages[-1] = replace(told.messages[-1], happened_at=after(MIDNIGHT, hours=10))
    for sku in SKUS[:3]:
        told.canonical(
            "oms", identity.stock(sku, DALLAS), SafetyStockSet(quantity=Decimal(10)), after(MIDNIGHT, hours=2)
        )
    due = InboundExpected(inbound_id="PO-77", quantity=Decimal(50), due=after(MIDNIGHT, days=3))
    told.canonical("erp", identity.stock(SKUS[4], RENO), due, after(MIDNIGHT, hours=3))
    _receive(told)
    _transfer(told, "TR-1", SKUS[5], DALLAS, RENO, arrives=True)
    _transfer(told, "TR-2", SKUS[6], RENO, DALLAS, arrives=False)
    changed = StockStatusChanged(
        change_id="QC-1",
        quantity=Decimal(5),
        from_status=StockStatus.SELLABLE,
        to_status=StockStatus.QUARANTINE,
    )
    told.canonical("wms", identity.stock(SKUS[7], DALLAS), changed, after(MIDNIGHT, hours=11))
    told.moved.append((after(MIDNIGHT, hours=11), SKUS[7], DALLAS, -5))
    _recount(told, DALLAS, SKUS[8:14])


def _receive(told: _Writer) -> None:
    at, quantities = after(MIDNIGHT), {SKUS[4]: 40, SKUS[9]: 25}
    told.x12(RENO, warehouse.received("RCV-1", RENO, quantities, at), after(at, hours=9))
    told.moved += [(at, sku, RENO, quantity) for sku, quantity in quantities.items()]


def _transfer(told: _Writer, transfer_id: str, sku: str, origin: str, goal: str, *, arrives: bool) -> None:
    quantity, at = Decimal(20), after(MIDNIGHT, hours=8)
    out = TransferredOut(transfer_id=transfer_id, to_location=goal, quantity=quantity)
    told.canonical("wms", identity.stock(sku, origin), out, at)
    told.moved.append((at, sku, origin, -20))
    if arrives:
        arrived = TransferredIn(transfer_id=transfer_id, from_location=origin, quantity=quantity)
        told.canonical("wms", identity.stock(sku, goal), arrived, after(at, hours=9))
        told.moved.append((after(at, hours=9), sku, goal, 20))


def _recount(told: _Writer, location: str, skus: Sequence[str]) -> None:
    """Some shelves hold a piece more or less than the books say."""
    at = after(MIDNIGHT, hours=17)
    found = {
        sku: sum(
            change
            for when, what, where, change in told.moved
            if (what, where) == (sku, location) and when <= at
        )
        + told.random.choice((-2, -1, 0, 0, 1))
        for sku in skus
    }
    told.x12(location, warehouse.counted("CYCLE-1", location, found, at), at)
