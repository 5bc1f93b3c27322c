"""Shopify webhooks into canonical events. Payloads are written afresh from the Admin REST documentation."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.shopify.signature import verify
from adapters.shopify.translate import translate
from canonical.envelope import Event, parse_structured
from canonical.errors import RejectedMessage
from canonical.facts.base import Fact
from canonical.facts.order import (
    CancelledLine,
    OrderAmended,
    OrderCancelled,
    OrderPlaced,
    PaymentAuthorized,
    PaymentCaptured,
    RefundIssued,
    ReturnApproved,
    ReturnClosed,
    ReturnDeclined,
    ReturnLine,
    ReturnRequested,
)
from canonical.facts.reference import CustomerUpserted, ItemUpserted
from canonical.facts.shipment import ShipmentCreated, ShipmentDispatched, ShipmentLine, ShipmentVoided
from canonical.facts.stock import StockCounted
from canonical.facts.tracking import TrackingRegistered
from canonical.translation import Connection, Inbound
from tests.world import World
from twins.core.rules import Policy

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "shopify"
SHOP = Connection("shopify", "acme", {"count_levels": "available"})

# --- payloads --------------------------------------------------------------------------------------------


def line(**changes: Any) -> dict[str, Any]:
    return {
        "id": 466157049,
        "sku": "MUG-1",
        "title": "Mug",
        "quantity": 2,
        "current_quantity": 2,
        "price": "12.50",
        "fulfillment_status": None,
        "variant_id": 39072856,
        "product_id": 632910392,
        "tax_lines": [{"price": "1.50", "rate": 0.06}, {"price": "0.50", "rate": 0.02}],
        "discount_allocations": [{"amount": "3.00"}, {"amount": "2.00"}],
    } | changes


def order(**changes: Any) -> dict[str, Any]:
    return {
        "id": 450789469,
        "name": "#1001",
        "created_at": "2026-03-02T09:00:00+01:00",
        "updated_at": "2026-03-02T09:00:00+01:00",
        "cancelled_at": None,
        "currency": "USD",
        "financial_status": "paid",
        "source_name": "web",
        "taxes_included": False,
        "customer": {"id": 207119551},
        "line_items": [line()],
        "shipping_lines": [
            {
                "price": "10.00",
                "discount_allocations": [{"amount": "4.00"}],
                "tax_lines": [{"price": "0.48"}],
            },
            {"price": "99.00", "is_removed": True},
        ],
        "refunds": [],
    } | changes


def fulfillment(**changes: Any) -> dict[str, Any]:
    return {
        "id": 255858046,
        "order_id": 450789469,
        "status": "success",
        "created_at": "2026-03-03T10:00:00Z",
        "updated_at": "2026-03-03T12:00:00Z",
        "tracking_company": "UPS",
        "tracking_number": "1Z1",
        "tracking_numbers": ["1Z1", "1Z2"],
        "location_id": 655441491,
        "line_items": [{"id": 466157049, "sku": "MUG-1", "quantity": 2}],
    } | changes


def transaction(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1068278509,
        "order_id": 450789469,
        "kind": "refund",
        "status": "success",
        "amount": "10.00",
        "currency": "USD",
        "gateway": "shopify_payments",
        "created_at": "2026-03-05T10:00:00Z",
    } | changes


def refund_line(**changes: Any) -> dict[str, Any]:
    return {
        "id": 104689539,
        "line_item_id": 466157049,
        "quantity": 1,
        "restock_type": "no_restock",
        "subtotal": 10.0,
        "subtotal_set": {"shop_money": {"amount": "10.00", "currency_code": "USD"}},
    } | changes


def refund(**changes: Any) -> dict[str, Any]:
    return {
        "id": 509562969,
        "order_id": 450789469,
        "created_at": "2026-03-05T11:00:00Z",
        "note": "cracked",
        "refund_line_items": [refund_line()],
        "transactions": [transaction()],
    } | changes


def customer_return(**changes: Any) -> dict[str, Any]:
    return {
        "id": 945000954,
        "status": "requested",
        "order": {"id": 450789469},
        "return_line_items": [
            {
                "quantity": 1,
                "return_reason": "DEFECTIVE",
                "fulfillment_line_item": {"id": 1, "line_item": {"id": 466157049}},
            }
        ],
    } | changes


def level(**changes: Any) -> dict[str, Any]:
    return {
        "inventory_item_id": 271878346,
        "location_id": 655441491,
        "available": 7,
        "updated_at": "2026-03-02T09:00:00Z",
    } | changes


def product(**changes: Any) -> dict[str, Any]:
    return {
        "id": 788032119,
        "title": "Mug",
        "handle": "mug",
        "updated_at": "2026-03-02T09:00:00Z",
        "variants": [
            {"id": 1, "sku": "MUG-1", "title": "Default Title", "barcode": "4006381333931", "grams": 350},
            {"id": 2, "sku": "", "title": "No SKU"},
            {
                "id": 3,
                "sku": "MUG-B",
                "title": "Blue",
                "barcode": "shelf 7",
                "updated_at": "2026-03-02T10:00:00Z",
            },
        ],
    } | changes


def customer(**changes: Any) -> dict[str, Any]:
    return {
        "id": 207119551,
        "first_name": "Ada",
        "last_name": "Byron",
        "email": "ada@example.com",
        "updated_at": "2026-03-02T09:00:00Z",
        "default_address": {"company": "Engines Ltd", "country_code": "GB"},
    } | changes


PAYLOADS: dict[str, dict[str, Any]] = {
    "orders/create": order(),
    "orders/updated": order(
        updated_at="2026-03-02T10:00:00+01:00",
        cancelled_at="2026-03-02T10:00:00+01:00",
        taxes_included=True,
        refunds=[refund(refund_line_items=[refund_line(restock_type="cancel")])],
    ),
    "fulfillments/create": fulfillment(updated_at="2026-03-03T10:00:00Z"),
    "fulfillments/update": fulfillment(),
    "refunds/create": refund(refund_line_items=[refund_line(restock_type="cancel")]),
    "order_transactions/create": transaction(),
    "returns/request": customer_return(),
    "returns/approve": customer_return(status="open"),
    "returns/decline": customer_return(status="declined", decline={"reason": "FINAL_SALE", "note": "Sorry"}),
    "returns/close": customer_return(status="closed"),
    "inventory_levels/update": level(),
    "products/update": product(),
    "customers/update": customer(),
}


def tell(topic: str, payload: Any, connection: Connection = SHOP, **headers: str) -> tuple[Event, ...]:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return translate(
        Inbound(json.dumps(payload).encode(), {"x-shopify-topic": topic, **told}), connection
    ).events


def facts(topic: str, payload: Any, connection: Connection = SHOP) -> list[Fact]:
    return [event.fact for event in tell(topic, payload, connection)]


def only(topic: str, payload: Any, connection: Connection = SHOP) -> Any:
    (event,) = tell(topic, payload, connection)
    return event.fact


def rejection(topic: str, payload: Any, connection: Connection = SHOP) -> RejectedMessage:
    with pytest.raises(RejectedMessage) as caught:
        tell(topic, payload, connection)
    return caught.value


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- real payloads ---------------------------------------------------------------------------------------


def sample(name: str) -> bytes:
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is absent: put the samples at ../shared/samples")
    return (SAMPLES / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "orders_create.json",
            ["order.placed order/820982911946154500", "order.cancelled order/820982911946154500"],
        ),
        (
            "orders_cancelled.json",
            ["order.placed order/820982911946154500", "order.cancelled order/820982911946154500"],
        ),
        (
            "fulfillments_create.json",
            ["shipment.created shipment/123456", "tracking.registered tracking/ups:1Z827WK74630"],
        ),
        ("refunds_create.json", ["order.refund-issued order/820982911946154500"] * 2),
        ("returns_request.json", ["order.return-requested order/4783296544821"]),
    ],
)
def test_every_sample_translates_without_headers_or_settings(name: str, expected: list[str]) -> None:
    events = translate(Inbound(sample(name)), Connection("shopify")).events
    assert [
        f"{event.type.removeprefix('io.twinsync.').removesuffix('.v1')} {event.subject}" for event in events
    ] == expected
    assert all(parse_structured(event.structured()) == event for event in events)
    assert {event.source for event in events} == {"/shopify/default"}


def test_the_sample_order_keeps_its_lines_amounts_and_freight() -> None:
    placed = translate(Inbound(sample("orders_create.json")), SHOP).events[0].fact
    assert isinstance(placed, OrderPlaced)
    assert sum(one.quantity * one.unit_price for one in placed.lines) == Decimal("414.95")
    assert (placed.freight, placed.reference, placed.channel) == (Decimal(10), "#9999", "web")
    assert placed.customer_id == "115310627314723950"


def test_the_sample_refund_finds_its_currency_in_the_amount_sets() -> None:
    """Its transactions have ``"currency": null``."""
    refunds = [event.fact for event in translate(Inbound(sample("refunds_create.json")), SHOP).events]
    assert refunds == [
        RefundIssued(refund_id="245135271310201180", amount=Decimal(75), currency="USD", provider="bogus"),
        RefundIssued(refund_id="839212141605670500", amount=Decimal(10), currency="USD", provider="bogus"),
    ]


# --- every message ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", PAYLOADS)
def test_a_webhook_sent_again_tells_the_same_events(topic: str) -> None:
    first = tell(topic, PAYLOADS[topic], x_shopify_webhook_id="a", x_shopify_shop_domain="a.example")
    again = tell(topic, dict(reversed(PAYLOADS[topic].items())), x_shopify_webhook_id="b")
    assert first
    assert [(event.event_id, event.digest()) for event in first] == [
        (event.event_id, event.digest()) for event in again
    ]


@pytest.mark.parametrize("topic", PAYLOADS)
def test_every_event_survives_the_wire(topic: str) -> None:
    for event in tell(topic, PAYLOADS[topic]):
        assert parse_structured(event.structured()) == event


@pytest.mark.parametrize("topic", PAYLOADS)
def test_a_bare_payload_is_recognised_by_its_keys(topic: str) -> None:
    bare = translate(Inbound(json.dumps(PAYLOADS[topic]).encode()), SHOP).events
    assert bare == tell(topic, PAYLOADS[topic])


@pytest.mark.parametrize("topic", PAYLOADS)
def test_a_wrapped_payload_is_told_by_its_wrapper(topic: str) -> None:
    wrapped = {"name": topic, "deprecated": False, "response": PAYLOADS[topic]}
    assert translate(Inbound(json.dumps(wrapped).encode()), SHOP).events == tell(topic, PAYLOADS[topic])


def test_a_64_bit_id_keeps_every_digit() -> None:
    (placed,) = tell("orders/create", order(id=18446744073709551557, line_items=[line(id=9007199254740993)]))
    assert str(placed.subject) == "order/18446744073709551557"
    assert isinstance(placed.fact, OrderPlaced)
    assert placed.fact.lines[0].line_id == "9007199254740993"


def test_an_id_that_went_through_a_float_is_refused() -> None:
    body = json.dumps(order()).replace("450789469", "4.50789469e17").encode()
    with pytest.raises(RejectedMessage, match=r"^id: "):
        translate(Inbound(body, {"x-shopify-topic": "orders/create"}), SHOP)


def test_amounts_written_as_json_numbers_lose_nothing() -> None:
    body = json.dumps(order(shipping_lines=[])).replace('"12.50"', "12.10000000").encode()
    placed = translate(Inbound(body, {"x-shopify-topic": "orders/create"}), SHOP).events[0].fact
    assert isinstance(placed, OrderPlaced)
    assert placed.lines[0].unit_price == Decimal("12.1")
    assert only("orders/create", order(line_items=[line(price=0.1)])).lines[0].unit_price == Decimal("0.1")


# --- orders ----------------------------------------------------------------------------------------------


def test_an_order_is_placed_with_its_lines_customer_and_freight() -> None:
    (event,) = tell("orders/create", order())
    placed = event.fact
    assert isinstance(placed, OrderPlaced)
    (ordered,) = placed.lines
    assert (ordered.line_id, ordered.sku, ordered.quantity) == ("466157049", "MUG-1", Decimal(2))
    assert (ordered.unit_price, ordered.discount, ordered.tax) == (Decimal("12.5"), Decimal(5), Decimal(2))
    assert (placed.freight, placed.freight_tax) == (Decimal(6), Decimal("0.48"))
    assert (placed.customer_id, placed.channel, placed.reference) == ("207119551", "web", "#1001")
    assert (placed.company, placed.currency) == ("main", "USD")
    assert event.time == at("2026-03-02T08:00:00")
    assert event.id == "orders/450789469/placed/2026-03-02T08:00:00+00:00"
    assert str(event.subject) == "order/450789469"


def test_the_connection_says_which_company_sells() -> None:
    settings = {"company": "acme-gmbh"}
    assert only("orders/create", order(), Connection("shopify", settings=settings)).company == "acme-gmbh"


def test_a_guest_has_no_customer_id() -> None:
    assert only("orders/create", order(customer=None)).customer_id is None
    assert only("orders/create", order(customer={})).customer_id is None


@pytest.mark.parametrize(
    ("changes", "sku"),
    [
        ({"sku": " MUG-1 "}, "MUG-1"),
        ({"sku": ""}, "variant/39072856"),
        ({"sku": None, "variant_id": None}, "product/632910392"),
        ({"sku": None, "variant_id": None, "product_id": None}, "line/466157049"),
    ],
)
def test_a_line_without_sku_has_the_narrowest_id_others_can_share(changes: dict[str, Any], sku: str) -> None:
    assert only("orders/create", order(line_items=[line(**changes)])).lines[0].sku == sku
    shipped = tell("fulfillments/create", fulfillment(line_items=[line(**changes)]))[0].fact
    assert isinstance(shipped, ShipmentDispatched)
    assert shipped.lines[0].sku == sku


@pytest.mark.parametrize(
    "topic",
    ["orders/updated", "orders/paid", "orders/fulfilled", "orders/partially_fulfilled", "orders/cancelled"],
)
def test_every_order_topic_tells_the_placing_and_the_amendment(topic: str) -> None:
    updated = order(updated_at="2026-03-02T10:30:00.250+01:00")
    placed, amended = tell(topic, updated)
    assert placed.time == at("2026-03-02T08:00:00")
    assert amended.time == at("2026-03-02T09:30:00.250")
    assert isinstance(placed.fact, OrderPlaced)
    assert isinstance(amended.fact, OrderAmended)
    assert amended.fact.revision == 1_772_443_800_250
    assert amended.fact.lines == placed.fact.lines
    assert (amended.fact.freight, amended.fact.freight_tax) == (Decimal(6), Decimal("0.48"))


def test_the_earliest_telling_of_the_placing_sorts_first() -> None:
    """The twin takes the first in sort order; time, rank and source are the same, so the id decides."""
    moments = [
        "2026-03-02T09:00:00+01:00",
        "2026-03-02T09:00:00.5+01:00",
        "2026-03-02T06:00:00-05:00",
        "2026-03-02T11:30:00Z",
    ]
    ids = [tell("orders/updated", order(updated_at=moment))[0].id for moment in moments]
    assert sorted(ids) == ids


def test_an_amendment_has_the_quantity_left_and_its_share_of_discount_and_tax() -> None:
    """Discount and tax in the payload are those of the quantity first ordered."""
    edited = order(updated_at="2026-03-02T10:00:00+01:00", line_items=[line(quantity=3, current_quantity=1)])
    placed, amended = facts("orders/updated", edited)
    assert isinstance(placed, OrderPlaced)
    assert isinstance(amended, OrderAmended)
    assert placed.lines[0].quantity == 3
    assert (amended.lines[0].quantity, amended.lines[0].discount) == (Decimal(1), Decimal("1.67"))
    assert amended.lines[0].tax == Decimal("0.67")


def test_an_amendment_without_current_quantity_has_the_quantity() -> None:
    payload = order(updated_at="2026-03-02T10:00:00+01:00", line_items=[line(current_quantity=None)])
    amended = facts("orders/updated", payload)[1]
    assert isinstance(amended, OrderAmended)
    assert amended.lines[0].quantity == 2


def test_a_cancelled_order_is_cancelled_whole_at_its_moment() -> None:
    cancelled = order(cancelled_at="2026-03-02T09:30:00+01:00", cancel_reason="fraud")
    event = tell("orders/cancelled", cancelled)[-1]
    assert event.fact == OrderCancelled(cancel_id="cancel/450789469", reason="fraud")
    assert event.time == at("2026-03-02T08:30:00")


def refunded_order(restock_type: str, fulfillment_status: str | None) -> dict[str, Any]:
    """Five ordered, two of them refunded: Shopify counts ``current_quantity`` down to three."""
    return order(
        updated_at="2026-03-05T11:00:00Z",
        line_items=[line(quantity=5, current_quantity=3, fulfillment_status=fulfillment_status)],
        refunds=[refund(refund_line_items=[refund_line(quantity=2, restock_type=restock_type)])],
    )


@pytest.mark.parametrize(
    ("restock_type", "fulfillment_status", "wanted"),
    [
        ("cancel", None, 5),
        ("cancel", "partial", 5),
        ("return", "fulfilled", 5),
        ("no_restock", "fulfilled", 5),
        ("no_restock", None, 3),
    ],
)
def test_an_amendment_takes_off_only_what_nothing_else_tells(
    restock_type: str, fulfillment_status: str | None, wanted: int
) -> None:
    amended = facts("orders/updated", refunded_order(restock_type, fulfillment_status))[1]
    assert isinstance(amended, OrderAmended)
    assert amended.lines[0].quantity == wanted


BEFORE, AFTER = "2026-03-03T10:00:00Z", "2026-03-06T10:00:00Z"
"""The refund is of 2026-03-05."""


@pytest.mark.parametrize(
    ("restock_type", "fulfillment_status", "shipped", "wanted"),
    [
        ("no_restock", None, [], 3),
        ("no_restock", "partial", [(1, AFTER)], 3),
        ("no_restock", "fulfilled", [(3, AFTER)], 3),
        ("no_restock", "fulfilled", [(2, BEFORE), (1, AFTER)], 3),
        ("no_restock", "fulfilled", [(5, BEFORE)], 5),
        ("no_restock", "fulfilled", [(5, AFTER)], 5),
        ("no_restock", "fulfilled", [(4, AFTER)], 4),
        ("no_restock", "partial", [(2, BEFORE)], 5),
        ("no_restock", "partial", [(1, BEFORE)], 4),
        ("legacy_restock", "fulfilled", [(3, AFTER)], 3),
        ("return", "fulfilled", [(5, BEFORE)], 5),
        ("cancel", "fulfilled", [(3, AFTER)], 5),
    ],
)
def test_a_refund_takes_off_what_had_not_shipped_and_never_what_had(
    restock_type: str, fulfillment_status: str | None, shipped: list[tuple[int, str]], wanted: int
) -> None:
    """What a cancel took off is told by itself, and so not by the amendment."""
    told = [
        fulfillment(id=number, created_at=moment, line_items=[line(quantity=quantity)])
        for number, (quantity, moment) in enumerate(shipped, start=1)
    ]
    voided = fulfillment(id=9, created_at=BEFORE, status="cancelled", line_items=[line(quantity=5)])
    payload = refunded_order(restock_type, fulfillment_status) | {"fulfillments": [*told, voided]}
    amended = facts("orders/updated", payload)[1]
    assert isinstance(amended, OrderAmended)
    assert amended.lines[0].quantity == wanted


def test_a_line_is_not_open_again_when_what_was_not_refunded_has_shipped() -> None:
    rest = fulfillment(created_at=AFTER, updated_at=AFTER, line_items=[line(quantity=3)])
    done = refunded_order("no_restock", "fulfilled") | {"fulfillments": [rest], "updated_at": AFTER}
    world = World(Policy(require_master_data=False))
    world.take(tell("orders/create", order(line_items=[line(quantity=5, current_quantity=5)])))
    world.take(tell("orders/updated", refunded_order("no_restock", None) | {"fulfillments": []}))
    world.take(tell("fulfillments/create", rest))
    world.take(tell("orders/fulfilled", done))
    (told,) = world.snapshot("order/450789469").document()["lines"]
    assert (told["ordered"], told["shipped"], told["open"]) == (3, 3, 0)
    assert world.status("order/450789469") == "shipped"


def test_a_piece_cancelled_by_a_refund_is_taken_off_once() -> None:
    """The order's update and the refund's webhook both tell of it."""
    cancelling = refund(refund_line_items=[refund_line(quantity=2, restock_type="cancel")], transactions=[])
    world = World(Policy(require_master_data=False))
    world.take(tell("orders/create", order(line_items=[line(quantity=5, current_quantity=5)])))
    world.take(tell("refunds/create", cancelling))
    world.take(tell("orders/updated", refunded_order("cancel", None)))
    (told,) = world.snapshot("order/450789469").document()["lines"]
    assert (told["ordered"], told["cancelled"], told["open"]) == (5, 2, 3)


def test_a_refund_of_shipped_goods_leaves_their_invoice_alone() -> None:
    """``current_quantity`` falls when a shipped piece comes back; a return credits it, not an amendment."""
    ordered = order(line_items=[line(quantity=1, current_quantity=1)])
    world = World(Policy(require_master_data=False))
    world.take(tell("orders/create", ordered))
    world.take(tell("products/update", product()))
    world.take(tell("fulfillments/create", fulfillment(line_items=[line(quantity=1)])))
    world.confirm()
    before = world.live()
    assert any("invoice" in key for key in before)
    returned = order(
        updated_at="2026-03-09T10:00:00Z",
        line_items=[line(quantity=1, current_quantity=0, fulfillment_status="fulfilled")],
        refunds=[refund(refund_line_items=[refund_line(restock_type="return")])],
    )
    world.take(tell("orders/updated", returned))
    assert world.confirm().live() == before


# --- prices that include tax -----------------------------------------------------------------------------


def test_prices_that_include_tax_are_made_net() -> None:
    gross = line(price="12.00", quantity=2, discount_allocations=[], tax_lines=[{"price": "4.00"}])
    shipping = [{"price": "6.00", "tax_lines": [{"price": "1.00"}]}]
    placed = only("orders/create", order(taxes_included=True, line_items=[gross], shipping_lines=shipping))
    assert (placed.lines[0].unit_price, placed.lines[0].discount, placed.lines[0].tax) == (10, 0, 4)
    assert (placed.freight, placed.freight_tax) == (5, 1)


@given(
    quantity=st.integers(1, 500),
    price=st.decimals(0, 5_000, places=2),
    rate=st.decimals(0, "0.3", places=3),
    off=st.decimals(0, 1, places=2),
)
def test_net_price_discount_and_tax_add_up_to_what_is_paid(
    quantity: int, price: Decimal, rate: Decimal, off: Decimal
) -> None:
    discount = (price * quantity * off).quantize(Decimal("0.01"))
    paid = price * quantity - discount
    tax = (paid * rate / (1 + rate)).quantize(Decimal("0.01"))
    gross = line(
        quantity=quantity,
        price=str(price),
        tax_lines=[{"price": str(tax)}],
        discount_allocations=[{"amount": str(discount)}],
    )
    (net,) = only("orders/create", order(taxes_included=True, line_items=[gross])).lines
    assert net.quantity * net.unit_price - net.discount + net.tax == paid
    assert net.discount >= 0
    assert net.unit_price <= price
    assert net.unit_price == net.unit_price.quantize(Decimal("0.01"))


@pytest.mark.parametrize(
    ("currency", "unit_price", "discount"), [("JPY", "910", "2"), ("KWD", "909.091", "0.001")]
)
def test_a_net_price_has_the_precision_of_its_currency(currency: str, unit_price: str, discount: str) -> None:
    tax = {"JPY": "272", "KWD": "272.728"}[currency]
    gross = line(price="1000", quantity=3, discount_allocations=[], tax_lines=[{"price": tax}])
    (net,) = only("orders/create", order(currency=currency, taxes_included=True, line_items=[gross])).lines
    assert (net.unit_price, net.discount) == (Decimal(unit_price), Decimal(discount))


# --- fulfilments -----------------------------------------------------------------------------------------


def test_a_successful_fulfilment_is_a_dispatch() -> None:
    event = tell("fulfillments/create", fulfillment())[0]
    assert str(event.subject) == "shipment/255858046"
    assert event.fact == ShipmentDispatched(
        location="655441491",
        lines=(ShipmentLine(order_id="450789469", line_id="466157049", sku="MUG-1", quantity=Decimal(2)),),
        carrier="ups",
        tracking_numbers=("1Z1", "1Z2"),
    )


def test_a_creation_is_dated_by_itself_and_an_update_by_the_update() -> None:
    assert tell("fulfillments/create", fulfillment())[0].time == at("2026-03-03T10:00:00")
    assert tell("fulfillments/update", fulfillment())[0].time == at("2026-03-03T12:00:00")


@pytest.mark.parametrize(
    ("status", "fact"),
    [
        ("pending", ShipmentCreated),
        ("open", ShipmentCreated),
        ("success", ShipmentDispatched),
        ("cancelled", ShipmentVoided),
        ("error", ShipmentVoided),
        ("failure", ShipmentVoided),
    ],
)
def test_each_fulfilment_status_is_a_fact(status: str, fact: type[Fact]) -> None:
    told, *registered = facts("fulfillments/update", fulfillment(status=status))
    assert isinstance(told, fact)
    assert len(registered) == (0 if fact is ShipmentVoided else 2)


def test_each_tracking_number_is_registered_once_however_often_it_is_told() -> None:
    first = tell("fulfillments/create", fulfillment())[1:]
    later = tell("fulfillments/update", fulfillment(updated_at="2026-03-04T12:00:00Z"))[1:]
    assert [str(event.subject) for event in first] == ["tracking/ups:1Z1", "tracking/ups:1Z2"]
    assert all(event.fact == TrackingRegistered(shipment_id="255858046") for event in first)
    assert first == later


def test_the_old_singular_tracking_number_counts_too() -> None:
    told = tell("fulfillments/create", fulfillment(tracking_numbers=None, tracking_number="1Z9"))
    assert [str(event.subject) for event in told[1:]] == ["tracking/ups:1Z9"]


def test_a_tracking_number_without_carrier_names_no_parcel() -> None:
    unnamed = fulfillment(tracking_company=None)
    (event,) = tell("fulfillments/create", unnamed)
    assert isinstance(event.fact, ShipmentDispatched)
    assert event.fact.tracking_numbers == ()
    known = tell("fulfillments/create", unnamed, Connection("shopify", settings={"carrier": "dpd"}))
    assert str(known[1].subject) == "tracking/dpd:1Z1"


def test_carriers_are_spelled_as_others_spell_them() -> None:
    payload = fulfillment(tracking_company="DHL Express")
    assert tell("fulfillments/create", payload)[1].subject.key == "dhlexpress:1Z1"
    mapped = Connection("shopify", settings={"carrier.DHL Express": "dhl"})
    assert tell("fulfillments/create", payload, mapped)[1].subject.key == "dhl:1Z1"


@pytest.mark.parametrize(
    ("location_id", "settings", "location"),
    [
        (655441491, {}, "655441491"),
        (655441491, {"location.655441491": "DC-01"}, "DC-01"),
        (None, {"location": "DC-02"}, "DC-02"),
        (None, {}, "default"),
    ],
)
def test_their_location_is_mapped_to_ours(
    location_id: int | None, settings: dict[str, str], location: str
) -> None:
    connection = Connection("shopify", settings=settings)
    told = tell("fulfillments/create", fulfillment(location_id=location_id), connection)[0].fact
    assert isinstance(told, ShipmentDispatched)
    assert told.location == location


# --- refunds and payments --------------------------------------------------------------------------------


def test_refund_and_transaction_webhooks_tell_one_event() -> None:
    """The double refund of ps_checkout#331."""
    by_refund = tell("refunds/create", refund())
    by_transaction = tell("order_transactions/create", transaction(processed_at="2026-03-05T10:00:01Z"))
    assert by_refund == by_transaction
    assert by_refund[0].fact == RefundIssued(
        refund_id="1068278509", amount=Decimal(10), currency="USD", provider="shopify_payments"
    )


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("authorization", PaymentAuthorized),
        ("emv_authorization", PaymentAuthorized),
        ("capture", PaymentCaptured),
        ("sale", PaymentCaptured),
        ("refund", RefundIssued),
    ],
)
def test_each_kind_of_transaction_is_a_fact(kind: str, fact: type[Fact]) -> None:
    (event,) = tell("order_transactions/create", transaction(kind=kind))
    assert isinstance(event.fact, fact)
    assert str(event.subject) == "order/450789469"
    assert event.time == at("2026-03-05T10:00:00")


@pytest.mark.parametrize(
    "changes", [{"kind": "void"}, {"kind": "change"}, {"status": "failure"}, {"status": "pending"}]
)
def test_a_transaction_that_moved_no_money_is_no_fact(changes: dict[str, str]) -> None:
    assert tell("order_transactions/create", transaction(**changes)) == ()
    assert tell("refunds/create", refund(transactions=[transaction(**changes)])) == ()


def test_only_refunds_among_a_refunds_transactions_count() -> None:
    assert tell("refunds/create", refund(transactions=[transaction(kind="capture")])) == ()


def test_the_currency_is_the_transactions_then_the_settings_then_the_refunds() -> None:
    connection = Connection("shopify", settings={"currency": "CAD"})
    unnamed = refund(transactions=[transaction(currency=None)])
    assert only("refunds/create", refund(), connection).currency == "USD"
    assert only("refunds/create", unnamed, connection).currency == "CAD"
    assert only("refunds/create", unnamed).currency == "USD"
    error = rejection("order_transactions/create", transaction(currency=None))
    assert error.field == "currency"
    assert "setting 'currency'" in error.reason


@pytest.mark.parametrize("restock_type", ["no_restock", "return", "legacy_restock", None])
def test_a_refund_restocks_and_cancels_nothing(restock_type: str | None) -> None:
    told = facts("refunds/create", refund(refund_line_items=[refund_line(restock_type=restock_type)]))
    assert [type(fact) for fact in told] == [RefundIssued]


def test_a_refund_of_what_will_not_ship_cancels_those_lines() -> None:
    lines = [refund_line(restock_type="cancel", quantity=2), refund_line(line_item_id=5)]
    event = tell("refunds/create", refund(refund_line_items=lines))[-1]
    assert event.fact == OrderCancelled(
        cancel_id="refund/509562969", lines=(CancelledLine(line_id="466157049", quantity=Decimal(2)),)
    )
    assert event.time == at("2026-03-05T11:00:00")


def test_order_and_refund_webhooks_tell_one_cancel() -> None:
    cancelling = refund(refund_line_items=[refund_line(restock_type="cancel")])
    assert tell("orders/updated", order(refunds=[cancelling]))[-1] == tell("refunds/create", cancelling)[-1]


# --- returns ---------------------------------------------------------------------------------------------

REQUESTED = ReturnRequested(
    return_id="945000954",
    lines=(ReturnLine(line_id="466157049", quantity=Decimal(1), reason="DEFECTIVE"),),
)


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("returns/request", [REQUESTED]),
        ("returns/approve", [REQUESTED, ReturnApproved(return_id="945000954")]),
        ("returns/decline", [ReturnDeclined(return_id="945000954", reason="FINAL_SALE: Sorry")]),
        ("returns/close", [ReturnClosed(return_id="945000954")]),
    ],
)
def test_each_return_topic_is_its_facts(topic: str, told: list[Fact]) -> None:
    """A return that the merchant opens is approved without ever having been requested."""
    assert facts(topic, PAYLOADS[topic]) == told


def test_a_return_is_dated_by_its_header() -> None:
    told = tell("returns/request", customer_return(), x_shopify_triggered_at="2026-03-08T10:00:00.123Z")
    assert told[0].time == at("2026-03-08T10:00:00.123")


def test_an_undated_return_still_reaches_its_order_whenever_it_arrives() -> None:
    """Without the header it is dated before everything: the fold holds it until the order is placed."""
    world = World(Policy(require_master_data=False))
    world.take(tell("returns/approve", customer_return()))
    world.take(tell("orders/create", order()))
    assert world.snapshot("order/450789469").document()["returns"]["945000954"]["status"] == "approved"


def test_a_broken_date_header_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"^x-shopify-triggered-at: .*'yesterday'"):
        tell("returns/request", customer_return(), x_shopify_triggered_at="yesterday")


# --- stock and master data -------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [7, 0, -3, None])
@pytest.mark.parametrize("settings", [{}, {"count_levels": "yes"}])
def test_what_can_be_sold_is_no_count_unless_the_connection_says_so(
    settings: dict[str, str], available: int | None
) -> None:
    shop = Connection("shopify", settings=settings)
    assert tell("inventory_levels/update", level(available=available), shop) == ()


def test_the_sample_level_is_a_count_where_the_connection_says_so() -> None:
    (event,) = translate(Inbound(sample("inventory_levels_update.json")), SHOP).events
    assert (event.type, str(event.subject)) == (StockCounted.TYPE, "stock/inventory-item/123@123")
    assert translate(Inbound(sample("inventory_levels_update.json")), Connection("shopify")).events == ()


def test_an_inventory_level_is_a_count() -> None:
    settings = {"sku.271878346": "MUG-1", "location.655441491": "DC-01", "count_levels": "available"}
    (event,) = tell("inventory_levels/update", level(), Connection("shopify", settings=settings))
    assert str(event.subject) == "stock/MUG-1@DC-01"
    assert event.fact == StockCounted(
        count_id="271878346@655441491/2026-03-02T09:00:00+00:00", quantity=Decimal(7)
    )
    assert event.time == at("2026-03-02T09:00:00")


def test_an_untracked_level_is_no_count() -> None:
    assert tell("inventory_levels/update", level(available=None)) == ()


def test_an_oversold_level_is_refused() -> None:
    error = rejection("inventory_levels/update", level(available=-3))
    assert str(error) == "available: -3: an oversold level is no count of goods"


def test_each_variant_with_a_sku_is_an_item() -> None:
    first, second = tell("products/create", product())
    assert (str(first.subject), str(second.subject)) == ("item/MUG-1", "item/MUG-B")
    assert first.fact == ItemUpserted(
        revision=1_772_442_000_000, title="Mug", gtin="04006381333931", mass_g=Decimal(350)
    )
    assert second.fact == ItemUpserted(revision=1_772_445_600_000, title="Mug - Blue")
    assert second.time == at("2026-03-02T10:00:00")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "Ada Byron"),
        ({"first_name": None}, "Byron"),
        ({"first_name": " ", "last_name": ""}, "Engines Ltd"),
        ({"first_name": None, "last_name": None, "default_address": None}, "207119551"),
    ],
)
def test_a_customer_has_the_best_name_there_is(changes: dict[str, Any], name: str) -> None:
    (event,) = tell("customers/update", customer(**changes))
    assert isinstance(event.fact, CustomerUpserted)
    assert event.fact.name == name
    assert (str(event.subject), event.fact.revision) == ("customer/207119551", 1_772_442_000_000)


def test_a_customers_country_is_that_of_the_default_address() -> None:
    assert only("customers/create", customer()).country == "GB"


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (b"{", "not JSON: "),
        (b"<xml/>", "not JSON: "),
        (b'{"a": NaN}', "not JSON: NaN is no number"),
        (b'{"a": 1e99999999999999999999}', "not JSON: "),
        (b"\xff\xfe\xff", "not JSON: "),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON: "),
        (b"[]", "expected a JSON object"),
        (b'"order"', "expected a JSON object"),
        (b"17", "expected a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(RejectedMessage) as caught:
        translate(Inbound(body, {"x-shopify-topic": "orders/create"}), SHOP)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("topic", "payload", "field"),
    [
        ("orders/create", {}, "id"),
        ("orders/create", order(line_items="mug"), "line_items"),
        ("orders/create", order(line_items=[line(price="a lot")]), "line_items.0.price"),
        ("orders/create", order(line_items=[line(quantity=-1)]), "line_items.0.quantity"),
        ("orders/create", order(currency="DOLLARS"), "currency"),
        ("orders/create", order(created_at="2026-03-02T09:00:00"), "created_at"),
        ("orders/create", order(created_at="0001-01-01T00:00:00+14:00"), "created_at"),
        ("orders/create", order(id="a\nb"), "id"),
        ("fulfillments/create", fulfillment(status="lost"), "status"),
        ("fulfillments/create", fulfillment(tracking_company="x" * 200), "carrier"),
        (
            "fulfillments/create",
            fulfillment(tracking_company="x" * 99, tracking_number="1" * 129),
            "tracking_number",
        ),
        ("order_transactions/create", transaction(kind="gift"), "kind"),
        ("order_transactions/create", transaction(order_id=None), "order_id"),
        ("refunds/create", refund(transactions=[transaction(amount={})]), "transactions.0.amount"),
        ("returns/request", customer_return(order=None), "order"),
        ("inventory_levels/update", {"inventory_item_id": 1, "updated_at": "2026-03-02T09:00Z"}, "available"),
    ],
)
def test_a_wrong_field_is_named(topic: str, payload: Any, field: str) -> None:
    error = rejection(topic, payload)
    assert error.field == field or error.field.startswith(f"{field}."), str(error)


def test_a_line_told_twice_is_refused() -> None:
    error = rejection("orders/create", order(line_items=[line(), line()]))
    assert str(error) == "line '466157049' appears twice"


def test_an_unknown_topic_is_refused_with_the_known_ones() -> None:
    error = rejection("orders/delete", {"id": 1})
    assert error.field == "x-shopify-topic"
    assert "unknown topic 'orders/delete'; known: orders/create, " in error.reason


def test_an_unrecognisable_payload_asks_for_the_topic() -> None:
    """A checkout has line items and a currency, and is no order."""
    checkout = {"id": 1, "line_items": [], "currency": "USD", "abandoned_checkout_url": "https://example.com"}
    with pytest.raises(RejectedMessage, match=r"^x-shopify-topic: missing"):
        translate(Inbound(json.dumps(checkout).encode()), SHOP)


def test_amounts_out_of_range_are_refused() -> None:
    absurd = line(price="999999999999", quantity=1, tax_lines=[{"price": "-999999999999"}] * 9)
    absurd |= {"discount_allocations": [{"amount": "999999999998.99999999"}]}
    error = rejection("orders/create", order(taxes_included=True, line_items=[absurd]))
    assert error.reason == "amounts are out of range"


@pytest.mark.parametrize("moment", ["1969-12-31T23:59:59Z", -1, 1_700_000_000, "-1", None])
def test_a_moment_that_no_clock_shows_is_refused_by_name(moment: object) -> None:
    assert rejection("customers/update", customer(updated_at=moment)).field == "updated_at"


# --- anything at all -------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
telling_values = st.sampled_from(
    [
        "",
        " ",
        "0E-99",
        "1E+99",
        "-0",
        "1e400",
        "9999-12-31T23:59:59-14:00",
        "\ud800",
        "²",
        "a@b",
        "/",
        10**400,
    ]
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a payload."""
    steps: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [path, *(found for key, child in steps for found in paths(child, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, Any]:
    """A good payload, with something else in up to three of its places."""
    topic = draw(st.sampled_from(sorted(PAYLOADS)))
    payload = copy.deepcopy(PAYLOADS[topic])
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([path for path in paths(payload) if path]))
        place: Any = payload
        for step in parents:
            place = place[step]
        place[last] = draw(json_values | telling_values)
    return topic, payload


def survives(body: bytes, headers: dict[str, str]) -> None:
    try:
        events = translate(Inbound(body, headers), SHOP).events
    except RejectedMessage:
        return
    for event in events:
        assert parse_structured(event.structured()) == event


@settings(max_examples=400, deadline=None)
@given(spoilt(), st.booleans())
def test_a_spoilt_payload_is_told_or_refused_and_never_breaks(case: tuple[str, Any], named: bool) -> None:
    topic, payload = case
    survives(json.dumps(payload).encode(), {"x-shopify-topic": topic} if named else {})


@settings(max_examples=300, deadline=None)
@given(st.none() | st.sampled_from(sorted(PAYLOADS)), json_values)
def test_any_json_is_told_or_refused(topic: str | None, payload: Any) -> None:
    survives(json.dumps(payload).encode(), {} if topic is None else {"x-shopify-topic": topic})


@given(st.binary(max_size=60))
def test_any_bytes_are_told_or_refused(body: bytes) -> None:
    survives(body, {"x-shopify-topic": "orders/create"})


# --- signature -------------------------------------------------------------------------------------------


def test_a_signature_covers_the_raw_body() -> None:
    body, secret = b'{"id": 1}', "shpss_1"
    header = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    assert header == "qcJz9Lw7Yn7/oMZUaOOms3Pmz8xGPQCLA+wjwXLaPwE="
    assert verify(body, header, secret)
    assert not verify(b'{"id":1}', header, secret)
    assert not verify(body, header, "shpss_2")


@pytest.mark.parametrize("header", [None, "", "nonsense", "Ünïcode"])
def test_a_missing_or_garbled_signature_is_none(header: str | None) -> None:
    assert not verify(b"{}", header, "secret")


def test_without_a_secret_nothing_is_signed() -> None:
    empty_key = base64.b64encode(hmac.new(b"", b"{}", hashlib.sha256).digest()).decode()
    assert not verify(b"{}", empty_key, "")
