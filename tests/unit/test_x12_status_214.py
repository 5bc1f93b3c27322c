"""214 Transportation Carrier Shipment Status Message: what a carrier says on the way, and who signed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.x12.status_214 import SKIPPED, STATUSES
from adapters.x12.translate import acknowledge_refusal, translate
from canonical.errors import RejectedMessage
from canonical.facts.tracking import Milestone, TrackingScanned
from canonical.translation import Inbound
from tests.unit.test_x12_partner import CONNECTION, facts, message, translated

STATUS_214 = """
B10*PRO-123*SHP-7*ABCD
L11*PO-77*PO
N1*CN*XYZ Retail*92*CUST-9
LX*1
AT7*AF*NS***20260302*1630*ET
MS1*DAYTON*OH*US
MS2*ABCD*T-100
AT7*X4*NS***20260303*0410*UT
MS1*COLUMBUS*OH
AT8*G*L*532*1
LX*2
AT7*SD*AI***20260303*0600*ES
LX*3
AT7*X1*NS***20260304*0915*LT
AT7*D1*NS***20260304*0940
MS1*PITTSBURGH*PA*US
G86*4711*J. SMITH
"""


def scans(text: str = STATUS_214) -> list[TrackingScanned]:
    return [fact for fact in facts("214", text) if isinstance(fact, TrackingScanned)]


def status(*elements: str) -> str:
    return "\n".join(("B10*PRO-123*SHP-7*ABCD", "LX*1", "*".join(("AT7", *elements))))


def times(text: str, timezone: str = "UTC") -> list[datetime]:
    connection = replace(CONNECTION, settings={"timezone": timezone})
    return [event.time for event in translated(message("214", text), connection)]


def test_each_status_is_a_scan_of_the_carriers_number() -> None:
    events = translated(message("214", STATUS_214))
    assert {str(event.subject) for event in events} == {"tracking/abcd:PRO-123"}
    assert [(event.time.strftime("%d %H:%M"), event.fact) for event in events] == [
        (
            "02 21:30",
            TrackingScanned(
                milestone=Milestone.IN_TRANSIT,
                message="Departed pick-up location with shipment",
                place="DAYTON, OH, US",
            ),
        ),
        (
            "03 04:10",
            TrackingScanned(
                milestone=Milestone.IN_TRANSIT, message="Arrived at terminal", place="COLUMBUS, OH"
            ),
        ),
        (
            "03 11:00",
            TrackingScanned(milestone=Milestone.DELAYED, message="Shipment delayed, reason AI"),
        ),
        (
            "04 09:15",
            TrackingScanned(milestone=Milestone.OUT_FOR_DELIVERY, message="Arrived at delivery location"),
        ),
        (
            "04 09:40",
            TrackingScanned(
                milestone=Milestone.DELIVERED,
                message="Completed unloading at delivery location",
                place="PITTSBURGH, PA, US",
                signed_by="J. SMITH",
            ),
        ),
    ]


def test_message_sent_again_under_new_control_numbers_tells_the_same_events() -> None:
    once = translated(message("214", STATUS_214))
    again = translated(
        message("214", STATUS_214, control="000000999", sent=("20260309", "0101"), release="00501")
    )
    assert again == once
    assert len({event.id for event in once}) == len(once) == 5
    assert all(event.id.startswith("214/PRO-123/tracking.scanned/") for event in once)


def test_later_message_that_repeats_earlier_statuses_adds_only_the_new_one() -> None:
    earlier = {event.id for event in translated(message("214", STATUS_214.partition("LX*3")[0]))}
    later = {event.id for event in translated(message("214", STATUS_214))}
    assert earlier < later
    assert len(later - earlier) == 2


def test_delivery_is_signed_by_the_keyed_name_or_else_the_signature() -> None:
    assert [scan.signed_by for scan in scans()] == [None, None, None, None, "J. SMITH"]
    assert scans(STATUS_214.replace("*J. SMITH", ""))[-1].signed_by == "4711"
    assert scans(STATUS_214.replace("G86*4711*J. SMITH\n", ""))[-1].signed_by is None


def test_signature_of_one_loop_is_not_that_of_another() -> None:
    text = STATUS_214 + "LX*4\nAT7*D1*NS***20260305*0800*UT"
    assert [scan.signed_by for scan in scans(text)][-2:] == ["J. SMITH", None]


@pytest.mark.parametrize(
    ("code", "milestone"),
    [
        ("XB", Milestone.PRE_TRANSIT),
        ("X3", Milestone.PRE_TRANSIT),
        ("CP", Milestone.PRE_TRANSIT),
        ("AF", Milestone.IN_TRANSIT),
        ("P1", Milestone.IN_TRANSIT),
        ("X6", Milestone.IN_TRANSIT),
        ("X1", Milestone.OUT_FOR_DELIVERY),
        ("D1", Milestone.DELIVERED),
        ("SD", Milestone.DELAYED),
        ("A7", Milestone.EXCEPTION),
        ("CA", Milestone.EXCEPTION),
        ("A3", Milestone.RETURN_TO_SENDER),
    ],
)
def test_each_status_is_a_milestone(code: str, milestone: Milestone) -> None:
    assert [scan.milestone for scan in scans(status(code, "NS", "", "", "20260302"))] == [milestone]


def test_every_milestone_can_be_told_and_none_is_skipped() -> None:
    assert {milestone for milestone, _ in STATUSES.values()} == set(Milestone)
    assert not STATUSES.keys() & SKIPPED


@pytest.mark.parametrize("code", sorted(SKIPPED))
def test_estimate_and_departure_from_the_consignee_are_no_scans(code: str) -> None:
    assert facts("214", status(code, "NS", "", "", "20260302")) == []


def test_appointment_is_no_scan() -> None:
    assert facts("214", status("", "", "AB", "NA", "20260306", "0900", "LT")) == []


@pytest.mark.parametrize(
    ("code", "hour"),
    [
        ("UT", 12),
        ("GM", 12),
        ("ET", 16),
        ("ES", 17),
        ("ED", 16),
        ("PT", 19),
        ("01", 11),
        ("12", 0),
        ("24", 13),
        ("19", 18),
        ("LT", 10),
        ("", 10),
    ],
)
def test_time_code_names_the_zone_and_local_time_is_the_connections(code: str, hour: int) -> None:
    """1 July: daylight time in New York, Los Angeles and Berlin."""
    told = times(status("X6", "NS", "", "", "20260701", "1200", code), "Europe/Berlin")
    assert told == [datetime(2026, 7, 1, hour, tzinfo=UTC)]


def test_status_without_a_time_is_at_midnight() -> None:
    assert times(status("X6", "NS", "", "", "20260302")) == [datetime(2026, 3, 2, tzinfo=UTC)]


def test_status_outside_a_loop_is_a_scan_all_the_same() -> None:
    bare = "\n".join(line for line in STATUS_214.splitlines() if not line.startswith("LX"))
    assert [scan.milestone for scan in scans(bare)] == [scan.milestone for scan in scans()]


def test_loop_with_tracking_numbers_of_its_own_tells_of_those() -> None:
    text = STATUS_214.replace("LX*2\n", "LX*2\nL11*1Z1*2I\nL11*1Z2*2I\nL11*1Z2*CN\n")
    subjects = [str(event.subject) for event in translated(message("214", text))]
    assert subjects[2:4] == ["tracking/abcd:1Z1", "tracking/abcd:1Z2"]
    assert set(subjects[:2] + subjects[4:]) == {"tracking/abcd:PRO-123"}


def test_carrier_is_ours_for_their_scac_or_the_connections_own() -> None:
    ours = replace(CONNECTION, settings={"carrier.ABCD": "abc", "carrier": "other"})
    subjects = {str(event.subject) for event in translated(message("214", STATUS_214), ours)}
    assert subjects == {"tracking/abc:PRO-123"}
    unnamed = message("214", STATUS_214.replace("SHP-7*ABCD", "SHP-7"))
    assert {str(event.subject) for event in translated(unnamed, ours)} == {"tracking/other:PRO-123"}


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("B10*", "B11*", "B10", "missing"),
        ("B10*PRO-123", "B10*", "B1001", "missing"),
        ("SHP-7*ABCD", "SHP-7", "B1003", "the connection sets no carrier"),
        ("AT7*AF", "AT7*ZZ", "AT7[1].01", "says 'ZZ'; read are A3, A7"),
        ("AT7*AF*NS", "AT7*", "AT7[1].01", "missing"),
        ("20260303*0410", "20261303*0410", "AT7[2].05", "expected a date"),
        ("20260303*0410", "*0410", "AT7[2].05", "missing"),
        ("20260303*0410", "20260303*2510", "AT7[2].06", "expected a time"),
        ("0410*UT", "0410*QQ", "AT7[2].07", "says 'QQ'; read are 01, 02"),
        ("20260303*0600*ES", "99991231*2359*ES", "AT7[3].05", "out of range"),
        ("20260303*0600*ES", "19691231*1759*ES", "AT7[3].05", "before 1970"),
        ("AT7*SD", "CD3*L*10\nAT7*SD", "AT7[3]", "one carton"),
        ("LX*2", "LX*2\nL11**CN", "L11[2].01", "missing"),
    ],
)
def test_what_cannot_be_read_is_named_by_segment_and_element(
    sound: str, broken: str, field: str, reason: str
) -> None:
    assert sound in STATUS_214
    with pytest.raises(RejectedMessage) as refused:
        facts("214", STATUS_214.replace(sound, broken, 1))
    assert refused.value.field == field
    assert reason in refused.value.reason


def test_message_without_any_status_is_refused() -> None:
    with pytest.raises(RejectedMessage, match=r"AT7: .*missing"):
        facts("214", STATUS_214.replace("AT7*", "AT9*"))


def test_group_of_statuses_is_acknowledged_as_qm() -> None:
    (answer,) = translate(Inbound(message("214", STATUS_214)), CONNECTION).acknowledgements
    assert b"AK1*QM*" in answer
    assert b"AK5*A~" in answer


def test_refusal_names_the_element_in_the_997() -> None:
    body = message("214", STATUS_214.replace("AT7*AF", "AT7*ZZ"))
    answer = acknowledge_refusal(Inbound(body), CONNECTION)
    assert answer is not None
    assert b"AK3*AT7*6**8~" in answer
    assert b"AK4*1**7*ZZ~" in answer
