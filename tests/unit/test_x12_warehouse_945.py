"""945 Warehouse Shipping Advice: what was picked, replaced, packed and shipped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import pytest

from canonical.errors import RejectedMessage
from canonical.facts.shipment import (
    PickedLine,
    ShipmentDispatched,
    ShipmentPacked,
    ShipmentPicked,
    ShipmentSubstituted,
)
from tests.unit.test_x12_partner import CONNECTION, SSCC, WAREHOUSE_945, facts, message, translated

F = TypeVar("F")

SUBSTITUTED = WAREHOUSE_945.replace(
    "W12*CP*4*3*1*CA**VN*SKU-2",
    "W12*IS*4*4*0*CA**VN*SKU-9*********VN*SKU-2*18",
)
"""W1207/08 shipped, W1217/18 ordered, W1219 the reason."""


def of(kind: type[F], text: str = WAREHOUSE_945) -> list[F]:
    return [fact for fact in facts("945", text) if isinstance(fact, kind)]


def test_advice_is_picked_packed_dispatched_and_tracked() -> None:
    events = translated(message("945"))
    assert [type(event.fact).__name__ for event in events] == [
        "ShipmentPicked",
        "ShipmentPacked",
        "ShipmentDispatched",
        "TrackingRegistered",
    ]
    assert [str(event.subject) for event in events] == [
        *["shipment/SHP-7"] * 3,
        "tracking/upsn:1Z999AA10123456784",
    ]


def test_short_pick_ships_what_was_found() -> None:
    (picked,) = of(ShipmentPicked)
    (dispatched,) = of(ShipmentDispatched)
    assert picked.pick_id == "SHP-7"
    assert picked.lines == (
        PickedLine(order_id="PO-77", line_id="1", sku="SKU-1", quantity=Decimal(10)),
        PickedLine(order_id="PO-77", line_id="2", sku="SKU-2", quantity=Decimal(3), short=Decimal(1)),
    )
    assert [(line.line_id, int(line.quantity), line.unit) for line in dispatched.lines] == [
        ("1", 10, "EA"),
        ("2", 3, "CS"),
    ]


def test_line_of_which_nothing_shipped_is_short_and_not_dispatched() -> None:
    text = WAREHOUSE_945.replace("W12*CP*4*3*1", "W12*DS*4*0*4")
    picked = of(ShipmentPicked, text)[0]
    assert [(int(line.quantity), int(line.short)) for line in picked.lines] == [(10, 0), (0, 4)]
    assert [line.line_id for line in of(ShipmentDispatched, text)[0].lines] == ["1"]


def test_where_nothing_shipped_at_all_there_is_no_dispatch_and_no_tracking() -> None:
    text = (
        WAREHOUSE_945.replace("*4*3*1*", "*4*0*4*")
        .replace("*10*10*0*", "*10*0*10*")
        .replace("MAN*GM", "REF*GM")
    )
    assert [type(fact) for fact in facts("945", text)] == [ShipmentPicked]


def test_partial_advice_without_ordered_quantities_has_no_shorts() -> None:
    text = WAREHOUSE_945.replace("W06*F", "W06*P").replace("W12*CP*4*3*1", "W12*CP**3*")
    assert [line.short for line in of(ShipmentPicked, text)[0].lines] == [0, 0]


def test_shipping_more_than_ordered_is_no_negative_short() -> None:
    assert of(ShipmentPicked, WAREHOUSE_945.replace("*4*3*1*", "*4*6*2*"))[0].lines[1].short == 0


def test_substitution_ships_the_other_sku_on_the_original_line() -> None:
    """W12, semantic note: with IS in W1201, "W1216, W1217 and W1218 refer to the original item ordered"."""
    (substituted,) = of(ShipmentSubstituted, SUBSTITUTED)
    assert (substituted.order_id, substituted.line_id) == ("PO-77", "2")
    assert (substituted.original_sku, substituted.substitute_sku) == ("SKU-2", "SKU-9")
    assert (int(substituted.quantity), substituted.reason) == (4, "18")
    (dispatched,) = of(ShipmentDispatched, SUBSTITUTED)
    assert [(line.line_id, line.sku) for line in dispatched.lines] == [("1", "SKU-1"), ("2", "SKU-9")]
    (picked,) = of(ShipmentPicked, SUBSTITUTED)
    assert [(line.sku, int(line.short)) for line in picked.lines] == [("SKU-1", 0), ("SKU-9", 0)]


def test_substitution_must_name_what_was_ordered() -> None:
    with pytest.raises(RejectedMessage, match=r"W12\[2\]: .*no product id"):
        facts("945", WAREHOUSE_945.replace("W12*CP", "W12*IS"))


def test_second_product_of_a_plain_line_is_no_substitution() -> None:
    assert of(ShipmentSubstituted, SUBSTITUTED.replace("W12*IS", "W12*CC")) == []


def test_lots_of_one_order_line_are_added_up() -> None:
    text = WAREHOUSE_945.replace("*1*CA**", "*1*EA**").replace(
        "W03*13", "N9*LI*1\nLX*3\nW12*CC*5*5**EA**VN*SKU-2\nN9*LI*1\nW03*18"
    )
    lines = of(ShipmentDispatched, text)[0].lines
    assert [(line.line_id, line.sku, int(line.quantity)) for line in lines] == [
        ("1", "SKU-1", 10),
        ("1", "SKU-2", 8),
    ]
    assert [line.short for line in of(ShipmentPicked, text)[0].lines] == [0, 1]


@pytest.mark.parametrize(
    ("sound", "broken", "told"),
    [
        ("W03*13", "N9*LI*1", "line 1 of PO-77"),
        ("VN*SKU-2", "VN*SKU-1", "SKU-1"),
    ],
)
def test_what_shipped_in_two_units_is_not_added(sound: str, broken: str, told: str) -> None:
    """Neither for the line of the order nor, under two lines, for the shelf."""
    with pytest.raises(RejectedMessage) as refused:
        facts("945", WAREHOUSE_945.replace(sound, broken))
    assert refused.value.field == "W12[2].05"
    assert f"CA, where {told} was told in EA" in refused.value.reason


def test_carton_holds_the_lines_of_its_loop() -> None:
    (packed,) = of(ShipmentPacked)
    (carton,) = packed.packages
    assert (carton.sscc, [line.sku for line in carton.lines]) == (SSCC, ["SKU-1"])


def test_freight_of_g72_504_has_two_implied_decimals_unless_a_point_is_written() -> None:
    (dispatched,) = of(ShipmentDispatched)
    assert (dispatched.freight_cost, dispatched.freight_currency) == (Decimal("12.5"), "USD")
    pointed = WAREHOUSE_945.replace("******1250", "******12.5000\nG72*999*06******2000")
    assert of(ShipmentDispatched, pointed)[0].freight_cost == Decimal("12.5")
    assert of(ShipmentDispatched, WAREHOUSE_945.replace("G72*504", "G72*503"))[0].freight_cost is None


@pytest.mark.parametrize(
    ("sound", "other", "at"),
    [
        ("", "", (2026, 3, 2, 14, 15)),
        ("G62*11*20260302*8*1415\n", "", (2026, 3, 2, 15, 0)),
        ("*8*1415", "*8*1415*CT", (2026, 3, 2, 20, 15)),
        ("*8*1415", "*8**CT", (2026, 3, 2, 15, 0)),
        ("PO-77*20260302", "PO-77*20260301", (2026, 3, 1, 23, 59, 59)),
        ("PO-77*20260302", "PO-77*", (2026, 3, 2, 15, 0)),
    ],
)
def test_it_left_on_w0603_at_the_time_that_is_known(sound: str, other: str, at: tuple[int, ...]) -> None:
    events = translated(message("945", WAREHOUSE_945.replace(sound, other)))
    assert {event.time for event in events} == {datetime(*at, tzinfo=UTC)}


def test_shipment_without_a_number_is_named_like_its_order() -> None:
    events = translated(message("945", WAREHOUSE_945.replace("*20260302*SHP-7", "*20260302")))
    assert str(events[0].subject) == "shipment/PO-77"


def test_tracking_numbers_of_header_and_cartons_are_told_once_each() -> None:
    text = WAREHOUSE_945.replace("LX*2", "N9*CN*1Z999AA10123456784\nLX*2\nMAN*CP*1Z2")
    assert of(ShipmentDispatched, text)[0].tracking_numbers == ("1Z999AA10123456784", "1Z2")


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("W06*F", "W05*F", "W06", "missing"),
        ("W06*F", "W06*X", "W0601", "says 'X'; read are F, J, N, P"),
        ("W06*F*PO-77", "W06*F*", "W0602", "missing"),
        ("*20260302*SHP-7", "*20261302*SHP-7", "W0603", "expected a date"),
        ("*8*1415", "*8*1415*XX", "G62[1].05", "says 'XX'"),
        ("W12*CP*4*3*", "W12*CP*4**", "W12[2].03", "missing"),
        ("W12*CP*4*3*", "W12*CP*four*3*", "W12[2].02", "expected a number, got 'four'"),
        ("******1250", "******much", "G72[1].08", "expected a number, got 'much'"),
        ("W27*M*UPSN*Ground\n", "", "W27", "tracking numbers need a carrier"),
        ("MAN*GM*00", "MAN*GM*01", "MAN[1].02", "SSCC"),
    ],
)
def test_what_cannot_be_read_is_named_by_segment_and_element(
    sound: str, broken: str, field: str, reason: str
) -> None:
    assert sound in WAREHOUSE_945
    with pytest.raises(RejectedMessage) as refused:
        facts("945", WAREHOUSE_945.replace(sound, broken, 1))
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_advice_without_items_or_location_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"W12: .*missing"):
        facts("945", "W06*N*PO-77*20260302")
    with pytest.raises(RejectedMessage, match=r"N1: .*no N1\*WH"):
        facts("945", WAREHOUSE_945.replace("N1*WH", "N1*CN"), replace(CONNECTION, settings={}))


def test_sums_beyond_any_warehouse_are_refused_not_crashed_on() -> None:
    huge = WAREHOUSE_945.replace("*10*10*0*", "*999999999999*999999999999*0*")
    lots = huge.replace("LX*2", "LX*9\nW12*CC*9*9*0*EA**VN*SKU-1\nN9*LI*1\nLX*2")
    with pytest.raises(RejectedMessage, match="set 1230001: quantity: "):
        facts("945", lots)
