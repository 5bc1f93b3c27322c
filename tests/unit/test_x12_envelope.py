"""Trailers that disagree with their headers are refused by name, with what was said and what was found."""

from __future__ import annotations

import pytest

from adapters.x12.envelope import check, read
from adapters.x12.translate import translate
from canonical.errors import RejectedMessage
from canonical.translation import Inbound
from tests.unit.test_x12_partner import (
    CONNECTION,
    MESSAGES,
    SAMPLES,
    interchange,
    message,
    needs_samples,
    segments,
    translated,
)

SOUND = message("850")


def refusal(body: bytes) -> RejectedMessage:
    with pytest.raises(RejectedMessage) as refused:
        translate(Inbound(body), CONNECTION)
    return refused.value


@pytest.mark.parametrize(
    ("sound", "broken", "field", "reason"),
    [
        ("SE*11*1230001", "SE*12*1230001", "SE01", "SE01 says 12 segments, the set 1230001 has 11"),
        ("SE*11*", "SE**", "SE01", "SE01 says  segments, the set 1230001 has 11"),
        ("SE*11*", "SE*eleven*", "SE01", "SE01 says eleven segments, the set 1230001 has 11"),
        ("SE*11*1230001", "SE*11*0001", "SE02", "SE02 says 0001, ST02 1230001"),
        ("GE*1*1231", "GE*2*1231", "GE01", "GE01 says 2 transaction sets, the group 1231 has 1"),
        ("GE*1*1231", "GE*1*77", "GE02", "GE02 says 77, GS06 1231"),
        ("IEA*1*", "IEA*3*", "IEA01", "IEA01 says 3 functional groups, the interchange 000000123 has 1"),
        ("IEA*1*000000123", "IEA*1*000000124", "IEA02", "IEA02 says 000000124, ISA13 000000123"),
        ("SE*11*1230001~", "", "SE", "the set 1230001 has no SE"),
        ("GE*1*1231~", "", "GE", "the group 1231 has no GE"),
        ("IEA*1*000000123~", "", "IEA", "the interchange 000000123 has no IEA"),
        ("GS*PO", "REF*A*B~GS*PO", "REF", "REF stands outside any functional group"),
        ("GE*1", "REF*A*B~GE*1", "REF", "REF stands outside any transaction set"),
        ("*000000123*0*", "*ABCDEFGHI*0*", "ISA13", "expected a control number, got 'ABCDEFGHI'"),
        ("ST*850*1230001", "ST**1230001", "ST01", "missing"),
    ],
)  # fmt: skip
def test_disagreement_names_the_segment_and_both_sides(
    sound: str, broken: str, field: str, reason: str
) -> None:
    body = SOUND.replace(sound.encode(), broken.encode(), 1)
    assert body != SOUND
    refused = refusal(body)
    assert (refused.field, refused.reason) == (field, reason)


@needs_samples
def test_sample_with_a_wrong_se01_is_refused_with_both_counts() -> None:
    """The file has ST, W05, W66, LX, W01, three N9 and SE: nine segments, and says twelve."""
    refused = refusal((SAMPLES / "940_bad_SE01.edi").read_bytes())
    assert refused.field == "SE01"
    assert refused.reason == "SE01 says 12 segments, the set 20066 has 9"


def test_leading_zeros_of_n0_control_numbers_say_nothing() -> None:
    assert translated(SOUND.replace(b"GE*1*1231", b"GE*01*000001231")) == translated(SOUND)


def test_control_number_of_a_set_is_text() -> None:
    refused = refusal(SOUND.replace(b"SE*11*1230001", b"SE*11*01230001"))
    assert refused.field == "SE02"


def test_sets_and_groups_are_counted_in_any_number() -> None:
    (found,) = read(interchange(*((one, segments(text)) for one, text in MESSAGES.items())))
    check(found)
    assert len(found.groups) == len(MESSAGES)


def test_interchange_acknowledgements_may_stand_before_the_groups() -> None:
    body = SOUND.replace(b"GS*PO", b"TA1*000000001*260301*1200*A*000~GS*PO", 1)
    assert translated(body) == translated(SOUND)


def test_one_bad_set_refuses_the_whole_file_and_is_named() -> None:
    bad = segments(MESSAGES["940"].replace("W01*10*", "W01*ten*"))
    body = interchange(("850", segments(MESSAGES["850"])), ("940", bad))
    refused = refusal(body)
    assert refused.field == "W01[1].01"
    assert refused.reason == "set 1230002: expected a number, got 'ten'"


def test_bad_envelope_of_a_later_interchange_refuses_the_whole_file() -> None:
    assert refusal(SOUND + SOUND.replace(b"SE*11*", b"SE*12*")).field == "SE01"


def test_unknown_set_names_st01_and_what_is_read() -> None:
    refused = refusal(message("850").replace(b"ST*850*", b"ST*999*"))
    assert refused.field == "ST01"
    assert "ST01 says 999" in refused.reason
    assert "850" in refused.reason
