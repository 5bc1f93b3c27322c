"""EasyPost tracker webhooks into canonical events. Payloads are written afresh from the API documentation."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.easypost.models import Status
from adapters.easypost.signature import verify
from adapters.easypost.translate import MILESTONES, translate
from canonical.envelope import Event, parse_structured
from canonical.errors import RejectedMessage
from canonical.facts.tracking import Milestone, TrackingScanned
from canonical.translation import Connection, Inbound
from tests.world import World

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "easypost"
ACCOUNT = Connection("easypost", "acme")


def scan(**changes: Any) -> dict[str, Any]:
    return {
        "object": "TrackingDetail",
        "message": "Arrived at facility",
        "status": "in_transit",
        "status_detail": "arrived_at_facility",
        "datetime": "2026-03-03T08:00:00Z",
        "tracking_location": {"city": "OAKLAND", "state": "CA", "country": "US", "zip": "94607"},
    } | changes


def tracker(**changes: Any) -> dict[str, Any]:
    return {
        "id": "trk_1",
        "object": "Tracker",
        "tracking_code": "1z999aa10123456784",
        "carrier": "UPS",
        "status": "in_transit",
        "signed_by": None,
        "shipment_id": "shp_1",
        "weight": 17.6,
        "fees": [{"object": "Fee", "amount": "0.02000"}],
        "updated_at": "2026-03-03T08:05:00Z",
        "tracking_details": [scan()],
    } | changes


def webhook(**changes: Any) -> dict[str, Any]:
    return {"id": "evt_1", "object": "Event", "description": "tracker.updated", "result": tracker(**changes)}


def tell(payload: Any, connection: Connection = ACCOUNT) -> tuple[Event, ...]:
    return translate(Inbound(json.dumps(payload).encode()), connection).events


def scanned(**changes: Any) -> TrackingScanned:
    """The fact of a tracker with this one scan."""
    (event,) = tell(webhook(tracking_details=[scan(**changes)]))
    assert isinstance(event.fact, TrackingScanned)
    return event.fact


def sample() -> bytes:
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is absent: put the samples at ../shared/samples")
    return (SAMPLES / "tracking-webhook.json").read_bytes()


# --- a real payload --------------------------------------------------------------------------------------


def test_each_scan_of_the_sample_is_an_event_at_its_own_moment() -> None:
    """Its envelope is older than its scans, and its delivery older than its pickup: neither orders them."""
    events = translate(Inbound(sample()), Connection("easypost")).events
    assert [str(event.subject) for event in events] == ["tracking/ups:EZ4000000004"] * 6
    assert [(event.fact.milestone, event.time.strftime("%m-%d %H:%M")) for event in events] == [
        ("pre-transit", "11-21 14:24"),
        ("in-transit", "11-21 14:48"),
        ("in-transit", "11-22 08:51"),
        ("in-transit", "11-23 09:31"),
        ("out-for-delivery", "11-24 08:10"),
        ("delivered", "11-19 10:51"),
    ]
    assert [event.fact.signed_by for event in events] == [None] * 5 + ["John Tester"]
    assert all(parse_structured(event.structured()) == event for event in events)
    assert len({event.id for event in events}) == 6


def test_the_sample_leaves_its_parcel_delivered() -> None:
    world = World()
    world.take(translate(Inbound(sample()), ACCOUNT).events)
    assert world.status("tracking/ups:EZ4000000004") == "delivered"


# --- scans -----------------------------------------------------------------------------------------------


def test_a_scan_says_where_and_what() -> None:
    (event,) = tell(webhook())
    assert event.fact == TrackingScanned(
        milestone=Milestone.IN_TRANSIT, message="Arrived at facility", place="OAKLAND, CA, US"
    )
    assert str(event.subject) == "tracking/ups:1Z999AA10123456784"
    assert event.time == datetime(2026, 3, 3, 8, tzinfo=UTC)
    assert event.source == "/easypost/acme"


@pytest.mark.parametrize(
    ("status", "milestone"),
    [
        ("pre_transit", Milestone.PRE_TRANSIT),
        ("in_transit", Milestone.IN_TRANSIT),
        ("out_for_delivery", Milestone.OUT_FOR_DELIVERY),
        ("available_for_pickup", Milestone.IN_TRANSIT),
        ("delivered", Milestone.DELIVERED),
        ("return_to_sender", Milestone.RETURN_TO_SENDER),
        ("failure", Milestone.EXCEPTION),
        ("error", Milestone.EXCEPTION),
    ],
)
def test_each_status_is_a_milestone(status: str, milestone: Milestone) -> None:
    assert scanned(status=status).milestone == milestone


@pytest.mark.parametrize("status", ["unknown", "cancelled"])
def test_a_status_that_says_nothing_of_the_parcel_is_no_event(status: str) -> None:
    assert tell(webhook(tracking_details=[scan(status=status)])) == ()


def test_every_status_of_theirs_is_decided_on() -> None:
    assert set(MILESTONES) == set(Status)


@pytest.mark.parametrize(
    "changes",
    [
        {"status_detail": "delayed"},
        {"status_detail": "weather_delay", "message": None},
        {"message": "A mechanical failure has DELAYED delivery"},
        {"status": "unknown", "status_detail": "delayed"},
    ],
)
def test_a_scan_that_speaks_of_delay_is_a_delay(changes: dict[str, Any]) -> None:
    assert scanned(**changes).milestone == Milestone.DELAYED


@pytest.mark.parametrize("status", ["delivered", "return_to_sender"])
def test_a_parcel_that_got_there_is_not_delayed(status: str) -> None:
    assert scanned(status=status, message="Delivered after delay").milestone == MILESTONES[Status(status)]


def test_only_the_delivery_is_signed() -> None:
    delivered = scan(status="delivered", datetime="2026-03-03T12:00:00Z")
    events = tell(webhook(signed_by="A. Byron", tracking_details=[scan(), delivered]))
    assert [event.fact.signed_by for event in events] == [None, "A. Byron"]


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (None, None),
        ({"city": None, "state": None, "country": None}, None),
        ({"city": " ", "country": "US"}, "US"),
        ({"city": "OAKLAND", "state": None, "country": "US"}, "OAKLAND, US"),
    ],
)
def test_a_place_is_as_much_as_is_told(location: Any, place: str | None) -> None:
    assert scanned(tracking_location=location).place == place


def test_a_carrier_has_one_spelling_or_the_one_that_is_set() -> None:
    assert tell(webhook(carrier="DHL Express"))[0].subject == tell(webhook(carrier="DHLExpress"))[0].subject
    mapped = Connection("easypost", settings={"carrier.UPSDAP": "ups"})
    assert tell(webhook(carrier="UPSDAP"), mapped)[0].subject.key == "ups:1Z999AA10123456784"


# --- identity --------------------------------------------------------------------------------------------


def test_a_tracker_sent_again_adds_only_the_new_scan() -> None:
    first = tell(webhook())
    later = tell(webhook(status="delivered", updated_at="2026-03-04T09:00:00Z", tracking_details=[
        scan(), scan(status="delivered", datetime="2026-03-04T08:59:00Z")
    ]) | {"id": "evt_2"})  # fmt: skip
    assert [(event.event_id, event.digest()) for event in later[:1]] == [
        (event.event_id, event.digest()) for event in first
    ]
    assert len(later) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "Departed facility"},
        {"status": "out_for_delivery"},
        {"datetime": "2026-03-03T08:00:01Z"},
        {"tracking_location": {"city": "RENO"}},
        {"status_detail": "delayed"},
    ],
)
def test_a_scan_that_says_anything_else_is_another_event(changes: dict[str, Any]) -> None:
    (first,), (other,) = tell(webhook()), tell(webhook(tracking_details=[scan(**changes)]))
    assert first.id != other.id


def test_a_signature_that_comes_later_is_no_conflict() -> None:
    """The scan is the same, and says more: under one id that would be told twice with different content."""
    delivered = [scan(status="delivered")]
    (bare,), (signed,) = (
        tell(webhook(signed_by=name, tracking_details=delivered)) for name in (None, "A. Byron")
    )
    assert bare.id != signed.id
    world = World()
    for events in ([bare], [signed], [bare]):
        world.take(events)
    seen = world.snapshot(str(bare.subject))
    assert (seen.document()["signed_by"], len(seen.conflicts)) == ("A. Byron", 0)


def test_the_order_of_details_and_keys_does_not_matter() -> None:
    details = [scan(), scan(status="delivered", datetime="2026-03-04T09:00:00Z")]
    one, other = tell(webhook(tracking_details=details)), tell(webhook(tracking_details=details[::-1]))
    assert set(one) == set(other)
    assert tell(dict(reversed(tracker().items()))) == tell(tracker())


# --- trackers and other events ---------------------------------------------------------------------------


def test_a_bare_tracker_tells_what_its_webhook_tells() -> None:
    bare = tracker()
    assert tell(bare) == tell(webhook())
    del bare["object"]
    assert tell(bare) == tell(webhook())


@pytest.mark.parametrize("details", [[], None])
def test_a_tracker_without_scans_tells_its_status_as_of_its_update(details: Any) -> None:
    (event,) = tell(webhook(tracking_details=details, status="delivered", signed_by="A. Byron"))
    assert event.fact == TrackingScanned(milestone=Milestone.DELIVERED, signed_by="A. Byron")
    assert event.time == datetime(2026, 3, 3, 8, 5, tzinfo=UTC)


def test_a_tracker_that_knows_nothing_yet_tells_nothing() -> None:
    assert tell(webhook(tracking_details=[], status="unknown")) == ()
    assert tell(webhook(tracking_details=[], status=None, updated_at=None)) == ()


@pytest.mark.parametrize("kind", ["ShipmentInvoice", "Batch", "Refund", "Report"])
def test_events_about_other_things_tell_nothing(kind: str) -> None:
    """An EasyPost webhook is sent every event of the account."""
    assert tell({"object": "Event", "result": {"object": kind, "id": "x_1"}}) == ()


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b"\n", "empty body"),
        (b"{", "not JSON: "),
        (b'{"a": -Infinity}', "not JSON: -Infinity is no number"),
        (b"\xff", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"null", "expected a JSON object"),
        (b"[{}]", "expected a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(RejectedMessage) as caught:
        translate(Inbound(body), ACCOUNT)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "tracking_code"),
        ({"object": "Shipment"}, "object"),
        ({"object": "Event"}, "result"),
        ({"object": "Event", "result": {}}, "result.tracking_code"),
        (webhook(carrier=None), "result.carrier"),
        (webhook(tracking_code=1.5), "result.tracking_code"),
        (webhook(tracking_details={}), "result.tracking_details"),
        (webhook(tracking_details=[scan(), scan(status="teleported")]), "result.tracking_details.1.status"),
        (
            webhook(tracking_details=[scan(datetime="2026-03-03T08:00:00")]),
            "result.tracking_details.0.datetime",
        ),
        (webhook(tracking_details=[scan(datetime=None)]), "result.tracking_details.0.datetime"),
        (
            webhook(tracking_details=[scan(datetime="1969-12-31T23:59:59Z")]),
            "result.tracking_details.0.datetime",
        ),
        (webhook(tracking_details=[], updated_at=None), "updated_at"),
        (webhook(tracking_code="1" * 129, carrier="x" * 128), "result.tracking_code"),
    ],
)
def test_a_wrong_field_is_named(payload: Any, field: str) -> None:
    with pytest.raises(RejectedMessage) as caught:
        tell(payload)
    assert caught.value.field == field


# --- anything at all -------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
awkward_values = st.sampled_from(["", " ", "\ud800", "9999-12-31T23:59:59-14:00", "1e400", "a\nb", "ß" * 120])


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a payload."""
    steps: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [path, *(found for key, child in steps for found in paths(child, (*path, key)))]


PLACES = [path for path in paths(webhook(signed_by="A. Byron", status="delivered")) if path]


def survives(body: bytes) -> None:
    try:
        events = translate(Inbound(body), ACCOUNT).events
    except RejectedMessage:
        return
    for event in events:
        assert parse_structured(event.structured()) == event


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), json_values | awkward_values)
def test_a_spoilt_tracker_is_told_or_refused_and_never_breaks(place: tuple[Any, ...], value: Any) -> None:
    payload: Any = copy.deepcopy(webhook(signed_by="A. Byron", status="delivered"))
    *parents, last = place
    holder = payload
    for step in parents:
        holder = holder[step]
    holder[last] = value
    survives(json.dumps(payload).encode())


@settings(max_examples=300, deadline=None)
@given(json_values | st.fixed_dictionaries({"object": st.just("Event"), "result": json_values}))
def test_any_json_is_told_or_refused(payload: Any) -> None:
    survives(json.dumps(payload).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_told_or_refused(body: bytes) -> None:
    survives(body)


# --- signature -------------------------------------------------------------------------------------------


def test_a_signature_covers_the_raw_body() -> None:
    body, secret = b'{"id": 1}', "whsec_1"
    header = "hmac-sha256-hex=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert header == "hmac-sha256-hex=6ea394739e49dc55f99d60fcfaad90fdf0defa10476aba02396f1c0e1e702767"
    assert verify(body, header, secret)
    assert not verify(b'{"id":1}', header, secret)
    assert not verify(body, header, "whsec_2")
    assert not verify(body, header.removeprefix("hmac-sha256-hex="), secret)


def test_a_secret_is_normalised_before_it_signs() -> None:
    """As EasyPost's client libraries do: NFKD takes a letter and its accent apart."""
    key = unicodedata.normalize("NFKD", "\u00c5ngstr\u00f6m").encode()
    header = "hmac-sha256-hex=" + hmac.new(key, b"{}", hashlib.sha256).hexdigest()
    assert verify(b"{}", header, "\u00c5ngstr\u00f6m")
    assert verify(b"{}", header, "A\u030angstro\u0308m")


@pytest.mark.parametrize("header", [None, "", "hmac-sha256-hex=", "Ünïcode"])
def test_a_missing_or_garbled_signature_is_none(header: str | None) -> None:
    assert not verify(b"{}", header, "secret")


def test_without_a_secret_nothing_is_signed() -> None:
    empty_key = "hmac-sha256-hex=" + hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    assert not verify(b"{}", empty_key, "")
