"""850 Purchase Order: what the buyer orders, changes and cancels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import available_timezones

import pytest

from canonical.errors import RejectedMessage
from canonical.facts.order import OrderAmended, OrderCancelled, OrderLine, OrderPlaced
from tests.unit.test_x12_partner import (
    CONNECTION,
    ORDER_850,
    SAMPLES,
    facts,
    message,
    needs_samples,
    translated,
)


def placed(text: str = ORDER_850) -> OrderPlaced:
    (fact,) = facts("850", text)
    assert isinstance(fact, OrderPlaced)
    return fact


def test_original_order_is_placed() -> None:
    (event,) = translated(message("850"))
    assert str(event.subject) == "order/PO-77"
    assert event.source == "/x12/acme"
    fact = placed()
    assert (fact.customer_id, fact.currency, fact.reference, fact.company) == (
        "CUST-9",
        "USD",
        "PO-77",
        "main",
    )
    assert fact.lines == (
        OrderLine(
            line_id="1", sku="SKU-1", quantity=Decimal(10), unit_price=Decimal(20), title="Blue widget"
        ),
        OrderLine(line_id="2", sku="SKU-2", quantity=Decimal(4), unit="CS", unit_price=Decimal("7.5")),
    )


def test_delivery_requested_is_the_promise_until_the_end_of_its_day() -> None:
    assert placed().promised_by == datetime(2026, 3, 10, 23, 59, 59, tzinfo=UTC)
    timed = ORDER_850.replace("DTM*002*20260310", "DTM*002*20260310*1200*PD")
    assert placed(timed).promised_by == datetime(2026, 3, 10, 19, tzinfo=UTC)
    without = ORDER_850.replace("DTM*002*20260310\n", "")
    assert placed(without).promised_by == datetime(2026, 3, 5, 12, tzinfo=UTC)


@needs_samples
def test_sample_order_of_a_retailer() -> None:
    (event,) = translated((SAMPLES / "850.edi").read_bytes())
    assert str(event.subject) == "order/08292233294"
    assert event.time == datetime(2010, 11, 27, 17, 19, tzinfo=UTC)
    fact = event.fact
    assert isinstance(fact, OrderPlaced)
    assert fact.customer_id == "0003947268292"
    assert [line.sku for line in fact.lines] == ["AB3542", "RD5322", "XY5266", "VX2332", "RV0524", "DX1875"]
    assert fact.promised_by is not None
    assert fact.promised_by.date().isoformat() == "2010-12-14"
    assert sum(line.quantity * line.unit_price for line in fact.lines) == Decimal("13045.94")
    """AMT*1 of the file says so too."""


# --- when ------------------------------------------------------------------------------------------------


def test_order_of_an_earlier_day_is_placed_at_its_midnight() -> None:
    (event,) = translated(message("850"))
    assert event.time == datetime(2026, 3, 1, tzinfo=UTC)


def test_order_sent_on_its_own_day_has_the_time_it_was_sent() -> None:
    (event,) = translated(message("850", sent=("20260301", "0815")))
    assert event.time == datetime(2026, 3, 1, 8, 15, tzinfo=UTC)


@pytest.mark.skipif(not available_timezones(), reason="this machine has no time zone database")
def test_partner_may_live_in_another_zone() -> None:
    west = replace(CONNECTION, settings={"timezone": "America/Los_Angeles"})
    (event,) = translated(message("850"), west)
    assert event.time == datetime(2026, 3, 1, 8, tzinfo=UTC)
    with pytest.raises(RejectedMessage, match="set 1230001: 'Mars/Olympus' is no IANA time zone"):
        translated(message("850"), replace(CONNECTION, settings={"timezone": "Mars/Olympus"}))


def test_two_digit_years_turn_at_seventy() -> None:
    (event,) = translated(message("850", ORDER_850.replace("**20260301", "**260301")))
    assert event.time == datetime(2026, 3, 1, tzinfo=UTC)
    (event,) = translated(message("850", ORDER_850.replace("**20260301", "**991231")))
    assert event.time == datetime(1999, 12, 31, tzinfo=UTC)


# --- purpose ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["07", "15"])
def test_duplicate_of_an_order_is_the_same_event(purpose: str) -> None:
    again = message("850", ORDER_850.replace("BEG*00", f"BEG*{purpose}"))
    assert translated(again) == translated(message("850"))


def test_cancellation_cancels_all_at_the_time_it_was_sent() -> None:
    (event,) = translated(message("850", "BEG*01*SA*PO-77**20260301"))
    assert event.fact == OrderCancelled(cancel_id="850/PO-77", reason="cancelled by the buyer")
    assert event.time == datetime(2026, 3, 2, 15, tzinfo=UTC)


def test_change_is_a_revision_by_release_number() -> None:
    (fact,) = facts("850", ORDER_850.replace("BEG*00*SA*PO-77**", "BEG*05*SA*PO-77*3*"))
    assert isinstance(fact, OrderAmended)
    assert fact.revision == 3
    assert [line.quantity for line in fact.lines] == [10, 4]


def test_change_without_a_release_number_is_the_revision_of_its_minute() -> None:
    (fact,) = facts("850", ORDER_850.replace("BEG*00", "BEG*04"))
    assert isinstance(fact, OrderAmended)
    assert fact.revision == 202603021500


def test_purpose_that_is_no_order_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"BEG01: set 1230001: says '22'; read are 00"):
        facts("850", ORDER_850.replace("BEG*00", "BEG*22"))


@pytest.mark.parametrize("purpose", ["00", "01", "04"])
@pytest.mark.parametrize("kind", ["BD", "BE", "BQ", "IN"])
def test_estimates_quotes_and_information_copies_are_no_orders(kind: str, purpose: str) -> None:
    text = ORDER_850.replace("BEG*00*SA", f"BEG*{purpose}*{kind}")
    with pytest.raises(RejectedMessage) as refused:
        facts("850", text)
    assert refused.value.field == "BEG02"
    assert f"says '{kind}', " in refused.value.reason
    assert "the setting order_types" in refused.value.reason
    (fact,) = facts("850", text, replace(CONNECTION, settings={"order_types": f"XX, {kind}"}))
    assert isinstance(fact, OrderPlaced | OrderAmended | OrderCancelled)


# --- identity --------------------------------------------------------------------------------------------


RELEASE = ORDER_850.replace("BEG*00*SA*PO-77**", "BEG*00*RL*PO-77*3*")


@pytest.mark.parametrize("purpose", ["00", "01", "05", "06"])
def test_release_of_a_blanket_order_is_an_order_of_its_own(purpose: str) -> None:
    (event,) = translated(message("850", RELEASE.replace("BEG*00", f"BEG*{purpose}")))
    assert str(event.subject) == "order/PO-77:3"
    assert event.id.startswith("850/PO-77:3/")
    if isinstance(event.fact, OrderPlaced):
        assert event.fact.reference == "PO-77"


@pytest.mark.parametrize("kind", ["RL", "CR"])
def test_change_of_a_release_is_the_revision_of_its_minute(kind: str) -> None:
    (event,) = translated(message("850", RELEASE.replace("BEG*00*RL", f"BEG*05*{kind}")))
    assert str(event.subject) == "order/PO-77:3"
    assert isinstance(event.fact, OrderAmended)
    assert event.fact.revision == 202603021500


@pytest.mark.parametrize(
    ("text", "releases", "order"),
    [
        (RELEASE.replace("*PO-77*3*", "*PO-77**"), "RL", "PO-77"),
        (RELEASE, "", "PO-77"),
        (RELEASE.replace("*RL*", "*SA*"), "RL", "PO-77"),
        (RELEASE.replace("*RL*", "*SA*"), "RL, SA", "PO-77:3"),
    ],
)
def test_which_orders_are_releases_can_be_set(text: str, releases: str, order: str) -> None:
    (event,) = translated(message("850", text), replace(CONNECTION, settings={"releases": releases}))
    assert str(event.subject) == f"order/{order}"


def test_number_and_release_that_make_too_long_an_id_are_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"BEG03: .*identifier of 1 to 128"):
        facts("850", RELEASE.replace("*PO-77*3*", f"*{'7' * 100}*{'3' * 30}*"))


def test_same_order_under_other_control_numbers_is_the_same_event() -> None:
    again = message("850", control="000000999")
    assert again != message("850")
    assert translated(again) == translated(message("850"))


def test_corrected_order_is_another_event_of_the_same_twin() -> None:
    (first,) = translated(message("850"))
    (other,) = translated(message("850", ORDER_850.replace("*10*EA", "*11*EA")))
    assert first.subject == other.subject
    assert first.id != other.id
    assert first.id.startswith("850/PO-77/order.placed/")


# --- products --------------------------------------------------------------------------------------------


def test_sku_is_the_best_qualifier_whatever_its_place() -> None:
    assert placed().lines[1].sku == "SKU-2"


def test_sku_qualifiers_can_be_set_and_then_nothing_else_counts() -> None:
    upc = replace(CONNECTION, settings={"sku_qualifiers": "UP, EN"})
    with pytest.raises(RejectedMessage, match=r"PO1\[1\]: .*no product id with qualifier UP, EN; it has VN"):
        facts("850", connection=upc)
    both = ORDER_850.replace("VN*SKU-1", "VN*SKU-1*EN*5012345678900")
    (fact,) = facts("850", both, upc)
    assert isinstance(fact, OrderPlaced)
    assert [line.sku for line in fact.lines] == ["5012345678900", "012345678905"]


def test_process_number_is_no_sku() -> None:
    with pytest.raises(RejectedMessage, match="it has PR"):
        facts("850", ORDER_850.replace("**VN*SKU-1", "**PR*RO"))


# --- money -----------------------------------------------------------------------------------------------


def test_freight_tax_and_discount_of_the_order_are_divided_without_loss() -> None:
    """Lines are worth 200.00 and 30.00: 17.25 of tax and 1.00 of discount split 200 : 30."""
    text = ORDER_850.replace("CTT*2", "CTT*2\nSAC*C*D240***750\nSAC*A*C310***100\nTXI*ST*17.25")
    fact = placed(text)
    assert fact.freight == Decimal("7.5")
    assert [line.tax for line in fact.lines] == [Decimal(15), Decimal("2.25")]
    assert [line.discount for line in fact.lines] == [Decimal("0.87"), Decimal("0.13")]


def test_allowances_charges_and_taxes_of_a_line_stay_with_it() -> None:
    text = ORDER_850.replace(
        "PID*F****Blue widget", "SAC*A*C310***500\nSAC*C*G860***120\nSAC*C*H750***33\nTXI*LS*1.67"
    )
    fact = placed(text)
    assert (fact.lines[0].discount, fact.lines[0].tax) == (Decimal("3.8"), Decimal(2))
    assert not any((fact.lines[1].discount, fact.lines[1].tax, fact.freight))


def test_tax_as_a_percentage_alone_is_refused_an_exemption_is_no_tax() -> None:
    with pytest.raises(RejectedMessage, match=r"TXI\[1\].02: .*missing"):
        facts("850", ORDER_850 + "TXI*ST**8.25")
    assert placed(ORDER_850 + "TXI*ST****TX*0").lines[0].tax == 0


@pytest.mark.parametrize(
    ("price", "each"),
    [
        ("*20*", "20"),
        ("*20*HP", "0.2"),
        ("*20*TP", "0.02"),
        ("**NC", "0"),
        ("*.5*PE", "0.5"),
        ("*20.*", "20"),
    ],
)
def test_price_is_per_unit_whatever_its_basis(price: str, each: str) -> None:
    assert placed(ORDER_850.replace("*20*", price)).lines[0].unit_price == Decimal(each)


def test_price_may_stand_in_ctp_but_not_the_retail_price() -> None:
    bare = ORDER_850.replace("*EA*20**", "*EA***")
    told = bare.replace("PID*F****Blue widget", "CTP**RES*39.99\nCTP**UCP*19.5")
    assert placed(told).lines[0].unit_price == Decimal("19.5")
    with pytest.raises(RejectedMessage, match=r"PO1\[1\].04: .*missing, and no CTP"):
        facts("850", bare.replace("PID*F****Blue widget", "CTP**RES*39.99"))


def test_price_per_dozen_of_what_is_not_counted_in_dozens_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"PO1\[1\].05: .*price per dozen"):
        facts("850", ORDER_850.replace("*EA*20**", "*EA*20*PD*"))


# --- strictness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("BEG*00", "REF*00", "BEG", "missing"),
        ("*PO-77**20260301", "***20260301", "BEG03", "missing"),
        ("**20260301", "**20260230", "BEG05", "expected a date CCYYMMDD, got '20260230'"),
        ("**20260301", "**²0260301", "BEG05", "expected a date CCYYMMDD, got '²0260301'"),
        ("PO1*2*4*", "PO1*2*1e3*", "PO1[2].02", "expected a number, got '1e3'"),
        ("PO1*2*4*", "PO1*2*-4*", "PO1[2].02", "expected a quantity, got -4"),
        ("PO1*2*4*", "PO1*2*٤*", "PO1[2].02", "expected a number, got '٤'"),
        ("PO1*2*4*", "PO1*2*2000000000000*", "PO1[2].02", f"Input should be less than or equal to {10**12}"),
        ("*CA*7.5*", "*CA*free*", "PO1[2].04", "expected a number, got 'free'"),
        ("PO1*2*", "PO1*1*", "BEG", "Value error, line '1' appears twice"),
        ("CUR*BY*USD", "CUR*BY*XXQ", "BEG", "currency: Value error, 'XXQ' is not a currency of ISO 4217"),
        ("DTM*002*20260310", "DTM*002*soon", "DTM[2].02", "expected a date CCYYMMDD, got 'soon'"),
        ("DTM*002*20260310", "DTM*002*20260310*2561", "DTM[2].03", "expected a time HHMM, got '2561'"),
        ("*SA*PO-77", "*SA*" + "7" * 129, "BEG03", "expected an identifier of 1 to 128 printable characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_segment_and_element(
    sound: str, broken: str, field: str, reason: str
) -> None:
    assert sound in ORDER_850
    with pytest.raises(RejectedMessage) as refused:
        facts("850", ORDER_850.replace(sound, broken, 1))
    assert refused.value.field == field
    assert refused.value.reason == f"set 1230001: {reason}"


def test_order_without_lines_is_refused() -> None:
    with pytest.raises(RejectedMessage, match="PO1: set 1230001: missing"):
        facts("850", "BEG*00*SA*PO-77**20260301")
