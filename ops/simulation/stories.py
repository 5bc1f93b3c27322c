"""What sources tell in the simulation: each story is an order's life, or the day of the warehouses.

A story draws from a random stream of its own, so that leaving one out changes no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from canonical.envelope import Event
from canonical.facts.base import Fact, Retracted
from canonical.facts.order import (
    CancelledLine,
    Disposition,
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
    ReleasedLine,
    ReturnApproved,
    ReturnClosed,
    ReturnDeclined,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
    ReturnRequested,
)
from canonical.facts.reference import CustomerUpserted, ItemDeactivated, ItemUpserted
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
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingScanned
from canonical.identity import TwinRef, customer, item, order, shipment, stock, tracking

MORNING = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
SKUS = ("SKU-1", "SKU-2", "SKU-3", "SKU-4")
PLACES = ("DC-1", "DC-2")
CARRIER = "ups"
OMS, PSP, POLL, PORTAL, MASTER = "/oms/web", "/psp/webhook", "/psp/poll", "/portal", "/erp/master"
EDI_856, EDI_214, CARRIER_API = "/edi/856", "/edi/214", "/carrier/api"
NUMBERED = frozenset({OMS, *(f"/wms/{place}" for place in PLACES)})
"""Sources that number what they tell."""
SKEW_MAX = timedelta(minutes=45)
JUMP_MAX, JUMPS = timedelta(minutes=90), 0.2
"""How far, and how often, the clock of a source jumps; those that number their events can be put right."""


@dataclass(slots=True)
class Story:
    """Events of one story; *at* the true time of each."""

    name: str
    random: Random
    told: list[Event] = field(default_factory=list)

    def tell(self, source: str, subject: TwinRef, fact: Fact, at: float, *, id: str | None = None) -> Event:
        """*at*: minutes since the morning."""
        name = id or f"{self.name}/{len(self.told)}"
        event = Event(source, name, subject, MORNING + timedelta(minutes=at), fact)
        self.told.append(event)
        return event

    def chance(self, share: float) -> bool:
        return self.random.random() < share


def tell_day(seed: int, orders: Iterable[int], *, skewed: bool) -> list[Event]:
    """The events of a day, in the order of true time. *orders*: the numbers of its orders.

    *skewed*: each source's clock is off by as much as it is; one that numbers its events jumps besides.
    """
    stories = [_warehouses(Random(f"{seed}/warehouses"))]
    stories += [_life(number, Random(f"{seed}/{number}")) for number in orders]
    told = sorted(
        (event for story in stories for event in story.told), key=lambda one: (one.time, one.event_id)
    )
    return _as_their_sources_tell(told, Random(f"{seed}/clocks") if skewed else None)


def _as_their_sources_tell(told: list[Event], clocks: Random | None) -> list[Event]:
    sources = sorted({event.source for event in told})
    skew: Mapping[str, timedelta] = (
        {source: SKEW_MAX * clocks.uniform(-1, 1) for source in sources} if clocks is not None else {}
    )
    numbers: Counter[str] = Counter()
    number_of: dict[str, int] = {}
    found: list[Event] = []
    for event in told:
        if event.source in NUMBERED and event.event_id not in number_of:
            number_of[event.event_id] = numbers[event.source]
            numbers[event.source] += 1
        off = skew.get(event.source, timedelta(0))
        if clocks is not None and event.source in NUMBERED and clocks.random() < JUMPS:
            off += JUMP_MAX * clocks.uniform(-1, 1)
        found.append(replace(event, time=event.time + off, sequence=number_of.get(event.event_id)))
    return found


# --- warehouses ------------------------------------------------------------------------------------------


def _warehouses(random: Random) -> Story:
    story = Story("warehouses", random)
    for sku in SKUS:
        cost = Decimal(random.randrange(100, 2_000)) / 100
        upserted = ItemUpserted(revision=1, title=sku, unit_cost=cost, currency="USD")
        story.tell(MASTER, item(sku), upserted, -600)
        if story.chance(0.3):
            other = "EUR" if cost.as_tuple().digits[-1] < 3 else "USD"
            upserted = ItemUpserted(revision=2, title=sku, unit_cost=cost + 1, currency=other)
            story.tell(MASTER, item(sku), upserted, random.randrange(0, 900))
        if story.chance(0.1):
            story.tell(MASTER, item(sku), ItemDeactivated(revision=3), 1_000)
        for place in PLACES:
            _shelf(story, sku, place)
    if story.chance(0.7):
        _transfer(story)
    return story


def _shelf(story: Story, sku: str, place: str) -> None:
    random, ref, wms = story.random, stock(sku, place), f"/wms/{place}"
    name = f"{sku}/{place}"
    story.tell(
        wms, ref, StockCounted(count_id="OPEN", quantity=Decimal(random.randrange(5, 40)), opening=True), -500
    )
    if story.chance(0.3):
        _adjust(story, ref, wms, name)
    if story.chance(0.3):
        at = random.randrange(100, 1_500)
        count = StockCounted(count_id=f"C/{name}", quantity=Decimal(random.randrange(0, 40)))
        told = story.tell(wms, ref, count, at)
        if story.chance(0.3):
            story.tell("/rfid", ref, count, at + 3)
        if story.chance(0.2):
            corrected = StockCounted(count_id=f"C2/{name}", quantity=Decimal(random.randrange(0, 40)))
            _take_back(story, told, at + 20, story.tell(wms, ref, corrected, at))
    if story.chance(0.2):
        received = StockReceived(receipt_id=f"R/{name}", quantity=Decimal(random.randrange(1, 20)))
        at = random.randrange(0, 1_000)
        story.tell(wms, ref, received, at)
        if story.chance(0.3):
            story.tell("/edi/944", ref, received, at + 40)
    if story.chance(0.2):
        change = StockStatusChanged(
            change_id=f"S/{name}",
            quantity=Decimal(random.randrange(1, 5)),
            from_status=StockStatus.SELLABLE,
            to_status=random.choice([StockStatus.DAMAGED, StockStatus.QUARANTINE]),
        )
        story.tell(wms, ref, change, at := random.randrange(0, 1_000))
        if story.chance(0.3):
            story.tell("/rfid", ref, change, at + 5)
    if story.chance(0.2):
        story.tell(
            wms, ref, SafetyStockSet(quantity=Decimal(random.randrange(0, 5))), random.randrange(0, 1_000)
        )
    if story.chance(0.1):
        due = MORNING + timedelta(days=3)
        story.tell(wms, ref, InboundExpected(inbound_id=f"I/{name}", quantity=Decimal(9), due=due), 50)


def _adjust(story: Story, ref: TwinRef, wms: str, name: str) -> None:
    """One of: plain, told twice under two ids, told in two versions under one id, taken back."""
    random, at = story.random, story.random.randrange(0, 1_400)
    fact = StockAdjusted(adjustment_id=f"A/{name}", delta=Decimal(random.choice([-3, -2, -1, 1, 2, 3])))
    told = story.tell(wms, ref, fact, at)
    match random.randrange(4):
        case 0:
            story.tell("/edi/947", ref, fact, at + 30)
        case 1:
            other = StockAdjusted(adjustment_id=fact.adjustment_id, delta=fact.delta + 5)
            story.tell(wms, ref, other, at, id=told.id)
        case 2:
            corrected = StockAdjusted(adjustment_id=f"A2/{name}", delta=fact.delta * 2)
            _take_back(story, told, at + 60, story.tell(wms, ref, corrected, at))


def _transfer(story: Story) -> None:
    random, sku = story.random, story.random.choice(SKUS)
    origin, goal = random.sample(PLACES, 2)
    quantity, at = Decimal(random.randrange(1, 6)), random.randrange(0, 700)
    out = TransferredOut(transfer_id="T-1", to_location=goal, quantity=quantity)
    story.tell(f"/wms/{origin}", stock(sku, origin), out, at)
    if story.chance(0.8):
        came = TransferredIn(transfer_id="T-1", from_location=origin, quantity=quantity)
        story.tell(f"/wms/{goal}", stock(sku, goal), came, at + 300)


def _take_back(story: Story, told: Event, at: float, *corrective: Event) -> None:
    """An error declaration, by the source that told it."""
    fact = Retracted(
        source=told.source,
        id=told.id,
        reason="incorrect_data" if corrective else "did_not_occur",
        corrective_ids=tuple(one.id for one in corrective),
    )
    story.tell(told.source, told.subject, fact, at)


# --- an order's life -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    story: Story
    ref: TwinRef
    lines: tuple[OrderLine, ...]
    at: float
    place: str
    shipments: int = 0

    def oms(self, fact: Fact, at: float) -> Event:
        return self.story.tell(OMS, self.ref, fact, at)


def _life(number: int, random: Random) -> Story:
    story = Story(f"SO-{number}", random)
    life = Life(story, order(story.name), _lines(random), random.randrange(0, 600), random.choice(PLACES))
    _place(life)
    fate = random.choice(_FATES)
    fate(life)
    return story


def _lines(random: Random) -> tuple[OrderLine, ...]:
    skus = random.sample(SKUS, random.choice([1, 1, 2, 3]))
    return tuple(
        OrderLine(
            line_id=str(index + 1),
            sku=sku,
            quantity=Decimal(random.randrange(1, 9)),
            unit_price=Decimal(random.randrange(500, 9_999)) / 100,
            discount=random.choice([Decimal(0), Decimal("0.37")]),
            tax=Decimal(random.randrange(0, 500)) / 100,
        )
        for index, sku in enumerate(skus)
    )


def _place(life: Life) -> None:
    story, random, at = life.story, life.story.random, life.at
    buyer = f"C-{random.randrange(6)}"
    if story.chance(0.95):
        known = random.choice([-400, at + 100])
        story.tell(MASTER, customer(buyer), CustomerUpserted(revision=1, name="Ann"), known)
    placed = OrderPlaced(
        customer_id=buyer,
        currency=random.choice(["USD"] * 9 + ["EUR"]),
        lines=life.lines,
        freight=random.choice([Decimal(0), Decimal("7.50")]),
        freight_tax=random.choice([Decimal(0), Decimal("0.61")]),
    )
    life.oms(placed, at)
    if story.chance(0.6):
        life.oms(OrderValidated(), at + 2)
    if story.chance(0.8):
        _pay(life, at + 3, placed.currency)


def _pay(life: Life, at: float, currency: str) -> None:
    """Mostly all of it, in the order's currency; now and then in another, given back or not."""
    story, random = life.story, life.story.random
    amount = sum(
        (line.quantity * line.unit_price - line.discount + line.tax for line in life.lines), Decimal(0)
    )
    payment_id = f"P/{story.name}"
    if story.chance(0.3):
        authorized = PaymentAuthorized(payment_id=payment_id, amount=amount, currency=currency)
        story.tell(PSP, life.ref, authorized, at - 1)
    captured = PaymentCaptured(payment_id=payment_id, amount=amount, currency=currency)
    told = story.tell(PSP, life.ref, captured, at)
    if story.chance(0.3):
        story.tell(POLL, life.ref, captured, at + random.randrange(0, 60))
    elif story.chance(0.1):
        _take_back(story, told, at + 200)
    elif story.chance(0.1):
        story.tell(PSP, life.ref, replace(captured, amount=amount + 1), at, id=told.id)
    if story.chance(0.15):
        wrong = PaymentCaptured(payment_id=f"{payment_id}/2", amount=Decimal("9.10"), currency="CAD")
        story.tell(PSP, life.ref, wrong, at + 1)
        if story.chance(0.5):
            back = RefundIssued(refund_id=f"F/{story.name}/2", amount=wrong.amount, currency="CAD")
            story.tell(PSP, life.ref, back, at + 100)


def _allocate(life: Life, share: Decimal = Decimal(1)) -> None:
    story, random = life.story, life.story.random
    for line in life.lines:
        here = (line.quantity * share).to_integral_value()
        if story.chance(0.2):
            life.oms(
                OrderAllocated(line_id=line.line_id, location=life.place, quantity=line.quantity + 1),
                life.at + 4,
            )
        if story.chance(0.2) and here > 1:
            other = next(place for place in PLACES if place != life.place)
            life.oms(OrderAllocated(line_id=line.line_id, location=other, quantity=Decimal(1)), life.at + 5)
            here -= 1
        life.oms(OrderAllocated(line_id=line.line_id, location=life.place, quantity=here), life.at + 6)
    if story.chance(0.7):
        released = tuple(ReleasedLine(line_id=line.line_id, quantity=line.quantity) for line in life.lines)
        fact = OrderReleased(release_id=f"{story.name}/R", location=life.place, lines=released)
        life.oms(fact, life.at + 10 + random.random())


def _ship(
    life: Life,
    quantities: Mapping[str, Decimal],
    at: float,
    *,
    delivered: bool = True,
    label: str | None = None,
) -> tuple[TwinRef, Event]:
    """Pick, pack, dispatch and carry. Answers the shipment and its dispatch. *label*: shared with another."""
    story, random = life.story, life.story.random
    life.shipments += 1
    ref, wms = shipment(f"{story.name}-{life.shipments}"), f"/wms/{life.place}"
    lines = _goods(life, quantities)
    if story.chance(0.7):
        story.tell(OMS, ref, ShipmentCreated(location=life.place, lines=lines), at - 30)
    _pick_and_pack(life, ref, lines, at)
    number = label or f"1Z{story.name.replace('-', '')}{life.shipments}"
    numbers = (number, f"{number}B") if story.chance(0.2) else (number,)
    dispatched = ShipmentDispatched(
        location=life.place,
        lines=lines,
        carrier=CARRIER,
        tracking_numbers=numbers,
        freight_cost=random.choice(_COSTS if label is None else _COSTS[1:]),
        freight_currency=random.choice(["USD", "USD", "USD", "USD", "EUR"]),
    )
    told = story.tell(wms, ref, dispatched, at)
    if story.chance(0.3):
        said = replace(dispatched, freight_cost=None, freight_currency=None)
        story.tell(EDI_856, ref, said, at + random.randrange(0, 90))
    parcels = [tracking(CARRIER, number) for number in numbers]
    for parcel in parcels if delivered else ():
        _carry(life, parcel, at)
    if label is None and story.chance(0.6):
        cost, currency = dispatched.freight_cost or Decimal("5.00"), dispatched.freight_currency or "USD"
        _bill(story, ref.key, parcels, cost, currency, at + 900)
    return ref, told


def _goods(life: Life, quantities: Mapping[str, Decimal]) -> tuple[ShipmentLine, ...]:
    return tuple(
        ShipmentLine(
            order_id=life.ref.key, line_id=line.line_id, sku=line.sku, quantity=quantities[line.line_id]
        )
        for line in life.lines
        if quantities.get(line.line_id)
    )


def _pick_and_pack(life: Life, ref: TwinRef, lines: tuple[ShipmentLine, ...], at: float) -> None:
    story, wms = life.story, f"/wms/{life.place}"
    if story.chance(0.5):
        picked = tuple(
            PickedLine(order_id=one.order_id, line_id=one.line_id, sku=one.sku, quantity=one.quantity)
            for one in lines
        )
        story.tell(wms, ref, ShipmentPicked(pick_id=f"{ref.key}/P", lines=picked), at - 20)
    if story.chance(0.4):
        package = Package(package_id=f"{ref.key}/1", lines=lines)
        story.tell(wms, ref, ShipmentPacked(packages=(package,)), at - 10)


def _carry(life: Life, parcel: TwinRef, at: float) -> None:
    story, random = life.story, life.story.random
    for milestone, later in ((Milestone.IN_TRANSIT, 60), (Milestone.OUT_FOR_DELIVERY, 500)):
        if story.chance(0.8):
            story.tell(CARRIER_API, parcel, TrackingScanned(milestone=milestone), at + later)
    if story.chance(0.85):
        arrived = at + 700 + random.randrange(0, 60)
        told = story.tell(
            CARRIER_API, parcel, TrackingScanned(milestone=Milestone.DELIVERED, signed_by="Bob"), arrived
        )
        if story.chance(0.3):
            story.tell(EDI_214, parcel, TrackingScanned(milestone=Milestone.DELIVERED), arrived + 30)
        elif story.chance(0.1):
            _take_back(story, told, arrived + 15)
        elif story.chance(0.1):
            sent_back = TrackingScanned(milestone=Milestone.RETURN_TO_SENDER)
            story.tell(CARRIER_API, parcel, sent_back, arrived + 60)


def _bill(story: Story, name: str, parcels: list[TwinRef], cost: Decimal, currency: str, at: float) -> None:
    """As agreed, a little off, or far; in parts, with a credit, once too often, in another currency."""
    random = story.random
    other = "EUR" if currency == "USD" else "USD"
    parts = random.choice(_BILLS)
    for number, (share, is_ours) in enumerate(parts):
        money = currency if is_ours else other
        lines = parcels if story.chance(0.5) else [random.choice(parcels)]
        for parcel in lines:
            amount = (cost * Decimal(share) / len(lines)).quantize(Decimal("0.01"))
            bill = CarrierBilled(bill_id=f"B/{name}/{number}", amount=amount, currency=money)
            later = at + 50 * number + random.randrange(0, 90)
            told = story.tell(EDI_214, parcel, bill, later)
            if story.chance(0.2):
                story.tell(CARRIER_API, parcel, bill, later + 50)
            elif story.chance(0.1):
                _take_back(story, told, later + 70)


_COSTS = (None, Decimal("4.10"), Decimal("12.00"), Decimal("12.00"))
_BILLS = (
    [("1", True)],
    [("1", True)],
    [("1.05", True)],
    [("1.5", True)],
    [("0.6", True), ("0.4", True)],
    [("0.7", True), ("0.25", True), ("0.05", True)],
    [("0.5", True), ("0.3", True)],
    [("1.3", True), ("-0.3", True)],
    [("1", True), ("1", True)],
    [("1", False)],
    [("1", False), ("0.95", True)],
)
"""Shares of the cost that was agreed, and whether they are told in its currency."""


def _whole(life: Life) -> dict[str, Decimal]:
    return {line.line_id: line.quantity for line in life.lines}


# --- fates -----------------------------------------------------------------------------------------------


def _plain(life: Life) -> None:
    _allocate(life)
    _ship(life, _whole(life), life.at + 120)


def _split(life: Life) -> None:
    """In two shipments; now and then under one label, which the carrier bills as one."""
    story = life.story
    _allocate(life)
    label = f"1Z{story.name.replace('-', '')}L" if story.chance(0.7) else None
    first = {line.line_id: (line.quantity / 2).to_integral_value() for line in life.lines}
    rest = {line.line_id: line.quantity - first[line.line_id] for line in life.lines}
    left = [_ship(life, first, life.at + 120, label=label)]
    if story.chance(0.8):
        left.append(_ship(life, rest, life.at + 400, label=label))
    if label is not None:
        facts = [told.fact for _, told in left if isinstance(told.fact, ShipmentDispatched)]
        currency = facts[0].freight_currency or "USD"
        cost = sum((one.freight_cost or Decimal(0) for one in facts), Decimal(0)) or Decimal("5.00")
        _bill(story, label, [tracking(CARRIER, label)], cost, currency, life.at + 1_300)


def _over_shipped(life: Life) -> None:
    _allocate(life)
    many = {line.line_id: line.quantity + life.story.random.choice([0, 1, 3]) for line in life.lines}
    _ship(life, many, life.at + 120)
    if life.story.chance(0.6):
        life.lines = tuple(replace(line, quantity=many[line.line_id]) for line in life.lines)
        _return(life, life.at + 3_000)


def _substituted(life: Life) -> None:
    _allocate(life)
    story, first = life.story, life.lines[0]
    left = {line.line_id: line.quantity for line in life.lines}
    if first.quantity > 1 and story.chance(0.5):
        some = {first.line_id: Decimal(1)}
        _ship(life, some, life.at + story.random.choice([60, 180]))
        left[first.line_id] -= 1
    other = next(sku for sku in SKUS if sku != first.sku)
    fact = ShipmentSubstituted(
        order_id=life.ref.key,
        line_id=first.line_id,
        original_sku=first.sku,
        substitute_sku=other,
        quantity=left[first.line_id],
    )
    life.lines = (replace(first, sku=other), *life.lines[1:])
    ref, _ = _ship(life, left, life.at + 120)
    story.tell(f"/wms/{life.place}", ref, fact, life.at + 105)
    if story.chance(0.5):
        _return(life, life.at + 3_000)


def _amended(life: Life) -> None:
    """Once or more often; goods may leave at any time, for what the order asks for at that time."""
    story, random = life.story, life.story.random
    _allocate(life)
    at = life.at + random.choice([8, 60, 100])
    for revision in range(1, random.choice([2, 2, 3, 4])):
        if revision > 1 and story.chance(0.5):
            _ship(life, _whole(life), at)
        life.lines = _changed(life.lines, random)
        freight, tax = random.choice([None, Decimal("9.00")]), random.choice([None, Decimal("0.90")])
        fact = OrderAmended(revision=revision, lines=life.lines, freight=freight, freight_tax=tax)
        if story.chance(0.8):
            life.oms(fact, at + 5)
        else:
            story.tell("/edi/860", life.ref, fact, at + 5)
        at += random.choice([10, 100, 300])
    if story.chance(0.8):
        _ship(life, _whole(life), at)


def _changed(lines: tuple[OrderLine, ...], random: Random) -> tuple[OrderLine, ...]:
    """Other quantities, another price; a line more, or one less."""
    changed = [
        replace(
            line,
            quantity=Decimal(random.randrange(0, 10)),
            unit_price=line.unit_price + random.choice([0, 1]),
        )
        for line in lines
    ]
    match random.randrange(3):
        case 0 if len(changed) > 1:
            changed.pop(random.randrange(len(changed)))
        case 1:
            name = str(1 + max(int(line.line_id) for line in lines))
            changed.append(replace(changed[0], line_id=name, quantity=Decimal(random.randrange(1, 5))))
    return tuple(changed)


def _cancelled(life: Life) -> None:
    if life.story.chance(0.6):
        _allocate(life)
    parts = _some_lines(life)
    life.oms(OrderCancelled(cancel_id=f"{life.story.name}/K", lines=parts), life.at + 60)
    if parts is not None:
        left = {line.line_id: line.quantity for line in life.lines}
        for part in parts:
            left[part.line_id] -= part.quantity
        _ship(life, left, life.at + 120)


def _cancel_asked(life: Life) -> None:
    """The warehouse answers, and may have shipped before; the shop's own cancels have the same numbers."""
    story, random = life.story, life.story.random
    _allocate(life)
    request = f"{story.name}/K"
    life.oms(OrderCancelRequested(request_id=request, lines=_some_lines(life)), life.at + 60)
    if story.chance(0.3):
        cancelled = OrderCancelled(cancel_id=request, lines=_some_lines(life))
        life.oms(cancelled, life.at + random.choice([55, 65, 85]))
        if story.chance(0.3):
            story.tell("/edi/860", life.ref, cancelled, life.at + 90)
    accepts, ships = story.chance(0.6), story.chance(0.5)
    answer = OrderCancelAccepted(request_id=request) if accepts else OrderCancelRejected(request_id=request)
    if story.chance(0.9):
        story.tell(f"/wms/{life.place}", life.ref, answer, life.at + 80)
    if ships:
        _ship(life, _whole(life), life.at + 75)


def _some_lines(life: Life) -> tuple[CancelledLine, ...] | None:
    if life.story.chance(0.5):
        return None
    return tuple(
        CancelledLine(
            line_id=line.line_id, quantity=Decimal(life.story.random.randint(1, int(line.quantity)))
        )
        for line in life.lines[:1]
    )


def _held(life: Life) -> None:
    story = life.story
    holds = [f"{story.name}/H{number}" for number in range(story.random.choice([1, 1, 2]))]
    for hold in holds:
        life.oms(OrderHeld(hold_id=hold, reason="fraud check"), life.at + 1)
    for hold in holds:
        if story.chance(0.8):
            story.tell(PORTAL, life.ref, OrderHoldReleased(hold_id=hold), life.at + 3 + story.random.random())
    if story.chance(0.5):
        _plain(life)


def _voided(life: Life) -> None:
    """Before or after dispatch; then it ships again, or not."""
    story = life.story
    _allocate(life)
    if story.chance(0.3):
        ref = shipment(f"{story.name}-0")
        story.tell(
            OMS, ref, ShipmentCreated(location=life.place, lines=_goods(life, _whole(life))), life.at + 40
        )
    else:
        ref, _ = _ship(life, _whole(life), life.at + 60, delivered=False)
    story.tell(f"/wms/{life.place}", ref, ShipmentVoided(reason="label"), life.at + 100)
    if story.chance(0.6):
        _ship(life, _whole(life), life.at + 200)


def _corrected(life: Life) -> None:
    """The warehouse takes a dispatch back and tells it anew, with what really left."""
    story = life.story
    _allocate(life)
    ref, told = _ship(life, _whole(life), life.at + 120)
    assert isinstance(told.fact, ShipmentDispatched)
    if story.chance(0.3):
        _take_back(story, told, life.at + 500)
        return
    lines = tuple(replace(line, quantity=max(Decimal(1), line.quantity - 1)) for line in told.fact.lines)
    right = story.tell(told.source, ref, replace(told.fact, lines=lines), life.at + 121)
    _take_back(story, told, life.at + 500, right)


def _returned(life: Life) -> None:
    _plain(life)
    _return(life, life.at + 3_000)


def _return(life: Life, at: float) -> None:
    story, random = life.story, life.story.random
    return_id = f"RMA-{story.name}"
    back = tuple(
        ReturnLine(line_id=line.line_id, quantity=Decimal(random.randint(1, int(line.quantity))))
        for line in life.lines[: random.choice([1, 2])]
    )
    story.tell(PORTAL, life.ref, ReturnRequested(return_id=return_id, lines=back), at)
    if story.chance(0.1):
        story.tell(PORTAL, life.ref, ReturnDeclined(return_id=return_id), at + 10)
        return
    story.tell(PORTAL, life.ref, ReturnApproved(return_id=return_id), at + 10)
    dock = TwinRef(life.ref.kind.RETURN, return_id) if story.chance(0.4) else life.ref
    wms = f"/wms/{life.place}"
    receipt = f"{return_id}/G" if story.chance(0.7) else None
    received = ReturnReceived(return_id=return_id, receipt_id=receipt, lines=back)
    story.tell(wms, dock, received, at + 3_000)
    if receipt is not None and story.chance(0.3):
        story.tell("/edi/180", dock, received, at + 3_020)
    inspected = tuple(
        InspectedLine(
            line_id=one.line_id,
            quantity=one.quantity,
            disposition=random.choice(list(Disposition)),
            location=life.place,
        )
        for one in back
    )
    looked = ReturnInspected(return_id=return_id, inspection_id=f"{return_id}/I", lines=inspected)
    if story.chance(0.4):
        _look_twice(life, dock, looked, at + 3_060)
    else:
        told = story.tell(wms, dock, looked, at + 3_060)
        if story.chance(0.15) and dock == life.ref:
            again = ReturnInspected(return_id=return_id, inspection_id=f"{return_id}/I2", lines=inspected[:1])
            _take_back(story, told, at + 3_100, story.tell(wms, dock, again, at + 3_061))
    if story.chance(0.6):
        money = RefundIssued(
            refund_id=f"F/{story.name}", amount=Decimal("5.55"), currency=random.choice(["USD", "USD", "EUR"])
        )
        story.tell(PSP, life.ref, money, at + 3_200)
        if story.chance(0.5):
            story.tell(POLL, life.ref, money, at + 3_300)
    if story.chance(0.6):
        story.tell(PORTAL, life.ref, ReturnClosed(return_id=return_id), at + 3_400)


def _look_twice(life: Life, dock: TwinRef, looked: ReturnInspected, at: float) -> None:
    """Some of the goods first; the shelf is counted; then the rest, or more than that."""
    story, random, wms = life.story, life.story.random, f"/wms/{life.place}"
    first = {one.line_id: random.randint(0, int(one.quantity)) for one in looked.lines}
    more = random.choice([0, 0, 2])
    halves = (
        tuple(replace(one, quantity=Decimal(first[one.line_id])) for one in looked.lines),
        tuple(
            replace(
                one,
                quantity=one.quantity - first[one.line_id] + more,
                disposition=random.choice([one.disposition, Disposition.SELLABLE]),
            )
            for one in looked.lines
        ),
    )
    names = [f"{looked.return_id}/{name}" for name in random.sample("AB", 2)]
    for name, lines, later in zip(names, halves, (0, 60), strict=True):
        told = story.tell(wms, dock, replace(looked, inspection_id=name, lines=lines), at + later)
        if story.chance(0.2):
            story.tell("/rma/desk", dock, told.fact, at + later + 20)
    sku = next(line.sku for line in life.lines if line.line_id == looked.lines[0].line_id)
    counted = StockCounted(count_id=f"C/{looked.return_id}", quantity=Decimal(random.randrange(0, 40)))
    story.tell(wms, stock(sku, life.place), counted, at + random.choice([-30, 30, 30, 90]))


def _never_dispatched(life: Life) -> None:
    """The carrier speaks of a parcel that no warehouse has sent."""
    _allocate(life)
    parcel = tracking(CARRIER, f"1Z{life.story.name.replace('-', '')}9")
    life.story.tell(CARRIER_API, parcel, TrackingScanned(milestone=Milestone.DELIVERED), life.at + 900)


def _orphan(life: Life) -> None:
    """Another system forgets to say that the order was placed."""
    _plain(life)
    life.story.told = [event for event in life.story.told if not isinstance(event.fact, OrderPlaced)]


_FATES: tuple[Callable[[Life], None], ...] = (
    _plain,
    _split,
    _split,
    _over_shipped,
    _substituted,
    _amended,
    _cancelled,
    _cancel_asked,
    _held,
    _voided,
    _corrected,
    _returned,
    _returned,
    _never_dispatched,
    _orphan,
)
