"""Histories that nobody would think of: any order, any repetition, any host, one truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canonical.envelope import Event
from canonical.facts.base import Fact, Retracted
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
    PickedLine,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPicked,
    ShipmentVoided,
)
from canonical.facts.stock import StockAdjusted, StockCounted, TransferredIn, TransferredOut
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import TwinRef
from tests.world import World, tell
from twins.core.batch import Batch
from twins.core.contributions import Contribution
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin

LINES, ORDERS, SHIPMENTS, SKUS = ("1", "2"), ("SO-1", "SO-2"), ("SHP-1", "SHP-2"), ("A", "B")
PLACES, NUMBERS, RMAS = ("DC-1", "DC-2"), ("1Z1", "1Z2"), ("RMA-1", "RMA-2")

some = st.integers(0, 6)
names = st.sampled_from


def made(subject: st.SearchStrategy[str], fact: Callable[..., Fact], **parts: st.SearchStrategy[Any]) -> Any:
    return st.tuples(subject, st.builds(fact, **parts))


order_lines = st.lists(
    st.builds(
        OrderLine,
        line_id=names(LINES),
        sku=names(SKUS),
        quantity=some,
        unit_price=st.just("9.99"),
        tax=st.sampled_from(["0.00", "0.10", "1.01"]),
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda line: line.line_id,
).map(tuple)
shipment_lines = st.lists(
    st.builds(ShipmentLine, order_id=names(ORDERS), line_id=names(LINES), sku=names(SKUS), quantity=some),
    min_size=1,
    max_size=2,
).map(tuple)
return_lines = st.lists(st.builds(ReturnLine, line_id=names(LINES), quantity=some), min_size=1, max_size=2)
inspected_lines = st.lists(
    st.builds(
        InspectedLine,
        line_id=names(LINES),
        quantity=some,
        disposition=names(["sellable", "damaged", "scrap", "rejected"]),
        location=names(PLACES),
    ),
    min_size=1,
    max_size=2,
)
cancelled_lines = st.none() | st.lists(
    st.builds(CancelledLine, line_id=names(LINES), quantity=some), min_size=1, max_size=2
).map(tuple)
orders = names([f"order/{one}" for one in ORDERS])
dock = names([f"order/{one}" for one in ORDERS] + [f"return/{one}" for one in RMAS])
shipments = names([f"shipment/{one}" for one in SHIPMENTS])
trackings = names([f"tracking/ups:{one}" for one in NUMBERS])
stocks = names([f"stock/{sku}@{place}" for sku in SKUS for place in PLACES])
items = names([f"item/{sku}" for sku in SKUS])

told = st.one_of(
    made(
        orders,
        OrderPlaced,
        customer_id=st.just("C-1"),
        currency=st.just("USD"),
        lines=order_lines,
        freight=names(["0", "1.00"]),
    ),
    made(orders, OrderPlaced, currency=st.just("USD"), lines=order_lines),
    made(orders, OrderAmended, revision=st.integers(1, 3), lines=order_lines),
    made(orders, OrderValidated),
    made(orders, OrderHeld, hold_id=names(["H1", "H2"]), reason=st.just("why")),
    made(orders, OrderHoldReleased, hold_id=names(["H1", "H2"])),
    made(orders, OrderAllocated, line_id=names(LINES), location=names(PLACES), quantity=some),
    made(
        orders,
        OrderReleased,
        release_id=names(["R1", "R2"]),
        location=names(PLACES),
        lines=st.lists(st.builds(ReleasedLine, line_id=names(LINES), quantity=some), max_size=2).map(tuple),
    ),
    made(orders, OrderCancelRequested, request_id=names(["K1", "K2"]), lines=cancelled_lines),
    made(orders, OrderCancelAccepted, request_id=names(["K1", "K2"])),
    made(orders, OrderCancelRejected, request_id=names(["K1", "K2"])),
    made(orders, OrderCancelled, cancel_id=names(["K1", "K3"]), lines=cancelled_lines),
    made(
        orders,
        PaymentCaptured,
        payment_id=names(["P1", "P2"]),
        amount=names(["5.00", "6.00"]),
        currency=st.just("USD"),
    ),
    made(orders, RefundIssued, refund_id=names(["F1"]), amount=names(["1.00"]), currency=st.just("USD")),
    made(orders, ReturnRequested, return_id=names(RMAS), lines=return_lines.map(tuple)),
    made(dock, ReturnApproved, return_id=names(RMAS)),
    made(dock, ReturnDeclined, return_id=names(RMAS)),
    made(dock, ReturnReceived, return_id=names(RMAS), lines=return_lines.map(tuple)),
    made(
        dock,
        ReturnInspected,
        return_id=names(RMAS),
        inspection_id=names(["I1", "I2"]),
        lines=inspected_lines.map(tuple),
    ),
    made(dock, ReturnClosed, return_id=names(RMAS)),
    made(shipments, ShipmentCreated, location=names(PLACES), lines=shipment_lines),
    made(
        shipments,
        ShipmentPicked,
        pick_id=names(["X1", "X2"]),
        lines=st.lists(
            st.builds(
                PickedLine, order_id=names(ORDERS), line_id=names(LINES), sku=names(SKUS), quantity=some
            ),
            max_size=2,
        ).map(tuple),
    ),
    made(
        shipments,
        ShipmentDispatched,
        location=names(PLACES),
        lines=shipment_lines,
        carrier=st.just("ups"),
        tracking_numbers=st.lists(names(NUMBERS), max_size=2, unique=True).map(tuple),
        freight_cost=names([None, "4.00"]),
        freight_currency=st.just("USD"),
    ),
    made(shipments, ShipmentVoided),
    made(trackings, TrackingRegistered, shipment_id=names(SHIPMENTS)),
    made(trackings, TrackingScanned, milestone=names(list(Milestone))),
    made(
        trackings,
        CarrierBilled,
        bill_id=names(["B1"]),
        amount=names(["4.10", "9.00"]),
        currency=st.just("USD"),
    ),
    made(stocks, StockCounted, count_id=names(["C1", "C2"]), quantity=some, opening=st.booleans()),
    made(stocks, StockAdjusted, adjustment_id=names(["A1", "A2"]), delta=st.integers(-3, 3)),
    made(
        names([f"stock/{sku}@DC-1" for sku in SKUS]),
        TransferredOut,
        transfer_id=names(["T1", "T2"]),
        to_location=st.just("DC-2"),
        quantity=some,
    ),
    made(
        names([f"stock/{sku}@DC-2" for sku in SKUS]),
        TransferredIn,
        transfer_id=names(["T1", "T2"]),
        from_location=st.just("DC-1"),
        quantity=some,
    ),
    made(
        items,
        ItemUpserted,
        revision=st.integers(1, 3),
        title=st.just("x"),
        unit_cost=names([None, "2.00", "3.00"]),
        currency=st.just("USD"),
    ),
    made(items, ItemDeactivated, revision=st.integers(1, 3)),
    made(st.just("customer/C-1"), CustomerUpserted, revision=st.integers(1, 2), name=names(["Ann", "Bea"])),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events with clashing ids, sources that number theirs and sources that do not, and retractions."""
    events: list[Event] = []
    for number, (subject, fact) in enumerate(draw(st.lists(told, min_size=4, max_size=28))):
        clash = draw(st.integers(0, 9)) == 0
        numbered = draw(st.booleans())
        events.append(
            tell(
                subject,
                fact,
                draw(st.integers(0, 12)),
                id=f"clash-{draw(st.integers(0, 1))}" if clash else f"e{number}",
                source="/numbered" if numbered else "/clocked",
                sequence=draw(st.integers(0, 9)) if numbered else None,
            )
        )
    for number in range(draw(st.integers(0, 2))):
        gone = draw(st.sampled_from(events))
        taken_back = Retracted(source=gone.source, id=gone.id)
        events.append(tell(gone.subject, taken_back, draw(st.integers(0, 12)), id=f"r{number}", source="/r"))
    return events


EXAMPLES = int(os.environ.get("TWINSYNC_TEST_EXAMPLES", "200"))
"""``make campaign`` asks for thousands."""
generated = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@generated
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_any_history_is_the_same_truth(
    events: list[Event], random: Random
) -> None:
    ordered = World().take_each(events).confirm()
    again = events + random.sample(events, k=len(events) // 2)
    random.shuffle(again)
    shuffled = World()
    while again:
        size = random.randint(1, 6)
        shuffled.take(again[:size])
        again = again[size:]
        if random.random() < 0.3:
            shuffled.confirm()
    shuffled.confirm()
    assert shuffled.documents_of_twins() == ordered.documents_of_twins()
    assert shuffled.live() == ordered.live()


ROUNDS_MAX = 10_000


@dataclass
class Hosts:
    """Two worlds that own every other twin, and a post that carries mail in any order, twice or late."""

    random: Random
    twins: tuple[dict[TwinRef, Twin], dict[TwinRef, Twin]] = field(default_factory=lambda: ({}, {}))
    mail: list[Contribution] = field(default_factory=list)

    def owner(self, ref: TwinRef) -> int:
        return sum(str(ref).encode()) % 2

    def take(self, host: int, events: Sequence[Event], letters: Sequence[Contribution]) -> None:
        residents = self.twins[host]
        batch = Batch(residents, lambda ref: self.owner(ref) == host)
        batch.deliver(events, letters)
        while True:
            for ref in batch.missing():
                residents[ref] = Twin.restore(ref, Policy(), Stored())
            if not batch.step():
                break
        self.mail += batch.finish().mail.values()

    def run(self, events: Sequence[Event]) -> None:
        for event in events:
            self.take(self.owner(event.subject), [event], [])
            if self.random.random() < 0.5:
                self.deliver_some()
        for _ in range(ROUNDS_MAX):
            if not self.mail:
                return
            self.deliver_some()
        raise AssertionError(f"{len(self.mail)} letters go round and round")

    def deliver_some(self) -> None:
        self.random.shuffle(self.mail)
        size = self.random.randint(1, len(self.mail)) if self.mail else 0
        now, self.mail = self.mail[:size], self.mail[size:]
        for letter in now + now[::2]:
            self.take(self.owner(letter.target), [], [letter])


@generated
@given(histories(), st.randoms(use_true_random=False))
def test_where_the_twins_live_makes_no_difference(events: list[Event], random: Random) -> None:
    together = World().take_each(events)
    apart = Hosts(random)
    apart.run(events)
    found = {ref: twin for twins in apart.twins for ref, twin in twins.items()}
    snapshots = (found[ref].snapshot() for ref in sorted(found))
    documents = {str(one.ref): one.document() for one in snapshots if one.exists}
    assert documents == together.documents_of_twins()
    live = {key: posting for twin in found.values() for key, posting in twin.live_postings().items()}
    assert live == together.live()


@generated
@given(histories())
def test_a_twin_restored_from_what_is_stored_is_the_twin_that_was(events: list[Event]) -> None:
    world = World().take_each(events)
    for ref, twin in world.twins.items():
        versions = [kept for known in twin.history._conflicts.values() for kept in known.values()]
        stored = Stored(
            twin.version,
            (*twin.history.all_events(), *versions, *twin.replies.values()),
            tuple(twin.registers.values()),
            tuple(twin.ledger),
        )
        again = Twin.restore(ref, Policy(), stored)
        assert again.snapshot().document() == twin.snapshot().document()
        assert again.contributed == twin.contributed
        assert again.live_postings() == twin.live_postings()


@generated
@given(histories())
def test_quantities_and_money_keep_their_bounds(events: list[Event]) -> None:
    """0 ≤ returned ≤ shipped ≤ ordered − cancelled + tolerance; invoiced ≤ shipped; credited ≤ invoiced."""
    world = World().take_each(events).confirm()
    for ref, twin in world.twins.items():
        if ref.kind != "order":
            continue
        for line in twin.snapshot().document()["lines"]:
            most = line["ordered"] * (1 + Policy().over_ship_tolerance)
            assert 0 <= line["returned"] <= line["shipped"] <= most - line["cancelled"]
            assert 0 <= line["cancelled"] <= line["ordered"]
            assert line["invoiced"] <= line["shipped"]
            assert line["credited"] <= line["invoiced"]
            assert line["open"] >= 0
    reserved = {
        ref: twin.snapshot().document()["reserved"]
        for ref, twin in world.twins.items()
        if ref.kind == "stock"
    }
    assert all(quantity >= 0 for quantity in reserved.values())
    for key, posting in world.live().items():
        if key.startswith("invoice/"):
            assert f"goods-issue/{key.split('/')[1]}" in world.live()
            assert posting.freight >= 0  # type: ignore[union-attr]
