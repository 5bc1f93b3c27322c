"""856 Ship Notice: the hierarchy is what the parent pointers say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from canonical.errors import RejectedMessage
from canonical.facts.shipment import ShipmentDispatched, ShipmentPacked, ShipmentVoided
from canonical.facts.tracking import TrackingRegistered
from tests.unit.test_x12_partner import (
    CONNECTION,
    SAMPLES,
    SHIPMENT_856,
    SSCC,
    facts,
    message,
    needs_samples,
    translated,
)


def dispatched(text: str = SHIPMENT_856) -> ShipmentDispatched:
    (fact,) = (fact for fact in facts("856", text) if isinstance(fact, ShipmentDispatched))
    return fact


def goods(fact: ShipmentDispatched) -> list[tuple[str, str, str, int, str]]:
    return [(line.order_id, line.line_id, line.sku, int(line.quantity), line.unit) for line in fact.lines]


def test_ship_notice_packs_dispatches_and_binds_its_tracking_number() -> None:
    events = translated(message("856"))
    assert [str(event.subject) for event in events] == [
        "shipment/SHP-7",
        "shipment/SHP-7",
        "tracking/upsn:1Z999AA10123456784",
    ]
    fact = dispatched()
    assert goods(fact) == [("PO-77", "1", "SKU-1", 6, "EA"), ("PO-77", "2", "SKU-2", 4, "CS")]
    assert (fact.location, fact.carrier, fact.service) == ("WH-EAST", "upsn", "GROUND")
    assert fact.tracking_numbers == ("1Z999AA10123456784",)
    assert events[2].fact == TrackingRegistered(shipment_id="SHP-7")


def test_items_are_in_the_nearest_package_above_them() -> None:
    packed = facts("856")[0]
    assert isinstance(packed, ShipmentPacked)
    pallet, carton = packed.packages
    assert (pallet.package_id, pallet.sscc, pallet.tracking_number) == (SSCC, SSCC, None)
    assert [line.sku for line in pallet.lines] == ["SKU-2"]
    assert (carton.package_id, carton.sscc) == ("1Z999AA10123456784", None)
    assert [line.sku for line in carton.lines] == ["SKU-1"]


@pytest.mark.parametrize(
    "marks", [f"MAN*AA*{SSCC}*CP*1Z9", f"MAN*AA*{SSCC}**CP*1Z9", f"MAN*CP*1Z9\nMAN*GM*00{SSCC}"]
)
def test_sscc_and_carrier_number_of_one_carton_are_one_package(marks: str) -> None:
    text = SHIPMENT_856.replace("MAN*CP*1Z999AA10123456784", marks.replace(f"{SSCC}*CP", f"{SSCC}**CP"))
    packed = facts("856", text)[0]
    assert isinstance(packed, ShipmentPacked)
    assert [(one.sscc, one.tracking_number) for one in packed.packages] == [(SSCC, None), (SSCC, "1Z9")]


def test_several_cartons_in_one_loop_are_packages_of_unknown_content() -> None:
    text = SHIPMENT_856.replace("MAN*CP*1Z999AA10123456784", "MAN*CP*1Z1\nMAN*CP*1Z2")
    packed = facts("856", text)[0]
    assert isinstance(packed, ShipmentPacked)
    assert [(one.package_id, one.lines) for one in packed.packages[1:]] == [("1Z1", ()), ("1Z2", ())]
    assert dispatched(text).tracking_numbers == ("1Z1", "1Z2")


def test_loops_may_stand_in_any_order() -> None:
    """Children before their parents, orders interleaved: only HL02 counts."""
    text = """
BSN*00*SHP-8*20260302*0930*0004
HL*7*5*I
LIN*1*VN*A
SN1**1*EA
HL*2*9*O
PRF*PO-2
HL*4*2*I
LIN**VN*B
SN1**2*EA
HL*5*9*O
PRF*PO-1
HL*3*2*I
LIN**VN*C
SN1**3*EA
HL*9**S
N1*SF*DC*92*WH
"""
    assert goods(dispatched(text)) == [
        ("PO-1", "1", "A", 1, "EA"),
        ("PO-2", "1", "B", 2, "EA"),
        ("PO-2", "2", "C", 3, "EA"),
    ]


@pytest.mark.parametrize(
    ("prf", "releases", "order"),
    [
        ("PRF*PO-77*3", "RL", "PO-77:3"),
        ("PRF*PO-77*3*****RL", "RL", "PO-77:3"),
        ("PRF*PO-77******RL", "RL", "PO-77"),
        ("PRF*PO-77*3*****SA", "RL", "PO-77"),
        ("PRF*PO-77*3*****SA", "RL,SA", "PO-77:3"),
        ("PRF*PO-77*3", "", "PO-77"),
    ],
)
def test_order_is_the_release_of_a_blanket_order_where_one_is_named(
    prf: str, releases: str, order: str
) -> None:
    settings = {**CONNECTION.settings, "releases": releases}
    told = facts("856", SHIPMENT_856.replace("PRF*PO-77", prf), replace(CONNECTION, settings=settings))
    (fact,) = (fact for fact in told if isinstance(fact, ShipmentDispatched))
    assert {line.order_id for line in fact.lines} == {order}


@pytest.mark.parametrize(
    ("segments", "line"),
    [
        ("LIN*9*VN*SKU-1\nSN1*8*6*EA\nREF*LI*7", "7"),
        ("LIN*9*VN*SKU-1\nSN1*8*6*EA", "9"),
        ("LIN**VN*SKU-1\nSN1*8*6*EA", "8"),
        ("LIN**VN*SKU-1\nSN1**6*EA", "1"),
    ],
)
def test_line_is_the_reference_or_the_line_numbers_or_a_running_one(segments: str, line: str) -> None:
    text = SHIPMENT_856.replace("LIN*1*VN*SKU-1\nSN1**6*EA", segments)
    assert dispatched(text).lines[0].line_id == line


def test_cartons_of_one_line_are_added_up() -> None:
    text = SHIPMENT_856.replace("LIN*2*VN*SKU-2\nSN1**4*CA", "LIN*1*VN*SKU-1\nSN1**4*EA")
    assert goods(dispatched(text)) == [("PO-77", "1", "SKU-1", 10, "EA")]


@pytest.mark.parametrize(
    ("sound", "broken", "told"),
    [
        ("LIN*2*VN*SKU-2", "LIN*1*VN*SKU-2", "line 1 of PO-77"),
        ("LIN*2*VN*SKU-2", "LIN*2*VN*SKU-1", "SKU-1"),
    ],
)
def test_what_shipped_in_two_units_is_not_added(sound: str, broken: str, told: str) -> None:
    with pytest.raises(RejectedMessage) as refused:
        facts("856", SHIPMENT_856.replace(sound, broken))
    assert refused.value.field == "SN1[2].03"
    assert f"CA, where {told} was told in EA" in refused.value.reason


def test_cancelled_ship_notice_voids_the_shipment() -> None:
    (event,) = translated(message("856", "BSN*01*SHP-7*20260303*1000"))
    assert isinstance(event.fact, ShipmentVoided)
    assert (str(event.subject), event.time) == ("shipment/SHP-7", datetime(2026, 3, 3, 10, tzinfo=UTC))


@pytest.mark.parametrize(
    ("dtm", "at"),
    [
        ("DTM*011*20260302", (2026, 3, 2, 9, 30)),
        ("DTM*011*20260301", (2026, 3, 1, 0, 0)),
        ("DTM*011*20260301*1745", (2026, 3, 1, 17, 45)),
        ("DTM*017*20260309", (2026, 3, 2, 9, 30)),
        ("DTM*011*20260301*1745*UT", (2026, 3, 1, 17, 45)),
        ("DTM*011*20260301*1745*ET", (2026, 3, 1, 22, 45)),
        ("DTM*011*20260701*1745*ET", (2026, 7, 1, 21, 45)),
        ("DTM*011*20260301*1745*ES", (2026, 3, 1, 22, 45)),
        ("DTM*011*20260301*1745*LT", (2026, 3, 1, 17, 45)),
        ("DTM*011*20260302**ET", (2026, 3, 2, 9, 30)),
    ],
)
def test_it_left_when_dtm_011_says(dtm: str, at: tuple[int, int, int, int, int]) -> None:
    events = translated(message("856", SHIPMENT_856.replace("DTM*011*20260302", dtm)))
    assert {event.time for event in events} == {datetime(*at, tzinfo=UTC)}


def test_location_is_ours_for_their_id_or_their_name() -> None:
    ours = replace(CONNECTION, settings={"location.WH-EAST": "DC-02", "location.Warehouse": "DC-03"})
    named = SHIPMENT_856.replace("*92*WH-EAST", "")
    for text, location in ((SHIPMENT_856, "DC-02"), (named, "DC-03")):
        fact = next(one for one in facts("856", text, ours) if isinstance(one, ShipmentDispatched))
        assert fact.location == location
    assert dispatched(SHIPMENT_856.replace("N1*SF*", "N1*ST*")).location == "DC-01"
    with pytest.raises(RejectedMessage, match="a location has no '@'"):
        dispatched(SHIPMENT_856.replace("*92*WH-EAST", "*92*WH@EAST"))


def test_carrier_is_ours_for_their_scac_or_the_connections_own() -> None:
    ours = replace(CONNECTION, settings={"carrier.UPSN": "ups"})
    assert "tracking/ups:1Z999AA10123456784" in [str(one.subject) for one in translated(message("856"), ours)]
    unnamed = SHIPMENT_856.replace("TD5**2*UPSN*M*GROUND\n", "")
    only = replace(CONNECTION, settings={"carrier": "fedex"})
    assert "tracking/fedex:1Z999AA10123456784" in [
        str(one.subject) for one in translated(message("856", unnamed), only)
    ]
    with pytest.raises(RejectedMessage, match=r"TD5: .*tracking numbers need a carrier"):
        facts("856", unnamed)


@needs_samples
def test_sample_ship_notice() -> None:
    dispatch, registered = translated((SAMPLES / "856.edi").read_bytes())
    fact = dispatch.fact
    assert isinstance(fact, ShipmentDispatched)
    assert dispatch.time == datetime(2011, 12, 6, 14, 24, 28, tzinfo=UTC)
    assert str(dispatch.subject) == "shipment/829716"
    assert goods(fact) == [
        ("99999817", "1", "87787D", 24, "EA"),
        ("99999817", "2", "99887D", 6, "EA"),
    ]
    assert fact.location == "1 EDI SOURCE"
    assert fact.carrier == "xxxx"
    assert str(registered.subject) == "tracking/xxxx:5787970539"


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("BSN*00", "BSN*04", "BSN01", "says '04'"),
        ("BSN*00*SHP-7", "BSN*00*", "BSN02", "missing"),
        ("HL*4*3*P", "HL*3*3*P", "HL[4].01", "3 is taken by another HL"),
        ("HL*4*3*P", "HL*4*33*P", "HL[4].02", "there is no HL 33"),
        ("HL*3*2*T", "HL*3*4*T", "HL[3].02", "circle"),
        ("HL*5*4*I", "HL*5*1*I", "HL[5].02", "no order (HL03 = O) above this item"),
        ("PRF*PO-77", "REF*PO-77", "HL[2]", "no PRF names the order"),
        ("LIN*1*VN*SKU-1", "PID*F", "HL[5]", "no LIN in this item"),
        ("SN1**6*EA", "SN1**six*EA", "SN1[1].02", "expected a number, got 'six'"),
        ("SN1**6*EA", "PO4*6", "HL[5]", "no SN1 in this item"),
        ("LIN*1*VN*SKU-1", "LIN*1*PR*RO", "LIN[1]", "no product id"),
        (SSCC, SSCC[:-1] + "8", "MAN[1].02", "check digit"),
        ("DTM*011*20260302", "DTM*011*2026-03-02", "DTM[1].02", "expected a date"),
        ("DTM*011*20260302", "DTM*011*20260302*1745*XX", "DTM[1].04", "says 'XX'"),
        ("DTM*011*20260302", "DTM*011*19691231*1745*ET", "DTM[1].02", "before 1970"),
    ],
)
def test_what_cannot_be_read_is_named_by_segment_and_element(
    sound: str, broken: str, field: str, reason: str
) -> None:
    assert sound in SHIPMENT_856
    with pytest.raises(RejectedMessage) as refused:
        facts("856", SHIPMENT_856.replace(sound, broken, 1))
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_nothing_shipped_and_no_location_are_refused() -> None:
    empty = SHIPMENT_856.replace("SN1**6*", "SN1**0*").replace("SN1**4*", "SN1**0*")
    with pytest.raises(RejectedMessage, match="nothing was shipped"):
        facts("856", empty)
    with pytest.raises(RejectedMessage, match=r"N1: .*no N1\*SF"):
        facts("856", SHIPMENT_856.replace("N1*SF", "N1*XX"), replace(CONNECTION, settings={}))
