"""One order told in X12 from end to end, through the twins: files may repeat, and arrive in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from canonical.errors import RejectedMessage
from canonical.identity import Kind
from canonical.translation import Connection
from tests.unit.test_x12_partner import (
    CONNECTION,
    ORDER_850,
    RECEIPT_944,
    SHIPMENT_856,
    WAREHOUSE_940,
    WAREHOUSE_945,
    message,
    translated,
)
from tests.world import World
from twins.core.rules import Policy

ALL_FOUND = WAREHOUSE_945.replace("W12*CP*4*3*1", "W12*CC*4*4*0")
ALL_SHIPPED = SHIPMENT_856.replace("SN1**6*EA", "SN1**10*EA")
FILES = (
    message("850", ORDER_850, control="000000001"),
    message("940", WAREHOUSE_940, control="000000002"),
    message("945", ALL_FOUND, control="000000003"),
    message("856", ALL_SHIPPED, control="000000004"),
)


def told(*files: bytes) -> World:
    world = World(policy=Policy(require_master_data=False))
    for body in files:
        world.take(translated(body))
    return world.confirm()


def test_order_is_shipped_once_though_945_and_856_both_tell_it() -> None:
    world = told(*FILES)
    assert world.status("order/PO-77") == "shipped"
    assert world.status("shipment/SHP-7") == "dispatched"
    assert [key for key in world.live() if key.startswith(("goods-issue", "invoice"))] == [
        "goods-issue/SHP-7",
        "invoice/SHP-7/PO-77",
    ]
    assert not [one for one in world.snapshot("shipment/SHP-7").findings if one.code == "sources-disagree"]


@pytest.mark.parametrize("files", list(permutations(FILES)))
def test_order_of_the_files_does_not_matter(files: tuple[bytes, ...]) -> None:
    in_order, other = told(*FILES), told(*files)
    assert other.documents_of_twins() == in_order.documents_of_twins()
    assert other.live() == in_order.live()


def test_files_sent_again_under_other_control_numbers_add_nothing() -> None:
    again = [body.replace(b"00000000", b"00000009") for body in FILES]
    once, twice = told(*FILES), told(*FILES, *again)
    assert all(body not in FILES for body in again)
    assert twice.documents_of_twins() == once.documents_of_twins()
    assert twice.documents == once.documents


def test_two_buyers_with_one_number_are_two_orders_where_a_connection_says_so() -> None:
    """The second buyer's own; what he calls the order stays what people call it."""
    other = Connection("x12", "globex", {**CONNECTION.settings, "order_prefix": "globex:"})
    files = (
        message("850", ORDER_850),
        message("856", ALL_SHIPPED),
        message("850", ORDER_850.replace("*10*EA", "*9*EA")),
    )
    world = World(policy=Policy(require_master_data=False))
    world.take(translated(files[0]) + translated(files[1]) + translated(files[2], other))
    found = {number: world.snapshot(f"order/{number}").document() for number in ("PO-77", "globex:PO-77")}
    assert [[line["open"] for line in one["lines"]] for one in found.values()] == [[0, 0], [9, 4]]
    assert {one["reference"] for one in found.values()} == {"PO-77"}


@pytest.mark.parametrize(
    ("set_id", "text"),
    [("850", ORDER_850), ("856", SHIPMENT_856), ("940", WAREHOUSE_940), ("945", WAREHOUSE_945)],
)
def test_prefix_is_of_each_order_that_a_connection_tells_of(set_id: str, text: str) -> None:
    def orders(prefix: str) -> set[str]:
        settings = {**CONNECTION.settings, "order_prefix": prefix}
        events = translated(message(set_id, text), replace(CONNECTION, settings=settings))
        lines = {
            line.order_id
            for one in events
            for line in getattr(one.fact, "lines", ())
            if hasattr(line, "order_id")
        }
        return lines | {one.subject.key for one in events if one.subject.kind is Kind.ORDER}

    assert orders("") == {"PO-77"}
    assert orders("ACME-") == {"ACME-PO-77"}
    with pytest.raises(RejectedMessage, match=r"identifier of 1 to 128"):
        orders("x" * 124)


def test_short_pick_leaves_the_rest_of_the_order_open() -> None:
    world = told(FILES[0], FILES[1], message("945", WAREHOUSE_945))
    lines = {line["line_id"]: line for line in world.snapshot("order/PO-77").document()["lines"]}
    assert world.status("order/PO-77") == "partly-shipped"
    assert (lines["2"]["shipped"], lines["2"]["open"]) == (3, 1)


@pytest.mark.parametrize("turned", [False, True])
def test_releases_of_one_blanket_order_are_ordered_and_shipped_each_by_itself(turned: bool) -> None:
    files = [
        body
        for number in ("1", "2")
        for body in (
            message("850", ORDER_850.replace("BEG*00*SA*PO-77**", f"BEG*00*RL*PO-77*{number}*")),
            message("856", ALL_SHIPPED.replace("PRF*PO-77", f"PRF*PO-77*{number}").replace("SHP-7", number)),
        )
    ]
    world = told(*(reversed(files) if turned else files))
    assert [world.status(f"order/PO-77:{number}") for number in ("1", "2")] == ["shipped", "shipped"]
    assert sorted(key for key in world.live() if key.startswith("invoice")) == [
        "invoice/1/PO-77:1",
        "invoice/2/PO-77:2",
    ]


def test_cancelled_ship_notice_takes_its_shipment_back() -> None:
    world = told(*FILES, message("856", "BSN*01*SHP-7*20260303*1000"))
    assert world.status("shipment/SHP-7") == "voided"
    assert not [key for key in world.live() if key.startswith("goods-issue")]


def test_receipt_is_on_hand_the_damaged_apart() -> None:
    world = told(message("944", RECEIPT_944))
    on_hand = world.snapshot("stock/SKU-1@WH-EAST").document()["on_hand"]
    assert (on_hand["sellable"], on_hand["damaged"]) == (146, 4)


@pytest.mark.parametrize(
    ("set_id", "text"),
    [
        ("945", ALL_FOUND.replace("G62*11*20260302*8*1415\n", "")),
        ("944", RECEIPT_944.replace("20260304", "20260302")),
    ],
)
def test_what_is_sent_again_on_another_day_moves_no_goods_in_time(set_id: str, text: str) -> None:
    """A count of that very day, before it was sent, is of what was there before."""
    count = "BIA*00*DD*INV-9*20260302*1000\nN1*WH*East*92*WH-EAST\nLIN*1*VN*SKU-1\nQTY*17*90*EA"
    first, again = message(set_id, text), message(set_id, text, sent=("20260303", "0900"))
    once, twice = (told(FILES[0], message("846", count), *files) for files in ([first], [first, again]))
    stock = "stock/SKU-1@WH-EAST"
    assert twice.snapshot(stock).document()["on_hand"] == once.snapshot(stock).document()["on_hand"]
    assert twice.live() == once.live()
