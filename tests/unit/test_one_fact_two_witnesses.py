"""The same fact from two sources under two ids counts once, and both are listed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from adapters.easypost.translate import translate as translate_easypost
from adapters.shopify.translate import translate as translate_shopify
from canonical.envelope import Event
from canonical.facts.order import ReturnReceived, ReturnRequested
from canonical.facts.stock import StockAdjusted, StockReceived, StockStatusChanged
from canonical.identity import twin_ref
from canonical.translation import Connection, Inbound
from tests.stories import LOCATION, ORDER, SKU, dispatched, master_data, placed, returned
from tests.unit.test_easypost import scan, webhook
from tests.unit.test_shopify import refund
from tests.unit.test_x12_partner import CONNECTION, message, translated
from tests.world import World, tell

STOCK = f"stock/{SKU}@{LOCATION}"


def in_every_order(base: Sequence[Event], told: Sequence[Event]) -> World:
    """The world, which is the same whichever of *told* comes first, and however often."""
    worlds = [World().take_each([*base, *order, *order]) for order in permutations(told)]
    assert all(one.documents_of_twins() == worlds[0].documents_of_twins() for one in worlds)
    assert all(one.live() == worlds[0].live() for one in worlds)
    return worlds[0]


def document(world: World, twin: str) -> dict[str, Any]:
    return world.snapshot(twin).document()


def test_a_delivery_told_by_api_and_by_edi_214() -> None:
    number = "1Z999AA10123456784"
    details = [
        scan(status="delivered", status_detail="arrived_at_destination", datetime="2026-03-04T09:40:00Z")
    ]
    body = json.dumps(webhook(tracking_code=number, carrier="UPS", tracking_details=details)).encode()
    by_api = translate_easypost(Inbound(body, {}), Connection("easypost", "acme")).events
    edi = f"B10*{number}*SHP-1*UPSN\nLX*1\nAT7*D1*NS***20260304*0955*UT"
    partner = replace(CONNECTION, settings={**CONNECTION.settings, "carrier.UPSN": "ups"})
    by_edi = translated(message("214", edi), partner)
    shipped = dispatched("SHP-1", 10, 60, tracking=number)
    world = in_every_order([*master_data(), placed(10), shipped], [*by_api, *by_edi])
    parcel = document(world, f"tracking/ups:{number}")
    (delivered,) = [at for name, at in parcel["milestones"].items() if name == "delivered"]
    assert delivered.isoformat() == "2026-03-04T09:40:00+00:00"
    assert sorted(parcel["witnesses"]["delivered"]) == sorted(one.event_id for one in (*by_api, *by_edi))
    assert document(world, f"order/{ORDER}")["lines"][0]["delivered"] == 10


def test_a_dispatch_told_by_the_warehouse_and_by_856() -> None:
    warehouse = dispatched("SHP-1", 6, 60)
    notice = Event("/edi/856", "asn-1", warehouse.subject, warehouse.time, warehouse.fact)
    world = in_every_order([*master_data(), placed(10)], [warehouse, notice])
    assert sorted(document(world, "shipment/SHP-1")["dispatched_by"]) == sorted(
        [warehouse.event_id, notice.event_id]
    )
    assert document(world, STOCK)["on_hand"]["sellable"] == 94
    assert document(world, f"order/{ORDER}")["lines"][0]["shipped"] == 6
    assert [key for key in world.live() if key.startswith("goods-issue/")] == ["goods-issue/SHP-1"]


def test_a_refund_told_by_webhook_and_by_poll() -> None:
    def told_through(connection: str) -> tuple[Event, ...]:
        headers = {"x-shopify-topic": "refunds/create"}
        settings = {"currency": "USD", "location.1": LOCATION}
        inbound = Inbound(json.dumps(refund()).encode(), headers)
        events = translate_shopify(inbound, Connection("shopify", connection, settings)).events
        return tuple(event for event in events if event.type.endswith("refund-issued.v1"))

    (webhook_told,), (poll_told,) = told_through("webhooks"), told_through("poll")
    assert webhook_told.event_id != poll_told.event_id
    order = webhook_told.subject
    world = in_every_order([*master_data(), placed(10, order=order.key)], [webhook_told, poll_told])
    refunds = [posting for key, posting in world.live().items() if key.startswith("refund/")]
    assert len(refunds) == 1
    (kept,) = document(world, str(order))["payment"]["refunds"].values()
    assert sorted(kept["witnesses"]) == sorted([webhook_told.event_id, poll_told.event_id])


@pytest.mark.parametrize(
    ("fact", "on_hand"),
    [
        (StockAdjusted(adjustment_id="A", delta=-3), {"sellable": 97, "damaged": 0}),
        (StockReceived(receipt_id="R", quantity=5), {"sellable": 105, "damaged": 0}),
        (
            StockStatusChanged(change_id="C", quantity=2, from_status="sellable", to_status="damaged"),
            {"sellable": 98, "damaged": 2},
        ),
    ],
)
def test_a_document_of_the_warehouse_told_by_two_sources(fact: Any, on_hand: dict[str, int]) -> None:
    told = [tell(STOCK, fact, 30, source="/wms"), tell(STOCK, fact, 45, source="/edi/947")]
    world = in_every_order(master_data(), told)
    found = document(world, STOCK)["on_hand"]
    assert {name: found[name] for name in on_hand} == on_hand
    kept = [one.witnesses for one in world.twins[twin_ref(STOCK)].snapshot().view.state.documents.values()]
    assert ("/wms#" + told[0].id, "/edi/947#" + told[1].id) in kept


def test_two_sources_that_disagree_about_one_document_are_shown() -> None:
    told = [
        tell(STOCK, StockAdjusted(adjustment_id="A", delta=-3), 30, source="/wms"),
        tell(STOCK, StockAdjusted(adjustment_id="A", delta=-4), 45, source="/edi/947"),
    ]
    world = in_every_order(master_data(), told)
    assert document(world, STOCK)["on_hand"]["sellable"] == 97
    (finding,) = document(world, STOCK)["findings"]
    assert finding["code"] == "sources-disagree"
    assert "-3 by /wms#" in finding["text"]
    assert "-4 by /edi/947#" in finding["text"]


def test_goods_that_came_back_told_by_the_dock_and_by_edi_180() -> None:
    base = [*master_data(), placed(10), dispatched("SHP-1", 10, 60)]
    requested = returned(2, 4_000)[0]
    assert isinstance(requested.fact, ReturnRequested)
    fact = ReturnReceived(return_id="RMA-1", receipt_id="GR-1", lines=requested.fact.lines)
    told = [tell(f"order/{ORDER}", fact, 4_002, source=source) for source in ("/wms", "/edi/180")]
    world = in_every_order([*base, requested], told)
    assert document(world, f"order/{ORDER}")["lines"][0]["returned"] == Decimal(2)


def test_one_id_with_two_contents_is_flagged_and_decided_by_content() -> None:
    told = [
        tell(STOCK, StockAdjusted(adjustment_id="A", delta=delta), 30, source="/wms", id="a1")
        for delta in (-3, -4)
    ]
    world = in_every_order(master_data(), told)
    counts = min(told, key=lambda one: one.digest()).fact
    assert document(world, STOCK)["on_hand"]["sellable"] == 100 + counts.delta
    assert dict(world.snapshot(STOCK).conflicts) == {"/wms#a1": 2}
