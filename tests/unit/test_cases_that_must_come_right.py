"""Every case of the domain, each told in order, shuffled and repeated: one outcome."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from canonical.envelope import Event
from canonical.facts.base import Retracted
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
    ReturnDeclined,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
    ReturnRequested,
)
from canonical.facts.reference import CustomerUpserted, ItemUpserted
from canonical.facts.shipment import (
    PickedLine,
    ShipmentCreated,
    ShipmentDispatched,
    ShipmentLine,
    ShipmentPicked,
    ShipmentSubstituted,
    ShipmentVoided,
)
from canonical.facts.stock import (
    StockAdjusted,
    StockCounted,
    StockReceived,
    StockStatusChanged,
    TransferredIn,
    TransferredOut,
)
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import PostingKey
from tests.stories import (
    CUSTOMER,
    LOCATION,
    ORDER,
    SKU,
    delivered,
    dispatched,
    golden,
    master_data,
    placed,
    returned,
)
from tests.world import World, tell
from twins.core.rules import FreightCharge, Policy

ORDER_REF, STOCK = f"order/{ORDER}", f"stock/{SKU}@{LOCATION}"


def come_right(*events: Event) -> World:
    """The world after *events* in order; the same after every shuffle and repetition tried."""
    ordered = World().take_each(events)
    for seed in range(5):
        random, again = Random(seed), list(events)
        again += random.sample(again, k=len(again) // 3)
        random.shuffle(again)
        other = World().take_each(again)
        assert other.documents_of_twins() == ordered.documents_of_twins(), f"shuffle {seed}"
        assert other.live() == ordered.live(), f"shuffle {seed}"
    return ordered


def document(world: World, twin: str = ORDER_REF) -> dict[str, Any]:
    return world.snapshot(twin).document()


def line(world: World, line_id: str = "1") -> dict[str, Any]:
    return next(one for one in document(world)["lines"] if one["line_id"] == line_id)


def codes(world: World, twin: str = ORDER_REF) -> set[str]:
    return {one.code for one in world.snapshot(twin).findings}


def live(world: World, key: str) -> Any:
    return world.live().get(PostingKey(key))


def keys(world: World, kind: str) -> list[str]:
    return [key for key in world.live() if key.startswith(f"{kind}/")]


def allocated(quantity: int = 10, minute: int = 5, order: str = ORDER) -> Event:
    return tell(f"order/{order}", OrderAllocated(line_id="1", location=LOCATION, quantity=quantity), minute)


def captured(amount: str, payment: str = "P-1", minute: int = 6, source: str = "/test/oms") -> Event:
    fact = PaymentCaptured(payment_id=payment, amount=amount, currency="USD")
    return tell(ORDER_REF, fact, minute, source=source)


def _split(policy: Policy, *more: Event) -> World:
    ordered = OrderLine(line_id="1", sku=SKU, quantity=3, unit_price="0.33", tax="0.10")
    fact = OrderPlaced(currency="USD", lines=(ordered,), freight="1.00", freight_tax="0.07")
    events = [*master_data(), tell(ORDER_REF, fact), *more]
    worlds = [World(policy).take_each(told) for told in (events, [*reversed(events)])]
    assert worlds[0].live() == worlds[1].live()
    return worlds[0]


def test_freight_may_be_charged_as_a_whole_with_the_final_shipment() -> None:
    """As Tryton does: the invoices before it carry none."""
    policy = Policy(freight_charge=FreightCharge.FINAL_SHIPMENT)
    first, second = dispatched("SHP-1", 2, 60), dispatched("SHP-2", 1, 120)
    world = _split(policy, first, second)
    charged = {
        key: (live(world, key).freight, live(world, key).freight_tax) for key in keys(world, "invoice")
    }
    assert charged == {
        f"invoice/SHP-1/{ORDER}": (0, 0),
        f"invoice/SHP-2/{ORDER}": (Decimal("1.00"), Decimal("0.07")),
    }
    assert document(world)["payment"]["balance_due"] == Decimal("2.16")


def test_a_cancelled_remainder_makes_the_shipment_before_it_the_final_one() -> None:
    policy = Policy(freight_charge=FreightCharge.FINAL_SHIPMENT)
    cancel = tell(
        ORDER_REF, OrderCancelled(cancel_id="C-1", lines=(CancelledLine(line_id="1", quantity=1),)), 130
    )
    world = _split(policy, dispatched("SHP-1", 2, 60), cancel)
    (key,) = keys(world, "invoice")
    assert live(world, key).freight == Decimal("1.00")


# --- partial, short, over --------------------------------------------------------------------------------


def test_split_shipments_sum_to_the_order_to_the_minor_unit() -> None:
    """Thirds of a tax of 0.10 and a freight of 1.00 lose no cent (frappe/ecommerce_integrations#209)."""
    ordered = OrderLine(line_id="1", sku=SKU, quantity=3, unit_price="0.33", tax="0.10")
    fact = OrderPlaced(currency="USD", lines=(ordered,), freight="1.00", freight_tax="0.07")
    world = come_right(
        *master_data(),
        tell(ORDER_REF, fact),
        *(dispatched(f"SHP-{number}", 1, 60 * number) for number in (1, 2, 3)),
    )
    invoices = [live(world, key) for key in keys(world, "invoice")]
    assert sum(one.lines[0].tax for one in invoices) == Decimal("0.10")
    assert sum(one.lines[0].net for one in invoices) == Decimal("0.99")
    assert sum(one.freight for one in invoices) == Decimal("1.00")
    assert sum(one.freight_tax for one in invoices) == Decimal("0.07")
    assert sorted(one.lines[0].tax for one in invoices) == [Decimal("0.03"), Decimal("0.03"), Decimal("0.04")]


def test_a_partial_shipment_leaves_the_remainder_open_and_reserved() -> None:
    world = come_right(*master_data(), placed(10), allocated(), dispatched("SHP-1", 6, 60))
    assert world.status(ORDER_REF) == "partly-shipped"
    assert (line(world)["shipped"], line(world)["open"]) == (6, 4)
    assert document(world, STOCK)["reserved"] == 4
    assert document(world, STOCK)["on_hand"]["sellable"] == 94
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].quantity == 6


def test_a_short_pick_is_shown_and_only_what_shipped_is_invoiced() -> None:
    picked = PickedLine(order_id=ORDER, line_id="1", sku=SKU, quantity=7, short=3)
    world = come_right(
        *master_data(),
        placed(10),
        tell("shipment/SHP-1", ShipmentPicked(pick_id="K", lines=(picked,)), 50, source="/test/wms"),
        dispatched("SHP-1", 7, 60),
    )
    assert (line(world)["picked"], line(world)["shipped"], line(world)["open"]) == (7, 7, 3)
    assert live(world, "goods-issue/SHP-1").lines[0].quantity == 7


def test_an_over_shipment_within_the_tolerance_follows_the_goods() -> None:
    world = come_right(*master_data(), placed(20), dispatched("SHP-1", 21, 60))
    assert line(world)["shipped"] == 21
    assert line(world)["excess"] == 0
    assert live(world, "goods-issue/SHP-1").lines[0].quantity == 21
    assert "over-shipped" not in codes(world)


def test_an_over_shipment_beyond_the_tolerance_is_an_exception_and_posts_nothing_for_the_excess() -> None:
    world = come_right(*master_data(), placed(20), dispatched("SHP-1", 30, 60))
    assert (line(world)["shipped"], line(world)["excess"]) == (21, 9)
    assert live(world, "goods-issue/SHP-1").lines[0].quantity == 21
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].quantity == 21
    assert "over-shipped" in codes(world)
    assert document(world, STOCK)["on_hand"]["sellable"] == 70  # the goods are gone all the same


# --- substitution ----------------------------------------------------------------------------------------


def substitution() -> list[Event]:
    other = ItemUpserted(revision=1, title="Better widget", unit_cost="9.00", currency="USD")
    goods = ShipmentLine(order_id=ORDER, line_id="1", sku="SKU-2", quantity=4)
    swapped = ShipmentSubstituted(
        order_id=ORDER, line_id="1", original_sku=SKU, substitute_sku="SKU-2", quantity=4
    )
    return [
        *master_data(),
        tell("item/SKU-2", other, -600),
        placed(4),
        tell("shipment/SHP-1", swapped, 50, source="/test/wms"),
        tell(
            "shipment/SHP-1",
            ShipmentDispatched(location=LOCATION, lines=(goods,)),
            60,
            source="/test/wms",
        ),
    ]


def test_a_substitute_counts_against_the_original_line_at_its_price_and_its_own_cost() -> None:
    world = come_right(*substitution())
    assert line(world)["shipped"] == 4
    assert line(world)["substituted_by"] == {"SKU-2": 4}
    issued = live(world, "goods-issue/SHP-1").lines[0]
    assert (issued.sku, issued.cost) == ("SKU-2", Decimal("36.00"))
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].net == Decimal("80.00")
    assert document(world, f"stock/SKU-2@{LOCATION}")["on_hand"]["sellable"] == -4
    assert document(world, STOCK)["on_hand"]["sellable"] == 100


def test_a_substitute_that_comes_back_is_restocked_as_what_it_is() -> None:
    world = come_right(*substitution(), *returned(4, 4000))
    assert document(world, STOCK)["on_hand"]["sellable"] == 100
    assert document(world, f"stock/SKU-2@{LOCATION}")["on_hand"]["sellable"] == 0
    assert live(world, "return-receipt/RMA-1/1/SO-1").sku == "SKU-2"
    assert live(world, "return-receipt/RMA-1/1/SO-1").goods[0].cost == Decimal("36.00")


def partly_substituted() -> list[Event]:
    """Two of what was ordered, then two of another SKU in its place."""
    goods = ShipmentLine(order_id=ORDER, line_id="1", sku="SKU-2", quantity=2)
    rest = tell("shipment/SHP-2", ShipmentDispatched(location=LOCATION, lines=(goods,)), 90)
    item = ItemUpserted(revision=1, title="Other", unit_cost="9.00", currency="USD")
    return [*master_data(), tell("item/SKU-2", item, -600), placed(4), dispatched("SHP-1", 2, 60), rest]


def test_of_a_line_that_was_partly_substituted_what_left_first_comes_back_first() -> None:
    world = come_right(*partly_substituted(), *returned(3, 4000))
    assert document(world, STOCK)["on_hand"]["sellable"] == 100
    assert document(world, f"stock/SKU-2@{LOCATION}")["on_hand"]["sellable"] == -1
    receipt = live(world, "return-receipt/RMA-1/1/SO-1")
    assert receipt.sku == SKU
    assert [(one.sku, one.quantity, one.cost) for one in receipt.goods] == [
        (None, 2, Decimal("16.00")),
        ("SKU-2", 1, Decimal("9.00")),
    ]
    assert live(world, "credit-note/RMA-1/1/SO-1").cost == Decimal("25.00")


# --- cancels ---------------------------------------------------------------------------------------------


def asked_to_cancel(minute: int = 30) -> Event:
    return tell(ORDER_REF, OrderCancelRequested(request_id="CR-1"), minute)


def test_a_cancel_that_the_warehouse_accepts_frees_the_reservation() -> None:
    world = come_right(
        *master_data(),
        placed(10),
        allocated(),
        asked_to_cancel(),
        tell(ORDER_REF, OrderCancelAccepted(request_id="CR-1"), 40, source="/test/wms"),
    )
    assert world.status(ORDER_REF) == "cancelled"
    assert document(world, STOCK)["reserved"] == 0
    assert keys(world, "reserve") == []


def test_a_cancel_that_waits_for_the_warehouse_cancels_nothing_yet() -> None:
    world = come_right(*master_data(), placed(10), allocated(), asked_to_cancel())
    assert line(world)["cancelled"] == 0
    assert document(world)["cancels"] == {"CR-1": "requested"}


def test_a_cancel_that_the_warehouse_rejects_changes_nothing() -> None:
    rejected = OrderCancelRejected(request_id="CR-1", reason="loaded")
    world = come_right(
        *master_data(),
        placed(10),
        asked_to_cancel(),
        tell(ORDER_REF, rejected, 40, source="/test/wms"),
        dispatched("SHP-1", 10, 60),
    )
    assert world.status(ORDER_REF) == "shipped"
    assert line(world)["cancelled"] == 0


def test_a_cancel_with_the_id_of_a_request_is_another_cancel() -> None:
    """Those who ask and those who cancel number theirs by themselves: neither swallows the other's."""
    two, three = (CancelledLine(line_id="1", quantity=quantity) for quantity in (2, 3))
    asked = tell(ORDER_REF, OrderCancelRequested(request_id="1", lines=(two,)), 30)
    cancelled = tell(ORDER_REF, OrderCancelled(cancel_id="1", lines=(three,)), 35)
    base = [*master_data(), placed(10), asked, cancelled]
    pending = come_right(*base)
    assert line(pending)["cancelled"] == 3
    assert document(pending)["cancels"] == {"1": "accepted"}
    assert "the warehouse to answer cancel 1" in pending.snapshot(ORDER_REF).explain()["waits_for"]
    accepted = come_right(*base, tell(ORDER_REF, OrderCancelAccepted(request_id="1"), 40, source="/test/wms"))
    assert line(accepted)["cancelled"] == 5
    rejected = come_right(*base, tell(ORDER_REF, OrderCancelRejected(request_id="1"), 40, source="/test/wms"))
    assert line(rejected)["cancelled"] == 3


def test_goods_that_win_the_race_against_a_cancel_stay_shipped_and_ask_for_a_return() -> None:
    whole = CancelledLine(line_id="1", quantity=10)
    world = come_right(
        *master_data(),
        placed(10),
        dispatched("SHP-1", 6, 20),
        tell(ORDER_REF, OrderCancelled(cancel_id="C-9", lines=(whole,)), 30),
    )
    assert (line(world)["shipped"], line(world)["cancelled"]) == (6, 4)
    assert "cancel-lost-race" in codes(world)
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].quantity == 6


def test_a_refund_and_a_cancel_restock_nothing(  # PrestaShop#16869
) -> None:
    world = come_right(
        *master_data(),
        placed(10),
        allocated(),
        captured("224.00"),
        tell(ORDER_REF, RefundIssued(refund_id="R-1", amount="224.00", currency="USD"), 30),
        tell(ORDER_REF, OrderCancelled(cancel_id="C-1"), 31),
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 100
    assert document(world, STOCK)["reserved"] == 0
    assert keys(world, "return-receipt") == []
    assert document(world)["payment"]["status"] == "refunded"


# --- what comes before what it needs ---------------------------------------------------------------------


def test_a_shipment_before_its_order_waits_and_posts_nothing() -> None:
    world = come_right(*master_data(), dispatched("SHP-1", 6, 60))
    assert world.status(ORDER_REF) == "provisional"
    assert world.live() == live_freight_only(world)
    assert document(world, "shipment/SHP-1")["waits_for"] == [f"order {ORDER}"]


def live_freight_only(world: World) -> Any:
    return {key: one for key, one in world.live().items() if key.startswith("freight-accrual/")}


def test_a_payment_before_its_order_is_held_and_counts_once_the_order_comes() -> None:
    early = come_right(*master_data(), captured("224.00"))
    assert [one.waits_for for one in early.snapshot(ORDER_REF).held] == ["the order to be placed"]
    assert keys(early, "payment") == []
    late = come_right(*master_data(), captured("224.00", minute=-30), placed(10))
    assert keys(late, "payment") == ["payment/P-1/SO-1"]
    assert late.snapshot(ORDER_REF).held == ()


def test_a_scan_before_its_shipment_is_kept_until_the_number_is_bound() -> None:
    early = come_right(*master_data(), placed(6), delivered("1Z1", 100))
    assert world_status(early, "tracking/ups:1Z1") == "delivered"
    assert "tracking-unbound" in codes(early, "tracking/ups:1Z1")
    bound = come_right(
        *master_data(), placed(6), delivered("1Z1", 100), dispatched("SHP-1", 6, 60, tracking="1Z1")
    )
    assert bound.status("shipment/SHP-1") == "delivered"
    assert bound.status(ORDER_REF) == "delivered"


def world_status(world: World, twin: str) -> str:
    return world.status(twin)


def test_delivered_but_never_dispatched_is_visible_and_overdue_after_its_deadline() -> None:
    goods = ShipmentLine(order_id=ORDER, line_id="1", sku=SKU, quantity=6)
    world = come_right(
        *master_data(),
        placed(6),
        tell("shipment/SHP-1", ShipmentCreated(location=LOCATION, lines=(goods,)), 10, source="/test/wms"),
        tell("tracking/ups:1Z1", TrackingRegistered(shipment_id="SHP-1"), 20, source="/test/ups"),
        delivered("1Z1", 100),
    )
    (finding,) = [one for one in world.snapshot("shipment/SHP-1").findings if one.code == "dispatch-missing"]
    assert finding.due is not None
    assert finding.events
    assert world.status(ORDER_REF) != "delivered"
    assert keys(world, "goods-issue") == []


# --- stock -----------------------------------------------------------------------------------------------


def test_a_count_between_two_late_movements() -> None:
    """The movement before the count changes nothing now; the one after it does."""
    world = come_right(
        *master_data(),
        tell(STOCK, StockCounted(count_id="C-2", quantity=50), 100, source="/test/wms"),
        tell(STOCK, StockAdjusted(adjustment_id="A-1", delta=-5), 50, source="/test/wms"),
        tell(STOCK, StockAdjusted(adjustment_id="A-2", delta=-3), 150, source="/test/wms"),
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 47
    variance = live(world, f"stock-count/C-2/sellable/{SKU}@{LOCATION}")
    assert variance.delta == -45  # 100 - 5 were expected
    assert variance.cost == Decimal("-360.00")
    assert live(world, f"stock-adjustment/A-2/{SKU}@{LOCATION}").delta == -3


def test_a_count_is_never_taken_before_the_count_that_its_source_numbers_before_it() -> None:
    """The clock was set back between two counts; the goods that left in between are in both."""
    world = come_right(
        *master_data()[:2],
        tell(STOCK, StockCounted(count_id="C-1", quantity=50), 200, source="/test/wms", sequence=1),
        tell(
            STOCK, StockCounted(count_id="C-2", quantity=40), 100, source="/test/wms", sequence=2, id="later"
        ),
        dispatched("SHP-1", 6, 150),
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 40
    assert live(world, f"stock-count/C-1/sellable/{SKU}@{LOCATION}").delta == 56  # -6 were expected
    assert live(world, f"stock-count/C-2/sellable/{SKU}@{LOCATION}").delta == -10


def test_a_transfer_conserves_quantity_and_shows_what_is_in_transit() -> None:
    other = f"stock/{SKU}@DC-02"
    out = TransferredOut(transfer_id="T-1", to_location="DC-02", quantity=20)
    arrived = TransferredIn(transfer_id="T-1", from_location=LOCATION, quantity=20)
    leaving = [*master_data(), tell(STOCK, out, 10, source="/test/wms")]
    half = come_right(*leaving)
    assert document(half, STOCK)["on_hand"]["sellable"] == 80
    assert document(half, other)["in_transit"] == 20
    whole = come_right(*leaving, tell(other, arrived, 500, source="/test/wms"))
    assert document(whole, other)["on_hand"]["sellable"] == 20
    assert document(whole, other)["in_transit"] == 0
    legs = [
        live(whole, f"transfer/T-1/{SKU}@{place}/{leg}")
        for place, leg in ((LOCATION, "out"), ("DC-02", "in"))
    ]
    assert [leg.cost for leg in legs] == [Decimal("160.00")] * 2
    assert legs[1].requires == (legs[0].key,)


def test_concurrent_reservations_never_oversell_and_the_last_goes_to_backorder() -> None:
    """vendure#4930. Who allocated first gets the goods, whoever is heard first."""
    stock = StockCounted(count_id="OPEN", quantity=10, opening=True)
    world = come_right(
        *master_data()[:2],
        tell(STOCK, stock, -500),
        placed(8),
        allocated(8, 5),
        placed(8, order="SO-2"),
        allocated(8, 6, "SO-2"),
    )
    assert line(world)["backordered"] == 0
    late = next(one for one in document(world, "order/SO-2")["lines"])
    assert late["backordered"] == 6
    assert "backordered" in codes(world, "order/SO-2")
    assert world.status(STOCK) == "oversold"


def test_a_negative_on_hand_is_an_exception_and_is_shown() -> None:
    world = come_right(*master_data(), placed(120), dispatched("SHP-1", 120, 60))
    assert document(world, STOCK)["on_hand"]["sellable"] == -20
    assert "negative-on-hand" in codes(world, STOCK)


def test_goods_move_between_statuses_and_receipts_are_the_purchasing_side_of_the_erp() -> None:
    changed = StockStatusChanged(change_id="Q", quantity=4, from_status="sellable", to_status="quarantine")
    world = come_right(
        *master_data(),
        tell(STOCK, StockReceived(receipt_id="G-1", quantity=30), 10, source="/test/wms"),
        tell(STOCK, changed, 20, source="/test/wms"),
    )
    assert document(world, STOCK)["on_hand"] == {"sellable": 126, "quarantine": 4, "damaged": 0}
    assert keys(world, "stock-adjustment") == []


# --- void and retraction ---------------------------------------------------------------------------------


def voided(minute: int = 90) -> Event:
    return tell("shipment/SHP-1", ShipmentVoided(reason="truck broke down"), minute, source="/test/wms")


def test_a_voided_shipment_takes_back_its_documents_and_gives_the_reservation_back() -> None:
    """Allocations are not lost with a fulfilment that is cancelled (vendure#1198, #1250)."""
    world = come_right(*master_data(), placed(10), allocated(), dispatched("SHP-1", 6, 60), voided())
    assert world.status("shipment/SHP-1") == "voided"
    for kind in ("goods-issue", "invoice", "freight-accrual"):
        assert keys(world, kind) == []
    assert document(world, STOCK)["on_hand"]["sellable"] == 100
    assert document(world, STOCK)["reserved"] == 10
    assert world.status(ORDER_REF) == "allocated"


def test_a_void_after_the_invoice_was_confirmed_reverses_both() -> None:
    world = World().take_each([*master_data(), placed(10), dispatched("SHP-1", 6, 60)]).confirm()
    world.take([voided()])
    told = [(command.action.value, command.key) for _, command in world.commands]
    assert ("reverse", f"invoice/SHP-1/{ORDER}") in told
    assert ("reverse", "goods-issue/SHP-1") in told
    world.confirm()
    assert keys(world, "invoice") == []


def test_a_retraction_undoes_its_event_even_if_it_comes_first() -> None:
    gone = dispatched("SHP-1", 6, 60)
    taken_back = Retracted(source=gone.source, id=gone.id, reason="did_not_occur")
    world = come_right(
        *master_data(), placed(10), gone, tell("shipment/SHP-1", taken_back, 70, source="/test/wms")
    )
    assert keys(world, "goods-issue") == []
    assert world.status(ORDER_REF) == "placed"


def test_a_retraction_is_final() -> None:
    """What was taken back wrongly is told again, as an event of its own."""
    gone = dispatched("SHP-1", 6, 60)
    first = tell("shipment/SHP-1", Retracted(source=gone.source, id=gone.id), 70, source="/test/wms")
    second = tell(
        "shipment/SHP-1", Retracted(source=first.source, id=first.id), 80, source="/test/wms", id="again"
    )
    history = [*master_data(), placed(10), gone, first, second]
    assert keys(come_right(*history), "goods-issue") == []
    told_again = tell("shipment/SHP-1", gone.fact, 60, source="/test/wms", id="told again")
    assert keys(come_right(*history, told_again), "goods-issue") == ["goods-issue/SHP-1"]


# --- returns ---------------------------------------------------------------------------------------------


def shipped() -> list[Event]:
    return [*master_data(), placed(10), captured("224.00"), dispatched("SHP-1", 10, 60)]


def inspected(*parts: tuple[int, str], name: str = "I-1") -> ReturnInspected:
    lines = tuple(
        InspectedLine(line_id="1", quantity=quantity, disposition=disposition, location=LOCATION)
        for quantity, disposition in parts
    )
    return ReturnInspected(return_id="RMA-1", inspection_id=name, lines=lines)


def rma(quantity: int, inspection: ReturnInspected, at: str = ORDER_REF) -> list[Event]:
    lines = (ReturnLine(line_id="1", quantity=quantity),)
    return [
        tell(ORDER_REF, ReturnRequested(return_id="RMA-1", lines=lines), 4000),
        tell(ORDER_REF, ReturnApproved(return_id="RMA-1"), 4001),
        tell(at, ReturnReceived(return_id="RMA-1", lines=lines), 4002),
        tell(at, inspection, 4003),
    ]


def test_returned_goods_are_restocked_by_disposition_and_credited_once_a_line() -> None:
    world = come_right(
        *shipped(), *rma(5, inspected((2, "sellable"), (1, "damaged"), (1, "scrap"), (1, "rejected")))
    )
    on_hand = document(world, STOCK)["on_hand"]
    assert (on_hand["sellable"], on_hand["damaged"]) == (92, 1)
    assert (line(world)["accepted"], line(world)["credited"]) == (4, 4)
    note = live(world, "credit-note/RMA-1/1/SO-1")
    assert (note.quantity, note.net, note.tax) == (4, Decimal("80.00"), Decimal("6.60"))
    assert note.cost == Decimal("32.00")  # the original cost (odoo#214748)
    assert keys(world, "credit-note") == ["credit-note/RMA-1/1/SO-1"]
    receipt = live(world, "return-receipt/RMA-1/1/SO-1")
    assert {one.disposition: one.quantity for one in receipt.goods} == {
        "sellable": 2,
        "damaged": 1,
        "scrap": 1,
    }


def test_each_inspection_puts_its_goods_back_at_its_own_moment() -> None:
    """A count between two inspections has found what the first brought back, and nothing of the second."""
    world = come_right(
        *shipped(),
        *rma(3, inspected((1, "sellable"))),
        tell(STOCK, StockCounted(count_id="C-1", quantity=91), 4010, source="/test/wms"),
        tell(ORDER_REF, inspected((2, "sellable"), name="I-2"), 4020),
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 93
    assert keys(world, "stock-count") == []
    receipt = live(world, "return-receipt/RMA-1/1/SO-1")
    assert [one.quantity for one in receipt.goods] == [3]


def test_what_came_back_first_is_accepted_first() -> None:
    """However the inspections are called: the later one brings more than shipped."""
    world = come_right(
        *shipped(),
        *rma(12, inspected((4, "sellable"), name="I-9")),
        tell(ORDER_REF, inspected((8, "damaged"), name="I-1"), 4020),
    )
    on_hand = document(world, STOCK)["on_hand"]
    assert (on_hand["sellable"], on_hand["damaged"]) == (94, 6)


def test_facts_that_know_only_the_return_number_reach_the_order() -> None:
    by_number = come_right(*shipped(), *rma(2, inspected((2, "sellable")), at="return/RMA-1"))
    by_order = come_right(*shipped(), *rma(2, inspected((2, "sellable"))))
    assert document(by_number) | {"returns": {}} == document(by_order) | {"returns": {}}
    assert document(by_number)["returns"]["RMA-1"]["status"] == "credited"
    assert document(by_number, STOCK) == document(by_order, STOCK)
    assert by_number.live().keys() == by_order.live().keys()


def test_a_declined_return_credits_nothing() -> None:
    lines = (ReturnLine(line_id="1", quantity=2),)
    world = come_right(
        *shipped(),
        tell(ORDER_REF, ReturnRequested(return_id="RMA-1", lines=lines), 4000),
        tell(ORDER_REF, ReturnDeclined(return_id="RMA-1"), 4001),
    )
    assert document(world)["returns"]["RMA-1"]["status"] == "declined"
    assert keys(world, "credit-note") == []


def test_a_refund_is_not_a_return() -> None:
    world = come_right(
        *shipped(), tell(ORDER_REF, RefundIssued(refund_id="R-1", amount="20.00", currency="USD"), 4000)
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 90
    assert keys(world, "refund") == ["refund/R-1/SO-1"]
    assert keys(world, "credit-note") == keys(world, "return-receipt") == []


def test_more_returned_than_shipped_is_an_exception_and_credits_what_shipped() -> None:
    world = come_right(*shipped(), *rma(12, inspected((12, "sellable"))))
    assert live(world, "credit-note/RMA-1/1/SO-1").quantity == 10
    assert "over-returned" in codes(world)


def test_what_shipped_beyond_the_order_and_came_back_is_restocked_and_credits_nothing() -> None:
    """It left the shelf, though no document says so; what the order covers comes back before it."""
    world = come_right(
        *master_data(),
        placed(10),
        dispatched("SHP-1", 14, 60),
        *rma(14, inspected((12, "sellable"))),
        tell(ORDER_REF, inspected((2, "damaged"), name="I-2"), 4020),
    )
    assert (line(world)["shipped"], line(world)["excess"]) == (Decimal("10.5"), Decimal("3.5"))
    on_hand = document(world, STOCK)["on_hand"]
    assert (on_hand["sellable"], on_hand["damaged"]) == (98, 2)
    assert live(world, "credit-note/RMA-1/1/SO-1").quantity == Decimal("10.5")
    assert sum(one.quantity for one in live(world, "return-receipt/RMA-1/1/SO-1").goods) == Decimal("10.5")
    assert "over-returned" not in codes(world)


def test_the_cost_of_a_return_is_what_the_goods_cost_when_they_left() -> None:
    dearer = ItemUpserted(revision=2, title="Widget", unit_cost="11.00", currency="USD")
    world = come_right(*shipped(), tell(f"item/{SKU}", dearer, 3000), *rma(2, inspected((2, "sellable"))))
    assert live(world, "return-receipt/RMA-1/1/SO-1").goods[0].cost == Decimal("16.00")


# --- witnesses, amendments, master data ------------------------------------------------------------------


def test_the_same_dispatch_told_by_two_sources_is_one_fact_with_two_witnesses() -> None:
    first = dispatched("SHP-1", 6, 60)
    second = tell("shipment/SHP-1", first.fact, 61, source="/test/edi")
    world = come_right(*master_data(), placed(10), first, second)
    assert live(world, "goods-issue/SHP-1").lines[0].quantity == 6
    assert document(world, STOCK)["on_hand"]["sellable"] == 94
    told = " ".join(world.snapshot("shipment/SHP-1").explain()["because"])
    assert first.event_id in told
    assert second.event_id in told


def test_the_same_delivery_told_twice_is_one_delivery() -> None:
    again = tell("tracking/ups:1Z1", TrackingScanned(milestone=Milestone.DELIVERED), 101, source="/test/edi")
    world = come_right(
        *master_data(), placed(6), dispatched("SHP-1", 6, 60, tracking="1Z1"), delivered("1Z1", 100), again
    )
    assert line(world)["delivered"] == 6


def test_the_same_payment_told_twice_is_one_payment() -> None:
    """One provider id, whatever the event ids (ps_checkout#331, #1548)."""
    world = come_right(*shipped(), captured("224.00", minute=7, source="/test/bank"))
    assert document(world)["payment"]["captured"] == 224
    assert keys(world, "payment") == ["payment/P-1/SO-1"]


def test_sources_that_disagree_about_one_payment_are_shown() -> None:
    world = come_right(*shipped(), captured("220.00", minute=7, source="/test/bank"))
    assert "sources-disagree" in codes(world)
    assert live(world, "payment/P-1/SO-1").amount == Decimal("224.00")


def amended(
    quantity: int,
    revision: int,
    minute: int,
    *,
    line_id: str = "1",
    price: str = "20.00",
    freight: Any = None,
) -> Event:
    tax = Decimal("1.65") * quantity
    ordered = OrderLine(line_id=line_id, sku=SKU, quantity=quantity, unit_price=price, tax=tax)
    fact = OrderAmended(revision=revision, lines=(ordered,), freight=freight)
    return tell(ORDER_REF, fact, minute, id=f"rev-{revision}")


def test_the_highest_revision_wins_whenever_it_arrives() -> None:
    world = come_right(*master_data(), placed(10), amended(8, 2, 20), amended(4, 1, 30))
    assert line(world)["ordered"] == 8


def test_what_has_shipped_cannot_be_amended_away() -> None:
    world = come_right(*master_data(), placed(10), dispatched("SHP-1", 6, 60), amended(4, 1, 90))
    assert (line(world)["ordered"], line(world)["shipped"], line(world)["open"]) == (6, 6, 0)
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].quantity == 6


def test_what_shipped_while_an_amendment_held_is_covered_by_it() -> None:
    base = [*master_data(), placed(10), amended(20, 1, 30), amended(5, 2, 90)]
    world = come_right(*base, dispatched("SHP-1", 20, 60))
    assert (line(world)["ordered"], line(world)["shipped"], line(world)["excess"]) == (20, 20, 0)
    assert "over-shipped" not in codes(world)
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].quantity == 20
    later = come_right(*base, dispatched("SHP-1", 20, 100))
    assert (line(later)["shipped"], line(later)["excess"]) == (Decimal("5.25"), Decimal("14.75"))


def test_what_shipped_after_an_amendment_is_not_covered_by_the_placing() -> None:
    world = come_right(
        *master_data(), placed(10), amended(4, 1, 30), dispatched("SHP-1", 10, 60), amended(5, 2, 90)
    )
    assert (line(world)["shipped"], line(world)["excess"]) == (Decimal("5.25"), Decimal("4.75"))


def test_goods_come_back_though_a_shipment_among_theirs_was_wholly_beyond_the_order() -> None:
    world = come_right(
        *master_data(),
        placed(10),
        dispatched("SHP-1", 12, 60),
        dispatched("SHP-2", 3, 70),
        amended(20, 1, 80),
        dispatched("SHP-3", 8, 90),
        amended(10, 2, 100),
        *returned(15, 4000),
    )
    documents = {key.partition("/")[0] for key in world.live()}
    assert {"return-receipt", "credit-note"} <= documents, sorted(world.live())


def test_an_amendment_told_behind_a_higher_one_never_held() -> None:
    world = come_right(
        *master_data(),
        placed(10),
        amended(4, 2, 30),
        amended(20, 1, 40),
        dispatched("SHP-1", 10, 60),
        amended(5, 3, 90),
    )
    assert line(world)["shipped"] == Decimal("5.25")


def test_goods_of_a_line_that_only_one_amendment_had_are_invoiced_as_it_had_them() -> None:
    """And the order is for no more of them than what went."""
    goods = ShipmentLine(order_id=ORDER, line_id="2", sku=SKU, quantity=3)
    gone = tell("shipment/SHP-1", ShipmentDispatched(location=LOCATION, lines=(goods,)), 60)
    world = come_right(
        *master_data(),
        placed(10),
        amended(4, 1, 30, line_id="2", price="30.00"),
        gone,
        amended(10, 2, 90),
    )
    assert codes(world) == set()
    assert live(world, f"invoice/SHP-1/{ORDER}").lines[0].net == Decimal("90.00")
    lines = {one["line_id"]: one for one in document(world)["lines"]}
    assert (lines["2"]["ordered"], lines["2"]["shipped"], lines["1"]["open"]) == (3, 3, 10)
    assert document(world)["total"] == Decimal("224.00")


def test_an_amendment_that_says_nothing_of_freight_leaves_it_as_amended() -> None:
    world = come_right(
        *master_data(),
        placed(10),
        amended(8, 1, 30, freight="9.00"),
        amended(6, 2, 40),
        dispatched("SHP-1", 6, 60),
    )
    assert live(world, f"invoice/SHP-1/{ORDER}").freight == Decimal("9.00")


def test_an_order_is_not_held_by_an_sku_that_was_amended_away() -> None:
    unknown = OrderLine(line_id="2", sku="NO-SUCH", quantity=1, unit_price="1.00")
    mistake = tell(ORDER_REF, OrderAmended(revision=1, lines=(unknown,)), 30)
    world = come_right(*master_data(), placed(10), mistake, amended(10, 2, 40))
    assert world.status(ORDER_REF) == "placed"


def test_an_unknown_sku_or_customer_holds_the_order_until_the_master_data_comes() -> None:
    held = come_right(placed(10), dispatched("SHP-1", 6, 60))
    assert {one.text for one in held.snapshot(ORDER_REF).findings} == {
        f"waits for item {SKU}",
        f"waits for customer {CUSTOMER}",
    }
    assert keys(held, "goods-issue") == keys(held, "invoice") == []
    before_shipping = come_right(placed(10))
    assert before_shipping.status(ORDER_REF) == "held"
    freed = come_right(*master_data(), placed(10), dispatched("SHP-1", 6, 60))
    assert keys(freed, "invoice") == [f"invoice/SHP-1/{ORDER}"]


def test_the_newest_revision_of_master_data_wins_whenever_it_arrives() -> None:
    world = come_right(
        tell(f"item/{SKU}", ItemUpserted(revision=2, title="New", unit_cost="9"), 10, id="two"),
        tell(f"item/{SKU}", ItemUpserted(revision=1, title="Old", unit_cost="8"), 20, id="one"),
        tell(f"customer/{CUSTOMER}", CustomerUpserted(revision=3, name="Ann"), 5, id="three"),
        tell(f"customer/{CUSTOMER}", CustomerUpserted(revision=2, name="Anne"), 6, id="two"),
    )
    assert document(world, f"item/{SKU}")["title"] == "New"
    assert document(world, f"customer/{CUSTOMER}")["name"] == "Ann"


def upserted(cost: str, revision: int, minute: int) -> Event:
    fact = ItemUpserted(revision=revision, title="Widget", unit_cost=cost, currency="USD")
    return tell(f"item/{SKU}", fact, minute, id=f"rev-{revision}")


@pytest.mark.parametrize(
    "told",
    [
        (upserted("9.00", 2, 10), upserted("8.50", 1, 20), upserted("8.50", 3, 30)),
        (upserted("8.50", 2, 10), upserted("8.50", 4, 20), upserted("9.00", 3, 30)),
    ],
    ids=["after one that never held", "before an older one"],
)
def test_a_revision_that_repeats_a_cost_counts(told: Sequence[Event]) -> None:
    """It is in force from its moment on, whatever older revisions say."""
    world = come_right(*master_data(), placed(10), *told, dispatched("SHP-1", 2, 60))
    assert live(world, "goods-issue/SHP-1").lines[0].cost == Decimal("17.00")


# --- the carrier -----------------------------------------------------------------------------------------


def scanned(milestone: Milestone, minute: int) -> Event:
    return tell("tracking/ups:1Z1", TrackingScanned(milestone=milestone), minute, source="/test/ups")


def test_delivered_never_goes_back_to_shipped() -> None:
    """nearmerch.com#214"""
    world = come_right(
        *master_data(),
        placed(6),
        dispatched("SHP-1", 6, 60, tracking="1Z1"),
        scanned(Milestone.DELIVERED, 100),
        scanned(Milestone.IN_TRANSIT, 200),
    )
    assert world.status("shipment/SHP-1") == "delivered"


def test_return_to_sender_takes_a_delivery_back() -> None:
    world = come_right(
        *master_data(),
        placed(6),
        dispatched("SHP-1", 6, 60, tracking="1Z1"),
        scanned(Milestone.DELIVERED, 100),
        scanned(Milestone.RETURN_TO_SENDER, 200),
    )
    assert world.status("shipment/SHP-1") == "returned-to-sender"
    assert line(world)["delivered"] == 0


def test_a_carriers_bill_is_matched_within_the_tolerance_and_an_exception_beyond() -> None:
    def bill(amount: str) -> Event:
        fact = CarrierBilled(bill_id="B-1", amount=amount, currency="USD")
        return tell("tracking/ups:1Z1", fact, 9000, source="/test/ups")

    base = [*master_data(), placed(6), dispatched("SHP-1", 6, 60, tracking="1Z1", cost="4.00")]
    fits = come_right(*base, bill("4.30"))
    assert keys(fits, "carrier-bill") == ["carrier-bill/B-1/SHP-1"]
    dear = come_right(*base, bill("9.00"))
    assert keys(dear, "carrier-bill") == []
    assert "carrier-bill-mismatch" in codes(dear, "shipment/SHP-1")


# --- the header, holds, invariants -----------------------------------------------------------------------


def test_the_header_follows_the_lines_through_the_whole_life() -> None:
    steps: Sequence[tuple[Event, str]] = [
        (placed(10), "placed"),
        (tell(ORDER_REF, OrderValidated(), 2), "validated"),
        (tell(ORDER_REF, OrderHeld(hold_id="H", reason="fraud"), 3), "held"),
        (tell(ORDER_REF, OrderHoldReleased(hold_id="H"), 4), "validated"),
        (allocated(), "allocated"),
        (
            tell(
                ORDER_REF,
                OrderReleased(
                    release_id="R", location=LOCATION, lines=(ReleasedLine(line_id="1", quantity=10),)
                ),
                10,
            ),
            "released",
        ),
        (dispatched("SHP-1", 6, 60, tracking="1Z1"), "partly-shipped"),
        (dispatched("SHP-2", 4, 70, tracking="1Z2"), "shipped"),
        (delivered("1Z1", 100), "partly-delivered"),
        (delivered("1Z2", 110), "delivered"),
        (captured("224.00", minute=120), "closed"),
    ]
    world = World().take_each(master_data())
    for event, status in steps:
        world.take([event])
        assert world.status(ORDER_REF) == status
    assert come_right(*master_data(), *(event for event, _ in steps)).status(ORDER_REF) == "closed"


def test_the_golden_run_posts_what_a_real_erp_posted() -> None:
    world = come_right(*golden())
    first, second = (live(world, f"invoice/SHP-{number}/{ORDER}") for number in (1, 2))
    assert (first.lines[0].net, first.lines[0].tax) == (Decimal("120.00"), Decimal("9.90"))
    assert (second.lines[0].net, second.lines[0].tax) == (Decimal("80.00"), Decimal("6.60"))
    assert first.freight + second.freight == Decimal("7.50")
    assert live(world, "credit-note/RMA-1/1/SO-1").net == Decimal("40.00")
    assert document(world)["payment"]["balance_due"] == 0


@pytest.mark.parametrize("twin", [ORDER_REF, STOCK, "shipment/SHP-1", "tracking/ups:1Z1", f"item/{SKU}"])
def test_every_state_explains_itself(twin: str) -> None:
    told = come_right(*golden()).snapshot(twin).explain()
    assert told["because"]
    assert all(isinstance(one, str) for one in told["because"])


def test_two_orders_that_claim_one_payment_or_return_post_under_keys_of_their_own() -> None:
    """A posting key names its owner, so no two twins ever want the same document."""
    both = [
        event
        for name in (ORDER, "SO-2")
        for event in (
            placed(order=name),
            tell(f"order/{name}", PaymentCaptured(payment_id="P-1", amount="9.00", currency="USD"), 6),
        )
    ]
    world = come_right(*master_data(), *both)
    assert keys(world, "payment") == ["payment/P-1/SO-1", "payment/P-1/SO-2"]


def test_a_fact_of_a_return_number_and_one_of_the_order_may_share_an_id() -> None:
    lines = (ReturnLine(line_id="1", quantity=2),)
    world = come_right(
        *shipped(),
        tell(ORDER_REF, ReturnRequested(return_id="RMA-1", lines=lines), 4000),
        tell(ORDER_REF, ReturnApproved(return_id="RMA-1"), 4001, id="same"),
        tell("return/RMA-1", ReturnReceived(return_id="RMA-1", lines=lines), 4002, id="same"),
    )
    assert document(world)["returns"]["RMA-1"]["status"] == "received"
