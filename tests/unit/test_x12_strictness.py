"""Whatever comes in is translated or refused; the same document is the same events, however it came."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.x12.envelope import check, read
from adapters.x12.tokens import Delimiters
from adapters.x12.translate import acknowledge_refusal, translate
from canonical.envelope import parse_structured
from canonical.errors import RejectedMessage
from canonical.translation import Inbound
from tests.unit.test_x12_partner import CONNECTION, MESSAGES, interchange, message, segments, translated

SEGMENT_IDS = sorted({segment[0] for text in MESSAGES.values() for segment in segments(text)})
NASTY = [
    "", "0", "-1", "00", "1e9", "NaN", "Infinity", ".", "9" * 18, "0.0000001", "999999999999", "20269999",
    "20260301", "00010101", "99991231", "2400", "235959", "A" * 200, "a/b@c", "\u00e9", "\x85", "\x01", "IS",
    "VN", "GM", "CP", "CN", "LI", "1", "2", "O", "I", "P", "504", "C", "D240", "USD", "BHD", "KRW", "٣", "²",
]  # fmt: skip

elements = st.one_of(st.sampled_from(NASTY), st.text("AZ09.-@/ \u00e9\u0130", max_size=6))
bodies = st.sampled_from(sorted(MESSAGES)).flatmap(
    lambda set_id: st.tuples(st.just(set_id), st.just(segments(MESSAGES[set_id])))
)


@st.composite
def mutated_sets(draw: st.DrawFn) -> tuple[str, list[list[str]]]:
    """A message whose segments were moved, repeated, dropped and overwritten: its envelope will be sound."""
    set_id, body = draw(bodies)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(body) - 1))
        match draw(st.sampled_from(["drop", "repeat", "move", "overwrite", "insert"])):
            case "drop" if len(body) > 1:
                del body[place]
            case "repeat":
                body.insert(draw(st.integers(0, len(body))), list(body[place]))
            case "move":
                body.insert(draw(st.integers(0, len(body) - 1)), body.pop(place))
            case "insert":
                body.insert(
                    place, [draw(st.sampled_from(SEGMENT_IDS)), *draw(st.lists(elements, max_size=4))]
                )
            case _ if len(body[place]) > 1:
                body[place][draw(st.integers(1, len(body[place]) - 1))] = draw(elements)
            case _:
                body[place].append(draw(elements))
    return set_id, body


def taken_or_refused(body: bytes) -> None:
    """Anything but a RejectedMessage is a failure; what is refused can be answered, soundly."""
    try:
        translation = translate(Inbound(body), CONNECTION)
    except RejectedMessage:
        answer = acknowledge_refusal(Inbound(body), CONNECTION)
    else:
        assert acknowledge_refusal(Inbound(body), CONNECTION) is None
        for event in translation.events:
            assert parse_structured(event.structured()) == event
        answer = b"".join(translation.acknowledgements) or None
    for found in read(answer) if answer else ():
        check(found)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_or_taken(body: bytes) -> None:
    taken_or_refused(body)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated_sets())
def test_sound_envelope_around_mutated_segments_is_refused_or_taken(
    mutated: tuple[str, list[list[str]]],
) -> None:
    taken_or_refused(interchange(mutated))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(MESSAGES)),
    st.lists(
        st.tuples(st.integers(0, 2_000), st.sampled_from([0, 1, 2, 30]), st.binary(max_size=3)), max_size=5
    ),
)
def test_bytes_lost_or_changed_on_the_way_are_refused_or_taken(
    set_id: str, edits: list[tuple[int, int, bytes]]
) -> None:
    body = message(set_id)
    for place, lost, put in edits:
        body = body[:place] + put + body[place + lost :]
    taken_or_refused(body)


@given(
    st.sampled_from(sorted(MESSAGES)),
    st.integers(1, 99_999_999).map(lambda number: f"{number:09}"),
    st.sampled_from([Delimiters(), Delimiters("|", ":", "\n"), Delimiters(line_break="\r\n")]),
)
def test_document_is_the_same_events_under_any_control_numbers_and_delimiters(
    set_id: str, control: str, delimiters: Delimiters
) -> None:
    again = message(set_id, control=control, delimiters=delimiters)
    assert translated(again) == translated(message(set_id))


@pytest.mark.parametrize("set_id", MESSAGES)
def test_event_ids_stand_for_their_content(set_id: str) -> None:
    """Same id, same content: two documents that differ in one quantity share no id of what it changes."""
    events = translated(message(set_id)) + translated(message(set_id, sent=("20260309", "0101")))
    by_id = {event.id: event for event in events}
    assert all(by_id[event.id] == event for event in events)


def test_document_twice_in_one_file_is_told_once() -> None:
    one = ("945", segments(MESSAGES["945"]))
    assert translated(interchange(one, one)) == translated(interchange(one))
