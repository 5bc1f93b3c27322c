"""940 Warehouse Shipping Order: released to a warehouse, or asked back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from canonical.errors import RejectedMessage
from canonical.facts.order import CancelledLine, OrderCancelRequested, OrderReleased
from canonical.facts.shipment import ShipmentCreated
from tests.unit.test_x12_partner import (
    CONNECTION,
    SAMPLES,
    WAREHOUSE_940,
    facts,
    message,
    needs_samples,
    translated,
)


def test_original_order_is_released_and_its_shipment_created() -> None:
    released, created = translated(message("940"))
    assert (str(released.subject), str(created.subject)) == ("order/PO-77", "shipment/SHP-7")
    assert released.time == created.time == datetime(2026, 3, 2, 15, tzinfo=UTC)
    assert isinstance(released.fact, OrderReleased)
    assert (released.fact.release_id, released.fact.location) == ("SHP-7", "WH-EAST")
    assert [(line.line_id, int(line.quantity)) for line in released.fact.lines] == [("1", 10), ("2", 4)]
    assert isinstance(created.fact, ShipmentCreated)
    assert [(line.sku, line.unit) for line in created.fact.lines] == [("SKU-1", "EA"), ("SKU-2", "CS")]


def test_without_a_master_reference_the_shipment_is_named_like_its_order() -> None:
    _, created = translated(message("940", WAREHOUSE_940.replace("**SHP-7", "")))
    assert str(created.subject) == "shipment/PO-77"


def test_case_code_is_a_product_id_without_a_qualifier() -> None:
    _, created = facts("940", WAREHOUSE_940.replace("**VN*SKU-1", "*000100000010"))
    assert isinstance(created, ShipmentCreated)
    assert created.lines[0].sku == "000100000010"


def test_lots_of_one_order_line_are_released_together() -> None:
    lots = WAREHOUSE_940.replace("W01*4*CA", "W01*4*EA").replace("W76", "N9*LI*1\nW76")
    released, created = facts("940", lots)
    assert isinstance(released, OrderReleased)
    assert isinstance(created, ShipmentCreated)
    assert [(line.line_id, int(line.quantity)) for line in released.lines] == [("1", 14)]
    assert [line.sku for line in created.lines] == ["SKU-1", "SKU-2"]


@pytest.mark.parametrize("status", ["N", "F"])
def test_lots_of_one_order_line_in_two_units_are_refused(status: str) -> None:
    text = WAREHOUSE_940.replace("W05*N", f"W05*{status}").replace("W76", "N9*LI*1\nW76")
    with pytest.raises(RejectedMessage) as refused:
        facts("940", text)
    assert refused.value.field == "W01[2].02"
    assert "CA, where line 1 of PO-77 was told in EA" in refused.value.reason


def test_cancel_asks_the_warehouse_for_the_lines_it_names() -> None:
    (fact,) = facts("940", WAREHOUSE_940.replace("W05*N", "W05*F"))
    lines = (
        CancelledLine(line_id="1", quantity=Decimal(10)),
        CancelledLine(line_id="2", quantity=Decimal(4)),
    )
    assert isinstance(fact, OrderCancelRequested)
    assert fact.lines == lines
    (again,) = facts("940", WAREHOUSE_940.replace("W05*N", "W05*F"))
    assert again == fact
    (other,) = facts("940", WAREHOUSE_940.replace("W05*N", "W05*F").replace("W01*10*", "W01*9*"))
    assert isinstance(other, OrderCancelRequested)
    assert other.request_id != fact.request_id, "one of its own, to be answered by itself"
    assert fact.request_id.startswith("940/SHP-7/")


def test_cancel_without_lines_asks_for_the_whole_order() -> None:
    (event,) = translated(message("940", "W05*F*PO-77"))
    assert event.fact == OrderCancelRequested(request_id="940/PO-77")
    assert str(event.subject) == "order/PO-77"


@needs_samples
def test_sample_order_terminated_by_line_feeds() -> None:
    released, created = translated((SAMPLES / "940.edi").read_bytes())
    assert isinstance(released.fact, OrderReleased)
    assert isinstance(created.fact, ShipmentCreated)
    assert str(released.subject) == "order/538686"
    assert released.time == datetime(2000, 1, 28, 5, 57, tzinfo=UTC)
    assert released.fact.location == "0000000000140"
    assert [(line.line_id, line.sku, int(line.quantity), line.unit) for line in created.fact.lines] == [
        ("1", "000100", 12, "CS"),
        ("2", "000200", 32, "CS"),
        ("3", "000300", 12, "CS"),
    ]


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("W05*N", "W06*N", "W05", "missing"),
        ("W05*N", "W05*A", "W0501", "says 'A'; read are B, D, F, L, N, R, S, T"),
        ("W05*N*PO-77", "W05*N*", "W0502", "missing"),
        ("W01*10*", "W01**", "W01[1].01", "missing"),
        ("W01*10*", "W01*1.2345678*", "W01[1].01", "Decimal input should have no more than 6 decimal places"),
        ("W01*10*EA**VN*SKU-1", "W01*10*EA", "W01[1]", "no product id with qualifier"),
        ("LX*2", "LX", "LX[2].01", "missing"),
    ],
)
def test_what_cannot_be_read_is_named_by_segment_and_element(
    sound: str, broken: str, field: str, reason: str
) -> None:
    assert sound in WAREHOUSE_940
    with pytest.raises(RejectedMessage) as refused:
        facts("940", WAREHOUSE_940.replace(sound, broken, 1))
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_order_for_no_warehouse_or_of_nothing_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"N1: .*no N1\*WH or N1\*SF"):
        facts("940", WAREHOUSE_940.replace("N1*WH", "N1*ST"), replace(CONNECTION, settings={}))
    with pytest.raises(RejectedMessage, match=r"W01: .*missing"):
        facts("940", "W05*N*PO-77")


def test_dates_of_the_group_are_read_strictly() -> None:
    with pytest.raises(RejectedMessage, match=r"GS05: .*expected a time"):
        translated(message("940", sent=("20260302", "9999")))
