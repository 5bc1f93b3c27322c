"""Histories that nobody would think of: every fact of the catalogue, from sources of every kind.

Names are few, so that facts meet. Most histories also tell what an ordinary day begins with, so that they go
deep: an order that was placed, goods that left, master data that is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from canonical.catalogue import CATALOGUE
from canonical.envelope import Event
from canonical.facts.base import Fact, Retracted
from canonical.facts.erp import PeriodClosed
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
from canonical.facts.reference import CustomerDeactivated, CustomerUpserted, ItemDeactivated, ItemUpserted
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
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import Kind, TwinRef, twin_ref
from tests.world import tell
from twins.core.history import SortKey
from twins.core.twin import REPLIES

EXAMPLES = int(os.environ.get("TWINSYNC_TEST_EXAMPLES", "200"))
"""``make campaign`` asks for thousands."""


def generated(share: float = 1) -> settings:
    """Settings for a property whose examples cost more than those of others, the smaller *share*."""
    return settings(
        max_examples=max(1, int(EXAMPLES * share)), deadline=None, suppress_health_check=list(HealthCheck)
    )


LINES, ORDERS, SHIPMENTS, SKUS = ("1", "2"), ("SO-1", "SO-2"), ("SHP-1", "SHP-2"), ("A", "B")
PLACES, NUMBERS, RMAS = ("DC-1", "DC-2"), ("1Z1", "1Z2"), ("RMA-1", "RMA-2")
TOLD = frozenset(name for name, known in CATALOGUE.items() if known.model not in REPLIES)
"""Every type that a source may tell; replies are the ERP's."""

Said = tuple[str, Fact]
"""Subject, and what is said of it."""

names = st.sampled_from
seeds = st.integers(0, 2**32)
"""For what only has to be arbitrary: cheaper than `st.randoms`, and examples shrink by their events alone."""
some = st.integers(0, 6) | names(["0.5", "2.5"])


def made(subject: st.SearchStrategy[str], fact: Callable[..., Fact], **parts: st.SearchStrategy[Any]) -> Any:
    return st.tuples(subject, st.builds(fact, **parts))


def several(part: Callable[..., Any], least: int = 1, **parts: st.SearchStrategy[Any]) -> Any:
    return st.lists(st.builds(part, **parts), min_size=least, max_size=2).map(tuple)


order_lines = st.lists(
    st.builds(
        OrderLine,
        line_id=names(LINES),
        sku=names(SKUS),
        quantity=some,
        unit_price=names(["9.99", "3.33"]),
        discount=names(["0", "0.37"]),
        tax=names(["0.00", "0.10", "1.01"]),
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda line: line.line_id,
).map(tuple)
shipment_lines = several(
    ShipmentLine, order_id=names(ORDERS), line_id=names(LINES), sku=names(SKUS), quantity=some
)
return_lines = several(ReturnLine, line_id=names(LINES), quantity=some)
cancelled_lines = st.none() | several(CancelledLine, line_id=names(LINES), quantity=some)
moments = names([tell("erp/main", OrderValidated(), minute).time for minute in (-5, 5, 500)])

orders = names([f"order/{one}" for one in ORDERS])
dock = names([f"order/{one}" for one in ORDERS] + [f"return/{one}" for one in RMAS])
returns = names([f"return/{one}" for one in RMAS])
shipments = names([f"shipment/{one}" for one in SHIPMENTS])
trackings = names([f"tracking/ups:{one}" for one in NUMBERS])
stocks = names([f"stock/{sku}@{place}" for sku in SKUS for place in PLACES])
items = names([f"item/{sku}" for sku in SKUS])
customers = names(["customer/C-1"])
money = {"amount": names(["5.00", "6.00"]), "currency": names(["USD", "USD", "EUR"])}

_returning: Callable[[Any], list[Any]] = lambda subject: [  # noqa: E731
    made(subject, ReturnApproved, return_id=names(RMAS)),
    made(subject, ReturnDeclined, return_id=names(RMAS)),
    made(subject, ReturnReceived, return_id=names(RMAS), lines=return_lines),
    made(
        subject,
        ReturnInspected,
        return_id=names(RMAS),
        inspection_id=names(["I1", "I2"]),
        lines=several(
            InspectedLine,
            line_id=names(LINES),
            quantity=some,
            disposition=names(list(Disposition)),
            location=names(PLACES),
        ),
    ),
    made(subject, ReturnClosed, return_id=names(RMAS)),
]

ABOUT: Mapping[Kind, st.SearchStrategy[Said]] = {
    Kind.ORDER: st.one_of(
        made(
            orders,
            OrderPlaced,
            customer_id=names(["C-1", None]),
            currency=names(["USD", "USD", "EUR"]),
            lines=order_lines,
            freight=names(["0", "1.00"]),
            freight_tax=names(["0", "0.07"]),
        ),
        made(
            orders,
            OrderAmended,
            revision=st.integers(1, 3),
            lines=order_lines,
            freight=names([None, "2.00"]),
        ),
        made(orders, OrderValidated),
        made(orders, OrderHeld, hold_id=names(["H1", "H2"]), reason=st.just("why")),
        made(orders, OrderHoldReleased, hold_id=names(["H1", "H2"])),
        made(orders, OrderAllocated, line_id=names(LINES), location=names(PLACES), quantity=some),
        made(orders, OrderAllocated, line_id=names(LINES), location=names(PLACES), quantity=some),
        made(
            orders,
            OrderReleased,
            release_id=names(["R1", "R2"]),
            location=names(PLACES),
            lines=several(ReleasedLine, 0, line_id=names(LINES), quantity=some),
        ),
        made(orders, OrderCancelRequested, request_id=names(["K1", "K2"]), lines=cancelled_lines),
        made(orders, OrderCancelAccepted, request_id=names(["K1", "K2"])),
        made(orders, OrderCancelRejected, request_id=names(["K1", "K2"])),
        made(orders, OrderCancelled, cancel_id=names(["K1", "K3"]), lines=cancelled_lines),
        made(orders, PaymentAuthorized, payment_id=names(["P1", "P2"]), **money),
        made(orders, PaymentCaptured, payment_id=names(["P1", "P2"]), **money),
        made(orders, RefundIssued, refund_id=names(["F1"]), **money),
        made(orders, ReturnRequested, return_id=names(RMAS), lines=return_lines),
        *_returning(dock),
    ),
    Kind.RETURN: st.one_of(*_returning(returns)),
    Kind.SHIPMENT: st.one_of(
        made(shipments, ShipmentCreated, location=names(PLACES), lines=shipment_lines),
        made(
            shipments,
            ShipmentPicked,
            pick_id=names(["X1", "X2"]),
            lines=several(
                PickedLine,
                0,
                order_id=names(ORDERS),
                line_id=names(LINES),
                sku=names(SKUS),
                quantity=some,
                short=names([0, 1]),
            ),
        ),
        made(
            shipments,
            ShipmentSubstituted,
            order_id=names(ORDERS),
            line_id=names(LINES),
            original_sku=names(SKUS),
            substitute_sku=names(SKUS),
            quantity=some,
        ),
        made(
            shipments,
            ShipmentPacked,
            packages=several(
                Package,
                package_id=names(["B1", "B2"]),
                sscc=names([None, "106141412345678908"]),
                tracking_number=names([None, *NUMBERS]),
                lines=shipment_lines,
            ),
        ),
        made(
            shipments,
            ShipmentDispatched,
            location=names(PLACES),
            lines=shipment_lines,
            carrier=st.just("ups"),
            tracking_numbers=st.lists(names(NUMBERS), max_size=2, unique=True).map(tuple),
            freight_cost=names([None, "4.00", "6.10"]),
            freight_currency=names(["USD", "USD", "EUR"]),
        ),
        made(shipments, ShipmentDispatched, location=names(PLACES), lines=shipment_lines),
        made(shipments, ShipmentVoided),
    ),
    Kind.TRACKING: st.one_of(
        made(trackings, TrackingRegistered, shipment_id=names(SHIPMENTS)),
        made(
            trackings,
            TrackingScanned,
            milestone=names(list(Milestone)),
            place=names([None, "Oslo", "Bergen"]),
            signed_by=names([None, "Bob", "Ann"]),
        ),
        made(
            trackings,
            CarrierBilled,
            bill_id=names(["B1", "B2", "B3"]),
            amount=names(["4.10", "9.00", "2.05", "-0.10"]),
            currency=names(["USD", "USD", "EUR"]),
        ),
    ),
    Kind.STOCK: st.one_of(
        made(stocks, StockReceived, receipt_id=names(["G1", "G2"]), quantity=some, status=names(StockStatus)),
        made(
            stocks,
            StockAdjusted,
            adjustment_id=names(["A1", "A2"]),
            delta=st.integers(-3, 3),
            status=names(StockStatus),
        ),
        made(
            stocks,
            StockCounted,
            count_id=names(["C1", "C2"]),
            quantity=some,
            status=names(["sellable", "sellable", "damaged"]),
            opening=st.booleans(),
        ),
        made(
            stocks,
            StockStatusChanged,
            change_id=names(["S1", "S2"]),
            quantity=some,
            from_status=names(StockStatus),
            to_status=names(StockStatus),
        ),
        made(stocks, SafetyStockSet, quantity=some),
        made(stocks, InboundExpected, inbound_id=names(["N1", "N2"]), quantity=some, due=moments),
        made(
            stocks,
            TransferredOut,
            transfer_id=names(["T1", "T2"]),
            to_location=names(PLACES),
            quantity=some,
        ),
        made(
            stocks,
            TransferredIn,
            transfer_id=names(["T1", "T2"]),
            from_location=names(PLACES),
            quantity=some,
        ),
    ),
    Kind.ITEM: st.one_of(
        made(
            items,
            ItemUpserted,
            revision=st.integers(1, 3),
            title=st.just("x"),
            unit_cost=names([None, "2.00", "3.33"]),
            currency=names(["USD", "USD", "EUR", None]),
        ),
        made(items, ItemDeactivated, revision=st.integers(1, 3)),
    ),
    Kind.CUSTOMER: st.one_of(
        made(customers, CustomerUpserted, revision=st.integers(1, 3), name=names(["Ann", "Bea"])),
        made(customers, CustomerDeactivated, revision=st.integers(1, 3)),
    ),
    Kind.ERP: made(
        st.just("erp/main"),
        PeriodClosed,
        closed_through=st.dates(date(2026, 1, 1), date(2026, 1, 9)),
        company=names(["main", "west"]),
    ),
}
_OFTEN = [Kind.ORDER] * 6 + [Kind.SHIPMENT] * 3 + [Kind.STOCK] * 4 + [Kind.TRACKING] * 2 + list(Kind)


def _line(line_id: str, sku: str, quantity: int) -> OrderLine:
    return OrderLine(line_id=line_id, sku=sku, quantity=quantity, unit_price="9.99", tax="1.01")


def _goods(order_id: str, line_id: str, sku: str, quantity: int) -> ShipmentLine:
    return ShipmentLine(order_id=order_id, line_id=line_id, sku=sku, quantity=quantity)


ORDINARY: tuple[Said, ...] = (
    ("item/A", ItemUpserted(revision=1, title="A", unit_cost="2.00", currency="USD")),
    ("item/B", ItemUpserted(revision=1, title="B", unit_cost="3.33", currency="USD")),
    ("customer/C-1", CustomerUpserted(revision=1, name="Ann")),
    (
        "order/SO-1",
        OrderPlaced(
            customer_id="C-1", currency="USD", lines=(_line("1", "A", 4), _line("2", "B", 3)), freight="7.50"
        ),
    ),
    ("order/SO-2", OrderPlaced(currency="USD", lines=(_line("1", "A", 5),))),
    ("order/SO-1", OrderAllocated(line_id="1", location="DC-1", quantity=4)),
    ("order/SO-1", OrderAllocated(line_id="1", location="DC-2", quantity="2.5")),
    ("stock/A@DC-1", StockCounted(count_id="OPEN", quantity=6, opening=True)),
    (
        "shipment/SHP-1",
        ShipmentDispatched(
            location="DC-1",
            lines=(_goods("SO-1", "1", "A", 2), _goods("SO-2", "1", "A", 1)),
            carrier="ups",
            tracking_numbers=("1Z1",),
            freight_cost="4.00",
            freight_currency="USD",
        ),
    ),
    ("shipment/SHP-2", ShipmentDispatched(location="DC-2", lines=(_goods("SO-1", "1", "A", 2),))),
    ("order/SO-1", ReturnRequested(return_id="RMA-1", lines=(ReturnLine(line_id="1", quantity=2),))),
    (
        "return/RMA-1",
        ReturnReceived(return_id="RMA-1", lines=(ReturnLine(line_id="1", quantity=2),)),
    ),
    (
        "return/RMA-1",
        ReturnInspected(
            return_id="RMA-1",
            inspection_id="I9",
            lines=(
                InspectedLine(line_id="1", quantity=1, disposition="sellable", location="DC-1"),
                InspectedLine(line_id="1", quantity=1, disposition="scrap", location="DC-1"),
            ),
        ),
    ),
)
"""What many days have, so that the rest has something to happen to."""

TWISTS: tuple[Said, ...] = (
    ("shipment/SHP-1", ShipmentVoided()),
    ("shipment/SHP-2", ShipmentVoided()),
    ("order/SO-1", OrderAmended(revision=1, lines=(_line("1", "A", 0), _line("2", "B", 1)))),
    ("order/SO-1", OrderAmended(revision=2, lines=(_line("1", "A", 6),), freight="2.00")),
    ("order/SO-1", OrderAmended(revision=3, lines=(_line("2", "B", 2),))),
    ("order/SO-2", OrderAmended(revision=1, lines=(_line("2", "B", 1),))),
    ("order/SO-2", OrderAmended(revision=2, lines=(_line("2", "B", 2),))),
    ("order/SO-1", OrderCancelled(cancel_id="K9", lines=(CancelledLine(line_id="1", quantity=3),))),
    ("order/SO-2", OrderAllocated(line_id="1", location="DC-1", quantity="0.5")),
    ("order/SO-2", OrderAllocated(line_id="1", location="DC-1", quantity=5)),
    ("order/SO-2", OrderAllocated(line_id="1", location="DC-2", quantity=5)),
    (
        "return/RMA-1",
        ReturnInspected(
            return_id="RMA-1",
            inspection_id="I8",
            lines=(InspectedLine(line_id="1", quantity=2, disposition="sellable", location="DC-1"),),
        ),
    ),
    ("item/A", ItemUpserted(revision=2, title="A", unit_cost="2.49", currency="USD")),
    ("item/A", ItemUpserted(revision=3, title="A", unit_cost="2.10", currency="EUR")),
    ("order/SO-1", PaymentCaptured(payment_id="P9", amount="5.00", currency="EUR")),
    ("order/SO-1", RefundIssued(refund_id="F9", amount="5.00", currency="EUR")),
    ("stock/A@DC-1", StockCounted(count_id="C9", quantity="3.5")),
    ("tracking/ups:1Z1", TrackingScanned(milestone=Milestone.DELIVERED)),
    ("tracking/ups:1Z1", CarrierBilled(bill_id="B8", amount="4.00", currency="USD")),
    ("tracking/ups:1Z1", CarrierBilled(bill_id="B9", amount="6.00", currency="USD")),
    (
        "shipment/SHP-2",
        ShipmentDispatched(
            location="DC-2",
            lines=(_goods("SO-1", "1", "A", 2),),
            carrier="ups",
            tracking_numbers=("1Z1",),
            freight_cost="6.00",
            freight_currency="USD",
        ),
    ),
)
"""What turns such a day about."""

COUNTING = frozenset({"/numbered", "/leaping"})
"""Sources that number what they tell, with gaps. The clock of the second jumps."""
SOURCES = ("/clocked", "/edi", "/leaping-too", "/numbered", "/leaping", "/sometimes")


def kinds_said(kinds: Iterable[Kind]) -> st.SearchStrategy[Said]:
    return names(list(kinds)).flatmap(ABOUT.__getitem__)


said = st.one_of(kinds_said(_OFTEN), kinds_said(_OFTEN), names(TWISTS))


@dataclass(frozen=True)
class Telling:
    """How the sources of one history behave: each history switches some of it off."""

    sources: tuple[str, ...]
    clashes: bool

    def tell(self, draw: st.DrawFn, what: Said, number: int, told: Sequence[Event]) -> Event:
        subject = twin_ref(what[0])
        source, event_id = self._identity(draw, subject, number, told)
        minute = draw(names([-9_000, 3, 7, 40_000]) if "leaping" in source else st.integers(0, 12))
        sequence = None
        if source in COUNTING or (source == "/sometimes" and draw(st.booleans())):
            sequence = draw(st.integers(0, 60))
        return tell(subject, what[1], minute, id=event_id, source=source, sequence=sequence)

    def _identity(
        self, draw: st.DrawFn, subject: TwinRef, number: int, told: Sequence[Event]
    ) -> tuple[str, str]:
        """A new id; or, now and then, one that has been told, mostly of the same twin."""
        if self.clashes and told and draw(st.integers(0, 7)) == 7:
            same = [event for event in told if event.subject == subject]
            known = draw(names(same or told))
            return known.source, known.id
        return draw(names(self.sources)), f"e{number}"


tellings = st.builds(
    Telling,
    sources=names([SOURCES, SOURCES, ("/clocked", "/edi"), ("/numbered", "/leaping", "/edi")]),
    clashes=st.booleans(),
)


def _take_back(draw: st.DrawFn, telling: Telling, number: int, told: list[Event]) -> Event:
    """By its source or by another; of what was told, of what was told in two versions, of a retraction, of
    what nobody told."""
    taken_back = [event for event in told if isinstance(event.fact, Retracted)]
    twice = [event for event in told if any(_clash(event, other) for other in told)]
    gone = draw(names(Random(draw(seeds)).choice([told, taken_back or told, twice or told])))
    target = draw(names([gone.id, gone.id, gone.id, "unheard-of"]))
    what = Retracted(source=gone.source, id=target, reason=draw(names(["did_not_occur", "incorrect_data"])))
    subject = draw(names([gone.subject, gone.subject, gone.subject, told[0].subject]))
    if draw(st.booleans()):
        return tell(subject, what, number, id=f"r{number}", source=gone.source)
    return telling.tell(draw, (str(subject), what), number, told)


def _clash(one: Event, other: Event) -> bool:
    return one.id == other.id and one != other and (one.source, one.subject) == (other.source, other.subject)


@st.composite
def histories(
    draw: st.DrawFn,
    what: st.SearchStrategy[Said] = said,
    ordinary: tuple[Said, ...] = ORDINARY,
    events_max: int = 20,
    events_min: int = 5,
    retractions_max: int = 3,
    left_out_max: int = 4,
    telling: st.SearchStrategy[Telling] = tellings,
) -> list[Event]:
    """Events with clashing ids, from sources that number theirs and sources that do not, and retractions."""
    manners = draw(telling)
    left_out = draw(st.sets(st.integers(0, len(ordinary) - 1), max_size=left_out_max)) if ordinary else set()
    begun = [one for index, one in enumerate(ordinary) if index not in left_out]
    told: list[Event] = []
    for number, one in enumerate([*begun, *draw(st.lists(what, min_size=events_min, max_size=events_max))]):
        told.append(manners.tell(draw, one, number, told))
    for number in range(draw(st.integers(0, retractions_max))):
        told.insert(draw(st.integers(0, len(told))), _take_back(draw, manners, 100 + number, told))
    return told


def _of_one(subject: str) -> st.SearchStrategy[Said]:
    return ABOUT[twin_ref(subject).kind].map(lambda one: (subject, one[1]))


whole_days = histories(
    names(TWISTS),
    events_max=5,
    events_min=0,
    retractions_max=1,
    left_out_max=1,
    telling=st.just(Telling(("/clocked",), clashes=False)),
)
"""A day on which everything comes to its end: goods shipped, invoiced, returned and credited; then twists."""
amended_days = histories(
    names([one for one in TWISTS if isinstance(one[1], OrderAmended)]),
    events_max=4,
    events_min=2,
    retractions_max=1,
    left_out_max=1,
    telling=st.just(Telling(("/clocked",), clashes=False)),
)
"""The same, with an order that is amended again and again, while goods leave."""
arbitrary = st.one_of(histories(), histories(), whole_days, amended_days)

stock_histories = histories(
    st.one_of(_of_one("stock/A@DC-1"), _of_one("stock/A@DC-1"), _of_one("stock/A@DC-2"), said),
    (),
    events_max=40,
    events_min=15,
)
"""Mostly about two stock twins, the only kind that checkpoints are stored of, and long enough for some."""

ONE_OF_EACH: Mapping[Kind, str] = {
    Kind.ORDER: "order/SO-1",
    Kind.RETURN: "return/RMA-1",
    Kind.SHIPMENT: "shipment/SHP-1",
    Kind.TRACKING: "tracking/ups:1Z1",
    Kind.STOCK: "stock/A@DC-1",
    Kind.ITEM: "item/A",
    Kind.CUSTOMER: "customer/C-1",
    Kind.ERP: "erp/main",
}


def histories_of(kind: Kind, events_max: int = 14) -> st.SearchStrategy[list[Event]]:
    """Histories of a single twin."""
    subject = ONE_OF_EACH[kind]
    ordinary = tuple(one for one in ORDINARY if one[0] == subject)
    return histories(_of_one(subject), ordinary, events_max)


@st.composite
def plain_histories_of(draw: st.DrawFn, kind: Kind, events_max: int = 24) -> list[Event]:
    """Of a single twin, without numbers, conflicts and retractions: those that checkpoints are kept of."""
    subject = ONE_OF_EACH[kind]
    told = draw(st.lists(_of_one(subject), min_size=4, max_size=events_max))
    return [
        tell(subject, fact, draw(st.integers(0, 30)), id=f"e{number}", source=draw(names(["/a", "/b"])))
        for number, (_, fact) in enumerate(told)
    ]


def standing(events: Iterable[Event]) -> list[Event]:
    """What is left once each id has its one content and retractions have taken back what they name.

    The specification, written without a thought of how a history keeps its events.
    """
    counting: dict[tuple[TwinRef, str, str], Event] = {}
    for event in events:
        place = (event.subject, event.source, event.id)
        known = counting.get(place, event)
        counting[place] = min(known, event, key=Event.digest)
    gone = {
        (subject, event.fact.source, event.fact.id)
        for (subject, _, _), event in counting.items()
        if isinstance(event.fact, Retracted)
    }
    return [
        event
        for place, event in counting.items()
        if place not in gone and not isinstance(event.fact, Retracted)
    ]


def sort(events: Sequence[Event]) -> list[Event]:
    """By (effective time, lifecycle rank, source, sequence, id), as the design words it."""
    return sorted(events, key=lambda event: sort_key(event, events))


def sort_key(event: Event, events: Sequence[Event]) -> SortKey:
    """Time and rank grow along the numbers of the event's source, where it has numbers."""
    effective = (event.time, int(event.rank))
    if event.sequence is not None:
        place = (event.sequence, event.id)
        effective = max(
            (one.time, int(one.rank))
            for one in events
            if one.source == event.source and one.sequence is not None and (one.sequence, one.id) <= place
        )
    sequence = -1 if event.sequence is None else event.sequence
    return SortKey(*effective, event.source, sequence, event.id)
