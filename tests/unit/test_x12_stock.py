"""846 counts, 944 receipts, and the freight that an 810 bills."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal

import pytest

from canonical.errors import RejectedMessage
from canonical.facts.stock import StockCounted, StockReceived, StockStatus
from canonical.facts.tracking import CarrierBilled
from tests.unit.test_x12_partner import (
    CONNECTION,
    INVOICE_810,
    RECEIPT_944,
    STOCK_846,
    facts,
    message,
    translated,
)


def test_inventory_advice_counts_each_sku_on_hand() -> None:
    events = translated(message("846"))
    assert [(str(event.subject), event.fact) for event in events] == [
        ("stock/SKU-1@WH-EAST", StockCounted(count_id="INV-9/20260303T060000", quantity=Decimal(90))),
        ("stock/SKU-2@WH-EAST", StockCounted(count_id="INV-9/20260303T060000", quantity=Decimal(3))),
    ]
    assert {event.time for event in events} == {datetime(2026, 3, 3, 6, tzinfo=UTC)}


def test_lots_are_one_count_and_lines_may_name_their_own_warehouse() -> None:
    text = STOCK_846 + "LIN*3*VN*SKU-1\nQTY*17*5\nLIN*4*VN*SKU-1\nQTY*17*7\nN1*WH*West*92*WH-WEST"
    counted = {str(event.subject): event.fact for event in translated(message("846", text))}
    quantities = {twin: fact.quantity for twin, fact in counted.items() if isinstance(fact, StockCounted)}
    assert quantities == {"stock/SKU-1@WH-EAST": 95, "stock/SKU-2@WH-EAST": 3, "stock/SKU-1@WH-WEST": 7}


def test_available_is_not_on_hand_unless_the_connection_says_so() -> None:
    text = STOCK_846.replace("QTY*17*3*CA\n", "")
    with pytest.raises(RejectedMessage, match=r"LIN\[2\]: .*no QTY with qualifier 17"):
        facts("846", text)
    lenient = replace(CONNECTION, settings={"count_qualifiers": "17, 33"})
    assert isinstance(facts("846", text, lenient)[1], StockCounted)


def test_every_quantity_on_hand_of_a_line_is_counted() -> None:
    text = STOCK_846.replace("QTY*17*90*EA", "QTY*17*90*EA\nQTY*33*70*EA\nQTY*17*5*EA")
    assert facts("846", text)[0] == StockCounted(count_id="INV-9/20260303T060000", quantity=Decimal(95))


def test_quantities_of_a_line_that_names_two_warehouses_are_refused() -> None:
    west, east = "N1*WH*West*92*WH-WEST\nQTY*17*7*EA", "N1*WH*East*92*WH-EAST\nQTY*17*90*EA"
    text = STOCK_846.replace("QTY*17*90*EA", f"{west}\n{east}")
    with pytest.raises(RejectedMessage, match=r"N1\[3\]: .*second warehouse"):
        facts("846", text)


@pytest.mark.parametrize(
    ("set_id", "sound", "broken", "field", "what"),
    [
        ("846", "QTY*17*90*EA", "QTY*17*90*EA\nQTY*17*5*CA", "QTY[2].03", "SKU-1 at WH-EAST"),
        ("846", "LIN*2*VN*SKU-2", "LIN*2*VN*SKU-1", "QTY[2].03", "SKU-1 at WH-EAST"),
        ("944", "W07*50*EA", "W07*50*CA", "W07[2].02", "SKU-1"),
        ("944", "W13*4*EA", "W13*4*CA", "W13[1].02", "SKU-1"),
    ],
)
def test_quantities_in_two_units_are_not_added(
    set_id: str, sound: str, broken: str, field: str, what: str
) -> None:
    text = {"944": RECEIPT_944, "846": STOCK_846}[set_id]
    assert sound in text
    with pytest.raises(RejectedMessage) as refused:
        facts(set_id, text.replace(sound, broken, 1))
    assert refused.value.field == field
    told = f"CA, where {what} was told in EA: the sender must tell both in one unit"
    assert refused.value.reason == f"set 1230001: {told}"


def test_damaged_goods_without_a_unit_are_in_that_of_the_receipt() -> None:
    text = RECEIPT_944.replace("*EA*", "*CA*").replace("W13*4*CA", "W13*4*")
    assert [fact.quantity for fact in facts("944", text) if isinstance(fact, StockReceived)] == [146, 4]


def test_receipt_adds_up_and_sets_the_damaged_apart() -> None:
    events = translated(message("944"))
    assert {str(event.subject) for event in events} == {"stock/SKU-1@WH-EAST"}
    assert [event.fact for event in events] == [
        StockReceived(receipt_id="RCV-1", quantity=Decimal(146)),
        StockReceived(receipt_id="RCV-1/damaged", quantity=Decimal(4), status=StockStatus.DAMAGED),
    ]


@pytest.mark.parametrize(
    ("set_id", "sound", "broken", "field"),
    [
        ("944", "W13*4*EA*01", "W13*4*EA*07", "W13[1].03"),
        ("944", "W13*4*EA", "W13*400*EA", "W07[1].01"),
        ("944", "W17*F*20260304*RCV-1*PO-5", "W17*F*20260304", "W1704"),
        ("944", "W07*100*EA**VN*SKU-1", "W07*many*EA**VN*SKU-1", "W07[1].01"),
        ("846", "BIA*00*DD*INV-9*20260303", "BIA*00*DD*INV-9*", "BIA04"),
        ("846", "BIA*00", "BIA*13", "BIA01"),
        ("846", "QTY*17*90", "QTY*17*", "QTY[1].02"),
        ("810", "BIG*20260305*INV-3", "BIG*20260305*", "BIG02"),
        ("810", "SAC*C*D240***1301", "SAC*C*D240***x", "SAC[1].05"),
    ],
)
def test_what_cannot_be_read_is_named_by_segment_and_element(
    set_id: str, sound: str, broken: str, field: str
) -> None:
    text = {"944": RECEIPT_944, "846": STOCK_846, "810": INVOICE_810}[set_id]
    assert sound in text
    with pytest.raises(RejectedMessage) as refused:
        facts(set_id, text.replace(sound, broken, 1))
    assert refused.value.field == field


def test_freight_of_an_invoice_is_billed_to_its_tracking_numbers_to_the_cent() -> None:
    events = translated(message("810"))
    assert [(str(event.subject), event.fact) for event in events] == [
        (
            "tracking/upsn:1Z999AA10123456784",
            CarrierBilled(bill_id="INV-3", amount=Decimal("6.51"), currency="USD"),
        ),
        (
            "tracking/upsn:1Z999AA10123456785",
            CarrierBilled(bill_id="INV-3", amount=Decimal("6.5"), currency="USD"),
        ),
    ]


@pytest.mark.parametrize("left_out", ["CAD*M***UPSN\n", "SAC*C*D240***1301\n"])
def test_invoice_without_carrier_or_freight_bills_nothing(left_out: str) -> None:
    assert facts("810", INVOICE_810.replace(left_out, "")) == []


@pytest.mark.parametrize(
    ("told", "field"),
    [*((f"INV-3*****{code}", "BIG07") for code in ("CE", "CG", "CN", "CR")), ("INV-3******01", "BIG08")],
)
def test_freight_that_is_credited_or_cancelled_is_no_bill(told: str, field: str) -> None:
    with pytest.raises(RejectedMessage) as refused:
        facts("810", INVOICE_810.replace("INV-3", told))
    assert refused.value.field == field


@pytest.mark.parametrize("told", ["INV-3*****DI", "INV-3*****PR*00", "INV-3******07"])
def test_other_kinds_of_invoice_are_bills(told: str) -> None:
    assert facts("810", INVOICE_810.replace("INV-3", told)) == facts("810")


def test_credit_memo_for_goods_says_nothing_as_their_invoice_does() -> None:
    text = INVOICE_810.replace("INV-3", "INV-3*****CR").replace("SAC*C*D240***1301\n", "")
    assert facts("810", text) == []


@pytest.mark.parametrize("code", ["A", "B", "C", "K", "O", "S", "X"])
def test_a_report_of_no_goods_that_came_is_refused(code: str) -> None:
    with pytest.raises(RejectedMessage) as refused:
        facts("944", RECEIPT_944.replace("W17*F", f"W17*{code}"))
    assert "W17" in str(refused.value)


def test_a_receipt_came_when_it_says() -> None:
    told = RECEIPT_944.replace("*RCV-1*PO-5", "*RCV-1*PO-5**8*0930")
    assert {event.time.time() for event in translated(message("944", told))} == {time(9, 30)}
