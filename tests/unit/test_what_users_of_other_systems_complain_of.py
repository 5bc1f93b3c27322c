"""What users of other shops, carriers and ERPs complain of: each story told here, and how it ends.

A story comes right in every order and with repetitions, in what the twins say and in what the ERP is to hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adapters.shopify.translate import translate
from adapters.simulated_erp.books import Books, Manners, Refusal
from adapters.simulated_erp.models import Instruction
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Fenced
from canonical.facts.order import (
    CancelledLine,
    InspectedLine,
    OrderAllocated,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    RefundIssued,
    ReturnApproved,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
    ReturnRequested,
)
from canonical.facts.reference import ItemUpserted
from canonical.facts.shipment import (
    PickedLine,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPicked,
    ShipmentVoided,
)
from canonical.facts.stock import StockCounted, StockReceived
from canonical.facts.tracking import Milestone, TrackingScanned
from canonical.identity import PostingKey, twin_ref
from canonical.postings import Account, Command, Posting, ReserveStock, entries
from canonical.translation import Connection, Inbound
from tests.properties.hosts import Hosts
from tests.stories import LOCATION, ORDER, SKU, delivered, dispatched, master_data, placed
from tests.unit.test_cases_that_must_come_right import (
    ORDER_REF,
    STOCK,
    allocated,
    captured,
    codes,
    come_right,
    document,
    keys,
    line,
    live,
)
from tests.unit.test_host import Clock, messages
from tests.world import World, tell
from twins.core.history import Arrival
from twins.core.rules import Policy
from twins.core.twin import Snapshot
from twins.ports import Answer, Confirmed, Refused, Taken, Verdict
from twins.runtime.gateway import Gateway
from twins.runtime.host import TwinHost

USD = Decimal


def net(postings: Iterable[Posting], account: Account) -> Decimal:
    """Debits less credits of an account over all documents that stand."""
    made = (entry for posting in postings for entry in entries(posting) if entry.account is account)
    return sum((entry.debit - entry.credit for entry in made), USD(0))


def in_account(world: World, account: Account) -> Decimal:
    return net(world.live().values(), account)


def refunded(amount: str, refund: str = "R-1", minute: int = 4100, source: str = "/test/oms") -> Event:
    fact = RefundIssued(refund_id=refund, amount=amount, currency="USD")
    return tell(ORDER_REF, fact, minute, id=f"{refund}/{minute}", source=source)


def came_back(return_id: str, quantity: int, minute: int, *dispositions: str) -> list[Event]:
    """A return from its request to its inspection, a piece a disposition, or all of it sellable."""
    lines = (ReturnLine(line_id="1", quantity=quantity),)
    parts = [(1, one) for one in dispositions] or [(quantity, "sellable")]
    inspected = tuple(
        InspectedLine(line_id="1", quantity=pieces, disposition=disposition, location=LOCATION)
        for pieces, disposition in parts
    )
    return [
        tell(ORDER_REF, ReturnRequested(return_id=return_id, lines=lines), minute),
        tell(ORDER_REF, ReturnApproved(return_id=return_id), minute + 1),
        tell(ORDER_REF, ReturnReceived(return_id=return_id, lines=lines), minute + 2),
        tell(
            ORDER_REF,
            ReturnInspected(return_id=return_id, inspection_id=f"I-{return_id}", lines=inspected),
            minute + 3,
        ),
    ]


def costs(unit_cost: str, revision: int, minute: int) -> Event:
    """The item's cost from that minute on."""
    fact = ItemUpserted(revision=revision, title="Widget", unit_cost=unit_cost, currency="USD")
    return tell(f"item/{SKU}", fact, minute, id=f"cost-{revision}")


def scanned(milestone: Milestone, minute: int) -> Event:
    return tell("tracking/ups:1Z1", TrackingScanned(milestone=milestone), minute, source="/test/ups")


# --- a shop's webhooks -----------------------------------------------------------------------------------

SHOP = Connection(
    "shopify", "acme", {"location.655441491": LOCATION, "carrier.UPS": "ups", "currency": "USD"}
)
SHOP_ORDER, SHOP_LINE, SHOP_SHIPMENT = "450789469", "466157049", "255858046"
SHOP_REF = f"order/{SHOP_ORDER}"


def webhook(topic: str, payload: dict[str, Any], delivery: str = "1") -> list[Event]:
    headers = {"x-shopify-topic": topic, "x-shopify-webhook-id": delivery}
    return list(translate(Inbound(json.dumps(payload).encode(), headers), SHOP).events)


def shop_order(updated: str = "09:00", left: int = 3, **changes: Any) -> dict[str, Any]:
    """Three pieces at 10.00, 1.00 off, tax 2.40, freight 5.00 and 0.40; *left* of them are still wanted."""
    sold = {
        "id": int(SHOP_LINE),
        "sku": SKU,
        "quantity": 3,
        "current_quantity": left,
        "price": "10.00",
        "fulfillment_status": None,
        "tax_lines": [{"price": "1.80"}, {"price": "0.60"}],
        "discount_allocations": [{"amount": "1.00"}],
    }
    return {
        "id": int(SHOP_ORDER),
        "name": "#1001",
        "created_at": "2026-03-02T09:00:00Z",
        "updated_at": f"2026-03-02T{updated}:00Z",
        "cancelled_at": None,
        "currency": "USD",
        "financial_status": "paid",
        "source_name": "web",
        "customer": {"id": 207119551},
        "line_items": [sold],
        "shipping_lines": [{"price": "5.00", "tax_lines": [{"price": "0.40"}]}],
        "refunds": [],
    } | changes


def shop_payment(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1068278509,
        "order_id": int(SHOP_ORDER),
        "kind": "sale",
        "status": "success",
        "amount": "36.80",
        "currency": "USD",
        "gateway": "shopify_payments",
        "created_at": "2026-03-02T09:00:05Z",
    } | changes


def shop_shipment(pieces: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": int(SHOP_SHIPMENT),
        "order_id": int(SHOP_ORDER),
        "status": "success",
        "created_at": "2026-03-03T10:00:00Z",
        "updated_at": "2026-03-03T10:00:00Z",
        "tracking_company": "UPS",
        "tracking_numbers": ["1Z1"],
        "location_id": 655441491,
        "line_items": [{"id": int(SHOP_LINE), "sku": SKU, "quantity": pieces}],
    } | changes


def shop_refund(restock_type: str, pieces: int, amount: str) -> dict[str, Any]:
    money = shop_payment(id=777, kind="refund", amount=amount, created_at="2026-03-02T10:00:00Z")
    return {
        "id": 509562969,
        "order_id": int(SHOP_ORDER),
        "created_at": "2026-03-02T10:00:00Z",
        "refund_line_items": [
            {"id": 1, "line_item_id": int(SHOP_LINE), "quantity": pieces, "restock_type": restock_type}
        ],
        "transactions": [money],
    }


def shop_master_data() -> list[Event]:
    customer = {
        "id": 207119551,
        "first_name": "Ada",
        "last_name": "Byron",
        "updated_at": "2026-03-01T09:00:00Z",
    }
    return [*master_data(), *webhook("customers/create", customer)]


def shop_line(world: World) -> dict[str, Any]:
    (only,) = document(world, SHOP_REF)["lines"]
    return only  # type: ignore[no-any-return]


def test_webhooks_out_of_order_end_where_the_newest_of_them_does() -> None:
    """Shopify/shopify-app-js#603: an old state of an order that comes late overwrites no newer one."""
    told = [
        *webhook("orders/create", shop_order()),
        *webhook("order_transactions/create", shop_payment()),
        *webhook("orders/updated", shop_order("09:20")),
        *webhook("orders/updated", shop_order("09:30", left=2)),
        *webhook("fulfillments/create", shop_shipment(2)),
        *webhook("fulfillments/update", shop_shipment(2, updated_at="2026-03-03T12:00:00Z")),
        *webhook("orders/fulfilled", shop_order("10:30", left=2)),
    ]
    world = come_right(*shop_master_data(), *told)
    assert World().take_each([*shop_master_data(), *reversed(told)]).live() == world.live()
    assert world.status(SHOP_REF) == "shipped"
    assert (shop_line(world)["ordered"], shop_line(world)["shipped"], shop_line(world)["open"]) == (2, 2, 0)
    assert document(world, STOCK)["on_hand"]["sellable"] == 98
    invoice = live(world, f"invoice/{SHOP_SHIPMENT}/{SHOP_ORDER}")
    assert (invoice.lines[0].net, invoice.lines[0].tax) == (USD("19.33"), USD("1.60"))
    assert (invoice.freight, invoice.freight_tax, invoice.total) == (USD("5.00"), USD("0.40"), USD("26.33"))
    assert live(world, f"payment/1068278509/{SHOP_ORDER}").amount == USD("36.80")
    assert document(world, SHOP_REF)["held"] == []


def test_webhooks_out_of_order_bring_nothing_cancelled_back_to_life() -> None:
    """Shopify/shopify-app-js#603: a cancel stands, though the order and the shipment are told after it."""
    ended = "2026-03-02T11:00:00Z"
    cancelled = shop_order("11:00", left=3, cancelled_at=ended, cancel_reason="customer")
    voided = shop_shipment(3, status="cancelled", created_at="2026-03-02T10:00:00Z", updated_at=ended)
    told = [
        *webhook("orders/create", shop_order()),
        *webhook("fulfillments/create", voided | {"status": "success"}),
        *webhook("orders/updated", shop_order("10:00")),
        *webhook("fulfillments/update", voided),
        *webhook("orders/cancelled", cancelled),
    ]
    world = come_right(*shop_master_data(), *told)
    assert World().take_each([*shop_master_data(), *reversed(told)]).live() == world.live()
    assert world.status(SHOP_REF) == "cancelled"
    assert world.status(f"shipment/{SHOP_SHIPMENT}") == "voided"
    assert document(world, STOCK)["on_hand"]["sellable"] == 100
    assert world.live() == {}


def test_duplicate_webhooks_are_one_order_one_payment_and_one_invoice() -> None:
    """ShopifySharp#919, ps_checkout#1548: other webhook ids and other topics add nothing."""
    refund = shop_refund("no_restock", 1, "5.40")

    def deliveries(delivery: str) -> list[Event]:
        return [
            *webhook("orders/create", shop_order(), delivery),
            *webhook("order_transactions/create", shop_payment(), delivery),
            *webhook("fulfillments/create", shop_shipment(3), delivery),
            *webhook("refunds/create", refund, delivery),
            *webhook("order_transactions/create", refund["transactions"][0], delivery),
        ]

    world = come_right(*shop_master_data(), *deliveries("a"), *deliveries("b"), *deliveries("c"))
    once = World().take_each([*shop_master_data(), *deliveries("a")])
    assert world.documents_of_twins() == once.documents_of_twins()
    assert document(world, SHOP_REF)["payment"]["captured"] == USD("36.80")
    assert document(world, SHOP_REF)["payment"]["refunded"] == USD("5.40")
    assert document(world, STOCK)["on_hand"]["sellable"] == 97
    assert sorted(world.live()) == [
        f"goods-issue/{SHOP_SHIPMENT}",
        f"invoice/{SHOP_SHIPMENT}/{SHOP_ORDER}",
        f"payment/1068278509/{SHOP_ORDER}",
        f"refund/777/{SHOP_ORDER}",
    ]
    assert in_account(world, Account.CASH_CLEARING) == USD("31.40")
    world.confirm()
    effects = world.take(deliveries("d"))
    assert (effects.events, effects.commands, effects.records) == ([], [], [])


def test_an_order_that_is_paid_before_it_is_created_is_paid_once_it_is() -> None:
    """frappe/ecommerce_integrations#425: money that comes first is held in sight, not lost, not posted."""
    payment = webhook("order_transactions/create", shop_payment())
    early = come_right(*shop_master_data(), *payment)
    assert early.status(SHOP_REF) == "provisional"
    assert [one.waits_for for one in early.snapshot(SHOP_REF).held] == ["the order to be placed"]
    assert "event-held" in codes(early, SHOP_REF)
    assert early.live() == {}
    late = come_right(
        *shop_master_data(),
        *payment,
        *webhook("orders/paid", shop_order("09:05")),
        *webhook("orders/create", shop_order()),
    )
    assert late.status(SHOP_REF) == "placed"
    assert document(late, SHOP_REF)["payment"]["status"] == "paid"
    assert late.snapshot(SHOP_REF).held == ()
    assert sorted(late.live()) == [f"payment/1068278509/{SHOP_ORDER}"]
    assert live(late, f"payment/1068278509/{SHOP_ORDER}").amount == USD("36.80")


def test_a_missed_webhook_of_an_order_is_seen_and_made_up_for_by_the_next_full_telling() -> None:
    """wp-shopify#68: an order whose creation was never delivered is what it would have been."""
    came = [
        *shop_master_data(),
        *webhook("order_transactions/create", shop_payment()),
        *webhook("fulfillments/create", shop_shipment(3)),
    ]
    gap = come_right(*came)
    assert gap.status(SHOP_REF) == "provisional"
    assert "event-held" in codes(gap, SHOP_REF)
    assert "goods-issue-waits" in codes(gap, f"shipment/{SHOP_SHIPMENT}")
    assert document(gap, f"shipment/{SHOP_SHIPMENT}")["waits_for"] == [f"order {SHOP_ORDER}"]
    assert gap.live() == {}

    later = webhook("orders/updated", shop_order("10:30"))
    made_up = come_right(*came, *later)
    nothing_missed = come_right(*came, *webhook("orders/create", shop_order()), *later)
    assert made_up.documents_of_twins() == nothing_missed.documents_of_twins()
    assert made_up.live() == nothing_missed.live()
    assert document(made_up, SHOP_REF)["findings"] == document(made_up, SHOP_REF)["held"] == []
    assert live(made_up, f"invoice/{SHOP_SHIPMENT}/{SHOP_ORDER}").total == USD("36.80")
    assert document(made_up, SHOP_REF)["payment"]["balance_due"] == 0


def test_a_missed_webhook_of_a_shipment_is_seen_and_made_up_for_by_another_source() -> None:
    """wp-shopify#68: the carrier's scan shows the gap, and the warehouse's own word fills it."""
    came = [*shop_master_data(), *webhook("orders/create", shop_order()), delivered("1Z1", 3000)]
    gap = come_right(*came)
    assert gap.status(SHOP_REF) == "placed"
    (unbound,) = gap.snapshot("tracking/ups:1Z1").findings
    assert (unbound.code, unbound.due is not None) == ("tracking-unbound", True)
    assert gap.live() == {}

    (shipped, registered) = webhook("fulfillments/create", shop_shipment(3))
    polled = Event("/test/poll", "SHP/1", shipped.subject, shipped.time, shipped.fact)
    made_up = come_right(*came, polled)
    nothing_missed = come_right(*came, shipped)
    made, told = made_up.documents_of_twins(), nothing_missed.documents_of_twins()
    witnesses = [state[str(shipped.subject)].pop("dispatched_by") for state in (made, told)]
    assert witnesses == [[polled.event_id], [shipped.event_id]]
    assert made == told
    assert made_up.live() == nothing_missed.live() == come_right(*came, shipped, registered, polled).live()
    assert made_up.status(SHOP_REF) == "delivered"
    assert codes(made_up, "tracking/ups:1Z1") == set()
    assert live(made_up, f"invoice/{SHOP_SHIPMENT}/{SHOP_ORDER}").total == USD("36.80")


# --- money that goes back --------------------------------------------------------------------------------


def test_a_double_refund_of_one_refund_is_one() -> None:
    """ps_checkout#331: the button pressed twice, the shop, the bank: one provider id is one refund."""
    world = come_right(
        *master_data(),
        placed(10),
        captured("224.00"),
        dispatched("SHP-1", 10, 60),
        refunded("43.30"),
        refunded("43.30", minute=4101),
        refunded("43.30", minute=4200, source="/test/bank"),
    )
    assert document(world)["payment"]["refunded"] == USD("43.30")
    assert document(world)["payment"]["status"] == "partly-refunded"
    assert keys(world, "refund") == [f"refund/R-1/{ORDER}"]
    assert live(world, f"refund/R-1/{ORDER}").amount == USD("43.30")
    assert in_account(world, Account.CASH_CLEARING) == USD("180.70")
    world.confirm()
    world.take([refunded("43.30", minute=4300, source="/test/poll")])
    assert world.commands == []


def test_a_double_refund_that_did_move_money_twice_is_posted_and_cannot_be_overlooked() -> None:
    """ps_checkout#331: two ids are two movements of money; beyond what was paid they are an exception."""
    world = come_right(
        *master_data(),
        placed(10),
        captured("224.00"),
        refunded("224.00"),
        refunded("224.00", refund="R-2", minute=4101),
    )
    assert "refund-exceeds-payment" in codes(world)
    assert document(world)["payment"]["refunded"] == USD("448.00")
    assert in_account(world, Account.CASH_CLEARING) == USD("-224.00")


def discounted() -> list[Event]:
    """Three at 19.99, 10.00 off the line, tax 4.12, freight 7.50: 61.59, paid and shipped."""
    sold = OrderLine(line_id="1", sku=SKU, quantity=3, unit_price="19.99", discount="10.00", tax="4.12")
    return [
        *master_data(),
        tell(ORDER_REF, OrderPlaced(currency="USD", lines=(sold,), freight="7.50")),
        captured("61.59"),
        dispatched("SHP-1", 3, 60),
    ]


def test_a_wrong_refund_amount_cannot_come_of_discount_and_tax() -> None:
    """vendure#2393: the credit note is the invoiced share, less discount, with tax; the refund the money."""
    world = come_right(*discounted(), *came_back("RMA-1", 1, 4000), refunded("18.03"))
    note = live(world, f"credit-note/RMA-1/1/{ORDER}")
    assert (note.quantity, note.net, note.tax) == (1, USD("16.66"), USD("1.37"))
    assert live(world, f"refund/R-1/{ORDER}").amount == USD("18.03")
    assert document(world)["payment"]["balance_due"] == 0
    assert in_account(world, Account.RECEIVABLE) == 0
    assert (line(world)["accepted"], line(world)["credited"]) == (1, 1)


def test_wrong_refund_amounts_cannot_add_up_over_returns_of_one_piece_each() -> None:
    """vendure#2393: what is credited piece by piece is what was invoiced, to the minor unit."""
    world = come_right(
        *discounted(),
        *(one for n in (1, 2, 3) for one in came_back(f"RMA-{n}", 1, 4000 + 100 * n)),
    )
    notes = [live(world, f"credit-note/RMA-{n}/1/{ORDER}") for n in (1, 2, 3)]
    assert [note.net for note in notes] == [USD("16.66"), USD("16.65"), USD("16.66")]
    assert [note.tax for note in notes] == [USD("1.37"), USD("1.38"), USD("1.37")]
    (invoiced,) = live(world, f"invoice/SHP-1/{ORDER}").lines
    assert sum(note.net for note in notes) == invoiced.net == USD("49.97")
    assert sum(note.tax for note in notes) == invoiced.tax == USD("4.12")
    assert in_account(world, Account.REVENUE) == in_account(world, Account.TAX) == 0


def test_a_wrong_refund_amount_is_posted_as_the_money_that_moved_and_left_as_a_balance() -> None:
    """vendure#2393: a refund is never corrected to what it ought to have been, nor a credit to the refund."""
    world = come_right(*discounted(), *came_back("RMA-1", 1, 4000), refunded("19.99"))
    assert live(world, f"refund/R-1/{ORDER}").amount == USD("19.99")
    assert live(world, f"credit-note/RMA-1/1/{ORDER}").net == USD("16.66")
    assert document(world)["payment"]["balance_due"] == USD("1.96")
    assert in_account(world, Account.RECEIVABLE) == USD("1.96")


# --- the carrier -----------------------------------------------------------------------------------------


def test_delivered_never_goes_back_to_shipped() -> None:
    """nearmerch.com#214: late scans and a dispatch told again change neither the state nor a document."""
    first = [
        *master_data(),
        placed(6),
        dispatched("SHP-1", 6, 60, tracking="1Z1"),
        scanned(Milestone.DELIVERED, 400),
    ]
    gone = dispatched("SHP-1", 6, 60, tracking="1Z1").fact
    late = [
        scanned(Milestone.IN_TRANSIT, 500),
        scanned(Milestone.OUT_FOR_DELIVERY, 300),
        tell("shipment/SHP-1", gone, 600, source="/test/edi"),
        scanned(Milestone.DELAYED, 700),
    ]
    posted = World().take_each(first).live()
    for order_of_arrival in permutations(late):
        world = World().take_each(first).confirm()
        for event in order_of_arrival:
            world.take([event])
            assert (world.status("shipment/SHP-1"), world.status(ORDER_REF)) == ("delivered", "delivered")
            assert (line(world)["delivered"], world.commands) == (6, [])
    world = come_right(*first, *late)
    assert world.status(ORDER_REF) == "delivered"
    assert world.live() == posted
    assert document(world, STOCK)["on_hand"]["sellable"] == 94
    assert live(world, f"invoice/SHP-1/{ORDER}").total == USD("137.40")


# --- stock and allocations -------------------------------------------------------------------------------


@dataclass
class Race:
    """How a race for one piece ended that two orders ran on two hosts."""

    hosts: Hosts

    def snapshot(self, subject: str) -> Snapshot:
        ref = twin_ref(subject)
        return self.hosts.twins[self.hosts.owner(ref)][ref].snapshot()

    def backordered(self, order: str) -> Decimal:
        (only,) = self.snapshot(f"order/{order}").document()["lines"]
        return only["backordered"]  # type: ignore[no-any-return]

    def reserved(self) -> dict[str, Decimal]:
        """Quantities that the ERP is to hold for each order line."""
        return {key: one.quantity for key, one in self.live().items() if isinstance(one, ReserveStock)}

    def live(self) -> dict[PostingKey, Posting]:
        twins = (twin for resident in self.hosts.twins for twin in resident.values())
        return {key: posting for twin in twins for key, posting in twin.live_postings().items()}


def race(seed: int, minutes: tuple[int, int], *more: Event) -> Race:
    """One piece, which SO-1 and SO-2 allocate at *minutes*; their hosts hear of each other late."""
    opening = StockCounted(count_id="OPEN", quantity=1, opening=True)
    told = [
        *master_data()[:2],
        tell(STOCK, opening, -500),
        *(placed(1, order=order) for order in ("SO-1", "SO-2")),
        *(allocated(1, minute, order) for order, minute in zip(("SO-1", "SO-2"), minutes, strict=True)),
        *more,
    ]
    hosts = Hosts(Random(seed))
    assert hosts.owner(twin_ref("order/SO-1")) != hosts.owner(twin_ref("order/SO-2"))
    Random(seed).shuffle(told)
    hosts.run(told)
    return Race(hosts)


RACES = [((5, 6), "SO-1", "SO-2"), ((6, 5), "SO-2", "SO-1"), ((5, 5), "SO-1", "SO-2")]


@pytest.mark.parametrize(("minutes", "first", "last"), RACES)
@pytest.mark.parametrize("seed", range(8))
def test_an_oversell_race_has_one_winner_and_one_visible_backorder(
    seed: int, minutes: tuple[int, int], first: str, last: str
) -> None:
    """vendure#4930: who allocated first has the last piece, whichever host hears of it first."""
    ended = race(seed, minutes)
    assert (ended.backordered(first), ended.backordered(last)) == (0, 1)
    assert [one.code for one in ended.snapshot(f"order/{first}").findings] == []
    assert [one.code for one in ended.snapshot(f"order/{last}").findings] == ["backordered"]
    assert ended.snapshot(STOCK).document()["short_orders"] == [f"order/{last}"]
    assert ended.reserved()[f"reserve/{first}/1/{LOCATION}"] == 1


@pytest.mark.parametrize(("minutes", "first", "last"), RACES)
@pytest.mark.parametrize("seed", range(3))
def test_an_oversell_race_reserves_the_last_piece_once_in_the_erp(
    seed: int, minutes: tuple[int, int], first: str, last: str
) -> None:
    """vendure#4930: what is backordered is not there, so the ERP is not told to reserve it."""
    assert race(seed, minutes).reserved() == {f"reserve/{first}/1/{LOCATION}": 1}


@pytest.mark.parametrize(("minutes", "first", "last"), RACES)
@pytest.mark.parametrize("seed", range(3))
def test_the_loser_of_an_oversell_race_waits_until_goods_come(
    seed: int, minutes: tuple[int, int], first: str, last: str
) -> None:
    """vendure#4930: the winner ships the piece, nothing goes below zero, the next is the loser's."""
    shipped = dispatched("SHP-1", 1, 60, order=first)
    ended = race(seed, minutes, shipped)
    assert ended.snapshot(STOCK).document()["on_hand"]["sellable"] == 0
    assert (ended.backordered(first), ended.backordered(last)) == (0, 1)
    assert [key for key in ended.live() if key.startswith("goods-issue/")] == ["goods-issue/SHP-1"]
    came = tell(STOCK, StockReceived(receipt_id="G-1", quantity=1), 90, source="/test/wms")
    after = race(seed, minutes, shipped, came)
    assert (after.backordered(first), after.backordered(last)) == (0, 0)
    assert after.reserved()[f"reserve/{last}/1/{LOCATION}"] == 1


def voided(shipment: str, minute: int = 90) -> Event:
    return tell(f"shipment/{shipment}", ShipmentVoided(reason="truck broke down"), minute, source="/test/wms")


def test_an_allocation_is_not_lost_when_a_fulfilment_is_cancelled_before_it_left() -> None:
    """vendure#1198: created and picked, then cancelled: the goods stay allocated, and were never issued."""
    goods = ShipmentLine(order_id=ORDER, line_id="1", sku=SKU, quantity=6)
    picked = PickedLine(order_id=ORDER, line_id="1", sku=SKU, quantity=6)
    world = come_right(
        *master_data(),
        placed(10),
        allocated(),
        tell("shipment/SHP-1", ShipmentCreated(location=LOCATION, lines=(goods,)), 40, source="/test/wms"),
        tell("shipment/SHP-1", ShipmentPicked(pick_id="K", lines=(picked,)), 50, source="/test/wms"),
        voided("SHP-1"),
    )
    assert (line(world)["allocated"], line(world)["shipped"], line(world)["open"]) == (10, 0, 10)
    assert (document(world, STOCK)["reserved"], document(world, STOCK)["available"]) == (10, 90)
    assert sorted(world.live()) == [f"reserve/{ORDER}/1/{LOCATION}"]
    assert live(world, f"reserve/{ORDER}/1/{LOCATION}").quantity == 10


def test_an_allocation_is_not_lost_when_a_fulfilment_is_cancelled_and_shipped_anew() -> None:
    """vendure#1250: of two shipments one is voided: its part is allocated again, and ships under the next."""
    story = [
        *master_data(),
        placed(10),
        allocated(),
        dispatched("SHP-1", 6, 60),
        dispatched("SHP-2", 4, 70),
        voided("SHP-1"),
    ]
    open_again = come_right(*story)
    assert (line(open_again)["shipped"], line(open_again)["open"]) == (4, 6)
    assert document(open_again, STOCK)["reserved"] == 6
    assert document(open_again, STOCK)["on_hand"]["sellable"] == 96
    assert live(open_again, f"reserve/{ORDER}/1/{LOCATION}").quantity == 10
    assert keys(open_again, "goods-issue") == ["goods-issue/SHP-2"]

    shipped = come_right(*story, dispatched("SHP-3", 6, 120))
    assert shipped.status(ORDER_REF) == "shipped"
    assert document(shipped, STOCK)["reserved"] == 0
    assert document(shipped, STOCK)["on_hand"]["sellable"] == 90
    assert keys(shipped, "invoice") == [f"invoice/SHP-2/{ORDER}", f"invoice/SHP-3/{ORDER}"]
    assert in_account(shipped, Account.RECEIVABLE) == USD("224.00")
    assert in_account(shipped, Account.COST_OF_GOODS) == USD("80.00")


def test_a_refund_plus_a_cancel_restock_nothing_that_never_left() -> None:
    """PrestaShop#16869: one refund and one cancel of the same pieces free their reservation, once."""
    refund = shop_refund("cancel", 3, "36.80")
    ended = "2026-03-02T10:00:00Z"
    cancelled = shop_order("10:00", left=0, cancelled_at=ended, refunds=[refund])
    world = come_right(
        *shop_master_data(),
        *webhook("orders/create", shop_order()),
        tell(SHOP_REF, OrderAllocated(line_id=SHOP_LINE, location=LOCATION, quantity=3), 65),
        *webhook("order_transactions/create", shop_payment()),
        *webhook("refunds/create", refund),
        *webhook("orders/cancelled", cancelled),
    )
    assert world.status(SHOP_REF) == "cancelled"
    assert (shop_line(world)["ordered"], shop_line(world)["cancelled"]) == (3, 3)
    stock = document(world, STOCK)
    assert (stock["on_hand"]["sellable"], stock["reserved"], stock["available"]) == (100, 0, 100)
    assert sorted(world.live()) == [f"payment/1068278509/{SHOP_ORDER}", f"refund/777/{SHOP_ORDER}"]
    assert in_account(world, Account.CASH_CLEARING) == in_account(world, Account.RECEIVABLE) == 0


def test_a_refund_plus_a_cancel_of_some_pieces_take_them_off_once() -> None:
    """PrestaShop#16869: a refund that cancels a piece, told by every topic that can, cancels one."""
    refund = shop_refund("cancel", 1, "10.47")
    world = come_right(
        *shop_master_data(),
        *webhook("orders/create", shop_order()),
        *webhook("refunds/create", refund),
        *webhook("orders/updated", shop_order("10:00", left=2, refunds=[refund])),
        *webhook("fulfillments/create", shop_shipment(2)),
    )
    assert (shop_line(world)["cancelled"], shop_line(world)["open"], shop_line(world)["shipped"]) == (1, 0, 2)
    assert world.status(SHOP_REF) == "shipped"
    assert document(world, STOCK)["on_hand"]["sellable"] == 98
    assert live(world, f"goods-issue/{SHOP_SHIPMENT}").lines[0].quantity == 2
    assert live(world, f"invoice/{SHOP_SHIPMENT}/{SHOP_ORDER}").lines[0].net == USD("19.33")


def test_a_refund_plus_a_cancel_restock_what_came_back_and_only_when_it_did() -> None:
    """PrestaShop#16869: six left, two came back: neither the refund nor the cancel adds a piece to them."""
    cancel = OrderCancelled(cancel_id="C-1", lines=(CancelledLine(line_id="1", quantity=10),))
    before = [
        *master_data(),
        placed(10),
        allocated(),
        captured("224.00"),
        dispatched("SHP-1", 6, 60),
        tell(ORDER_REF, cancel, 90),
        refunded("224.00"),
    ]
    waiting = come_right(*before)
    assert document(waiting, STOCK)["on_hand"]["sellable"] == 94
    assert document(waiting, STOCK)["reserved"] == 0
    assert keys(waiting, "return-receipt") == keys(waiting, "credit-note") == []
    back = come_right(*before, *came_back("RMA-1", 2, 4000))
    assert document(back, STOCK)["on_hand"]["sellable"] == 96
    assert document(back, STOCK)["reserved"] == 0
    assert (line(back)["shipped"], line(back)["cancelled"], line(back)["accepted"]) == (6, 4, 2)
    assert keys(back, "return-receipt") == [f"return-receipt/RMA-1/1/{ORDER}"]
    assert [one.quantity for one in live(back, f"return-receipt/RMA-1/1/{ORDER}").goods] == [2]
    assert in_account(back, Account.INVENTORY) == USD("-32.00")


# --- tax and cost ----------------------------------------------------------------------------------------


def two_lines() -> list[Event]:
    """Three taxed pieces at 10.00 with 2.48 of tax, two untaxed ones at 5.00; freight 7.50 with 0.62."""
    taxed = OrderLine(line_id="1", sku=SKU, quantity=3, unit_price="10.00", tax="2.48")
    untaxed = OrderLine(line_id="2", sku=SKU, quantity=2, unit_price="5.00")
    fact = OrderPlaced(currency="USD", lines=(taxed, untaxed), freight="7.50", freight_tax="0.62")
    return [*master_data(), tell(ORDER_REF, fact)]


def parcel(shipment: str, minute: int, **pieces: int) -> Event:
    """A dispatch of so many *pieces* of each line: ``line_1=2``."""
    lines = tuple(
        ShipmentLine(order_id=ORDER, line_id=name.removeprefix("line_"), sku=SKU, quantity=quantity)
        for name, quantity in pieces.items()
    )
    fact = ShipmentDispatched(location=LOCATION, lines=lines)
    return tell(f"shipment/{shipment}", fact, minute, source="/test/wms")


def test_a_partial_delivery_carries_its_own_tax_and_no_more() -> None:
    """frappe/ecommerce_integrations#209: one of three taxed pieces has a third of the tax of its line."""
    world = come_right(*two_lines(), parcel("SHP-1", 60, line_1=1))
    invoice = live(world, f"invoice/SHP-1/{ORDER}")
    assert [(one.line_id, one.net, one.tax) for one in invoice.lines] == [("1", USD("10.00"), USD("0.83"))]
    assert (invoice.freight, invoice.freight_tax) == (USD("1.50"), USD("0.12"))
    assert in_account(world, Account.TAX) == USD("-0.95")
    assert document(world)["invoicing"] == "invoiced"
    assert (line(world)["invoiced"], line(world)["open"]) == (1, 2)


def test_partial_deliveries_have_the_tax_of_the_order_between_them() -> None:
    """frappe/ecommerce_integrations#209: an untaxed line bears none, and no cent is lost between parcels."""
    world = come_right(
        *two_lines(),
        parcel("SHP-1", 60, line_1=1),
        parcel("SHP-2", 120, line_1=2, line_2=1),
        parcel("SHP-3", 180, line_2=1),
    )
    invoices = [live(world, f"invoice/SHP-{n}/{ORDER}") for n in (1, 2, 3)]
    assert [[(one.line_id, one.tax) for one in invoice.lines] for invoice in invoices] == [
        [("1", USD("0.83"))],
        [("1", USD("1.65")), ("2", USD("0.00"))],
        [("2", USD("0.00"))],
    ]
    assert [invoice.freight for invoice in invoices] == [USD("1.50"), USD("4.50"), USD("1.50")]
    assert [invoice.freight_tax for invoice in invoices] == [USD("0.12"), USD("0.38"), USD("0.12")]
    assert in_account(world, Account.TAX) == USD("-3.10")
    assert sum(invoice.total for invoice in invoices) == USD("50.60")
    assert world.status(ORDER_REF) == "shipped"


def test_an_invoice_before_delivery_has_the_cost_of_the_goods_when_they_left() -> None:
    """odoo#165566: a cost that changes before delivery changes no invoice but the next one."""
    left = [*master_data(), placed(10), dispatched("SHP-1", 6, 60, tracking="1Z1")]
    second = [costs("11.00", 2, 100), dispatched("SHP-2", 4, 200)]
    world = come_right(*left, *second, delivered("1Z1", 400))
    assert [live(world, f"invoice/SHP-{n}/{ORDER}").lines[0].cost for n in (1, 2)] == [USD("48"), USD("44")]
    assert [live(world, f"goods-issue/SHP-{n}").lines[0].cost for n in (1, 2)] == [USD("48"), USD("44")]
    assert in_account(world, Account.COST_INTERIM) == 0
    assert in_account(world, Account.COST_OF_GOODS) == USD("92.00")
    assert live(world, f"invoice/SHP-1/{ORDER}").requires == ("goods-issue/SHP-1",)

    posted = World().take_each(left).confirm()
    assert live(posted, f"invoice/SHP-1/{ORDER}").lines[0].cost == USD("48.00")
    posted.take_each([costs("11.00", 2, 100), delivered("1Z1", 400), costs("15.00", 3, 500)])
    assert posted.commands == []
    assert posted.status("shipment/SHP-1") == "delivered"


def test_an_invoice_before_delivery_and_its_goods_issue_are_corrected_together() -> None:
    """odoo#165566: a cost told late, of before the dispatch, reverses both; interim stays empty."""
    story = [*master_data(), placed(10), dispatched("SHP-1", 6, 60)]
    posted = World().take_each(story).confirm()
    posted.take([costs("9.00", 2, 30)])
    told = {(command.action.value, command.key) for _, command in posted.commands}
    both = ("goods-issue/SHP-1", f"invoice/SHP-1/{ORDER}")
    assert told == {(action, key) for action in ("reverse", "post") for key in both}
    posted.confirm()
    world = come_right(*story, costs("9.00", 2, 30))
    assert posted.live() == world.live()
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].cost == USD("54.00")
    assert in_account(world, Account.COST_INTERIM) == 0
    assert in_account(world, Account.COST_OF_GOODS) == USD("54.00")


def test_a_return_has_its_cost_whatever_becomes_of_the_goods() -> None:
    """odoo#214748: receipt and credit note carry the original cost, and return interim nets to zero."""
    world = come_right(
        *master_data(),
        placed(10),
        dispatched("SHP-1", 10, 60),
        costs("11.00", 2, 3000),
        *came_back("RMA-1", 4, 4000, "sellable", "damaged", "scrap", "rejected"),
    )
    note, receipt = (
        live(world, f"credit-note/RMA-1/1/{ORDER}"),
        live(world, f"return-receipt/RMA-1/1/{ORDER}"),
    )
    assert (note.quantity, note.cost) == (3, USD("24.00"))
    assert {one.disposition: one.cost for one in receipt.goods} == dict.fromkeys(
        ("sellable", "damaged", "scrap"), USD("8.00")
    )
    assert in_account(world, Account.RETURN_INTERIM) == 0
    assert in_account(world, Account.COST_OF_GOODS) == USD("56.00")
    assert (in_account(world, Account.SCRAP), in_account(world, Account.QUARANTINE)) == (USD("8"), USD("8"))
    assert in_account(world, Account.INVENTORY) == USD("-72.00")
    assert (line(world)["accepted"], line(world)["credited"]) == (3, 3)


def test_no_return_cost_is_missing_where_the_cost_does_not_divide() -> None:
    """odoo#214748: three pieces that cost 10.00 together bring 10.00 back, one by one."""
    world = come_right(
        *master_data()[1:],
        costs("3.3333", 1, -600),
        placed(3),
        dispatched("SHP-1", 3, 60),
        *(one for n in (1, 2, 3) for one in came_back(f"RMA-{n}", 1, 4000 + 100 * n)),
    )
    notes = [live(world, f"credit-note/RMA-{n}/1/{ORDER}") for n in (1, 2, 3)]
    assert [note.cost for note in notes] == [USD("3.33"), USD("3.34"), USD("3.33")]
    for account in (Account.RETURN_INTERIM, Account.COST_OF_GOODS, Account.COST_INTERIM, Account.INVENTORY):
        assert in_account(world, account) == 0
    assert document(world, STOCK)["on_hand"]["sellable"] == 100


def test_the_return_cost_of_goods_that_came_back_is_not_that_of_goods_which_left_after_them() -> None:
    """odoo#214748: what is back before the second parcel leaves was in the first, and has its cost."""
    first = [*master_data(), placed(10), dispatched("SHP-1", 6, 60), *came_back("RMA-1", 2, 4000)]
    assert live(come_right(*first), f"credit-note/RMA-1/1/{ORDER}").cost == USD("16.00")
    world = come_right(*first, costs("11.00", 2, 5000), dispatched("SHP-2", 4, 6000))
    assert live(world, f"credit-note/RMA-1/1/{ORDER}").cost == USD("16.00")
    assert live(world, f"return-receipt/RMA-1/1/{ORDER}").goods[0].cost == USD("16.00")
    assert in_account(world, Account.RETURN_INTERIM) == 0


def test_a_return_and_its_cost_do_not_go_missing_for_a_later_parcel_that_waits() -> None:
    """odoo#214748: a parcel with goods of an unknown order waits; the return before it stays credited."""
    credited = [*master_data(), placed(10), dispatched("SHP-1", 6, 60), *came_back("RMA-1", 2, 4000)]
    lines = tuple(
        ShipmentLine(order_id=order, line_id="1", sku=SKU, quantity=1) for order in (ORDER, "SO-UNKNOWN")
    )
    waits = ShipmentDispatched(location=LOCATION, lines=lines)
    world = World().take_each(credited).confirm()
    world.take([tell("shipment/SHP-2", waits, 6000, source="/test/wms")])
    assert document(world, "shipment/SHP-2")["waits_for"] == ["order SO-UNKNOWN"]
    assert world.commands == []
    assert live(world, f"credit-note/RMA-1/1/{ORDER}").cost == USD("16.00")
    assert in_account(world, Account.RETURN_INTERIM) == 0


# --- two workers -----------------------------------------------------------------------------------------


@dataclass
class CarelessErp:
    """Posts whatever it is told, as often as it is told."""

    books: Books = field(default_factory=lambda: Books(Manners(idempotent=False)))

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        told = Instruction(
            command.idempotency_key, command.action, command.version, command.posting, posting_date
        )
        answer = self.books.take(told)
        await asyncio.sleep(0)
        return Refused(answer.reason) if isinstance(answer, Refusal) else Confirmed(answer.document.number)

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        found = self.books.find(idempotency_key)
        return Confirmed(found[0].number) if found else None

    async def close(self) -> None: ...


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def worker(store: SqlStore) -> TwinHost:
    """One more incarnation of the one host."""
    return TwinHost("host-0", store, Clock(), Policy())


def gateway(store: SqlStore, erp: CarelessErp, host: TwinHost) -> Gateway:
    async def reply(events: Sequence[Event]) -> list[Verdict]:
        return await host.take_events(events)

    return Gateway("main", store, erp, Clock(), reply)


async def settle(store: SqlStore, one: Gateway) -> None:
    for _ in range(30):
        await one.work()
        if not await store.queued("main", 1):
            return
    raise AssertionError("commands are left")


@pytest.mark.parametrize("old_comes_first", [True, False])
async def test_one_job_run_by_two_workers_is_done_by_the_newer_one(
    store: SqlStore, old_comes_first: bool
) -> None:
    """OCA/queue#81: both fold the same batch; only the newest epoch commits, and the ERP has one of each."""
    old, new = worker(store), worker(store)
    await old.take(messages(*master_data()))
    await new.take(messages(placed(10)))
    job = [allocated(), captured("224.00"), dispatched("SHP-1", 6, 60), dispatched("SHP-2", 4, 120)]
    runs = [old.take(messages(*job)), new.take(messages(*job))]
    ended = await asyncio.gather(*(runs if old_comes_first else runs[::-1]), return_exceptions=True)
    by_old, by_new = ended if old_comes_first else ended[::-1]
    assert isinstance(by_old, Fenced)
    assert by_new == [Taken(Arrival.NEW)] * 4

    erp = CarelessErp()
    await settle(store, gateway(store, erp, new))
    expected = World().take_each([*master_data(), placed(10), *job]).live()
    assert sorted(one.posting_key for one in erp.books.documents) == sorted(expected)
    assert {one.posting_key: one.posting for one in erp.books.documents} == expected
    assert net((one.posting for one in erp.books.documents), Account.RECEIVABLE) == 0


async def test_one_job_run_by_two_workers_one_after_the_other_is_done_once(store: SqlStore) -> None:
    """OCA/queue#81: a successor that is given the job again finds it done, and tells the ERP nothing."""
    story = [*master_data(), placed(10), dispatched("SHP-1", 10, 60)]
    done, again = worker(store), worker(store)
    erp = CarelessErp()
    await done.take(messages(*story))
    await settle(store, gateway(store, erp, done))
    told = len(erp.books.documents)
    assert await again.take(messages(*story)) == [Taken(Arrival.DUPLICATE)] * len(story)
    await settle(store, gateway(store, erp, again))
    assert told == len(erp.books.documents) == 3
    assert erp.books.live_documents().not_one == {}


async def test_one_job_run_by_two_gateways_makes_one_document(store: SqlStore) -> None:
    """OCA/queue#81: the gateway and the one that replaces it work through one queue at the same time."""
    host, erp = worker(store), CarelessErp()
    await host.take(messages(*master_data(), placed(10), dispatched("SHP-1", 10, 60)))
    two = gateway(store, erp, host), gateway(store, erp, host)
    for _ in range(30):
        ended = await asyncio.gather(*(one.work() for one in two), return_exceptions=True)
        assert [type(one) for one in ended if not isinstance(one, int | Fenced)] == []
    assert await store.queued("main", 1) == []
    assert erp.books.live_documents().not_one == {}
    assert len(erp.books.documents) == 3
