"""997 Functional Acknowledgments: read with our own tokenizer, checked with our own envelope checks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.x12 import acknowledge
from adapters.x12.envelope import Interchange, check, read
from adapters.x12.tokens import Delimiters
from adapters.x12.translate import acknowledge_refusal, translate
from canonical.translation import Inbound
from tests.unit.test_x12_partner import CONNECTION, MESSAGES, interchange, message, segments

SOUND = message("850")


def answer(body: bytes) -> bytes:
    (found,) = translate(Inbound(body), CONNECTION).acknowledgements
    return found


def refusal(body: bytes) -> bytes:
    found = acknowledge_refusal(Inbound(body), CONNECTION)
    assert found is not None
    return found


def read_sound(body: bytes) -> Interchange:
    (found,) = read(body)
    check(found)
    return found


def said(body: bytes) -> list[list[tuple[str, ...]]]:
    """What each 997 says between ST and SE."""
    return [[(one.id, *one.elements) for one in each.body] for each in read_sound(body).sets]


def test_accepted_order_is_acknowledged_set_by_set() -> None:
    assert said(answer(SOUND)) == [
        [("AK1", "PO", "1231"), ("AK2", "850", "1230001"), ("AK5", "A"), ("AK9", "A", "1", "1", "1")]
    ]


def test_every_group_gets_its_own_997() -> None:
    body = interchange(*((one, segments(text)) for one, text in MESSAGES.items()))
    groups = [each[0][1] for each in said(answer(body))]
    assert groups == ["IN", "IB", "PO", "SH", "OW", "RE", "SW"]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(
    ("other", "sender", "release"),
    [
        (b"GS*OW*DEPOT*TWINSYNC*20260302*1500*1232*X*004010", "DEPOT", "004010"),
        (b"GS*OW*ACME*TWINSYNC*20260302*1500*1232*X*005010", "ACME", "005010"),
    ],
)
def test_groups_are_answered_to_who_sent_them_in_their_release(
    other: bytes, sender: str, release: str, refused: bool
) -> None:
    sets = [(one, segments(MESSAGES[one])) for one in ("850", "940", "945")]
    same = b"GS*OW*ACME*TWINSYNC*20260302*1500*1232*X*004010"
    body = interchange(*sets)
    assert same in body
    body = body.replace(same, other)
    told = read_sound(refusal(body.replace(b"GE*1*1233", b"GE*9*1233")) if refused else answer(body))
    assert [(group.header[3], group.header[8], len(group.sets)) for group in told.groups] == [
        ("ACME", "004010", 2),
        (sender, release, 1),
    ]
    assert len({group.control_number for group in told.groups}) == 2
    assert [one.body[0][2] for one in told.sets] == ["1231", "1233", "1232"]


def test_group_numbers_of_an_answer_stay_within_nine_digits() -> None:
    body = interchange(*((one, segments(MESSAGES[one])) for one in ("850", "940")), control="999999999")
    told = read_sound(answer(body.replace(b"GS*OW*ACME", b"GS*OW*DEPOT")))
    assert [group.control_number for group in told.groups] == ["999999999", "0"]


def test_answer_goes_back_to_the_sender_in_its_own_syntax() -> None:
    delimiters = Delimiters("|", ":", "\n", repetition="^")
    found = read_sound(answer(message("850", delimiters=delimiters, release="00501")))
    assert found.delimiters == delimiters
    assert (found.header[6], found.header[8]) == ("TWINSYNC", "ACME")
    (group,) = found.groups
    assert (group.functional_id, group.header[2], group.header[3]) == ("FA", "TWINSYNC", "ACME")
    assert group.header[8] == "004010"


def test_answer_is_the_same_bytes_each_time() -> None:
    assert answer(SOUND) == answer(SOUND)


def test_control_number_and_time_can_be_given() -> None:
    (found,) = read(SOUND)
    at = datetime(2026, 3, 3, 9, 5, tzinfo=UTC)
    told = acknowledge.acceptance(found, control_number="42", at=at)
    assert told is not None
    reply = read_sound(told)
    assert (reply.header[13], reply.header[9], reply.header[10]) == ("000000042", "260303", "0905")
    assert (reply.groups[0].header[4], reply.groups[0].control_number) == ("20260303", "42")


def test_a_997_is_never_acknowledged() -> None:
    body = message("997", "AK1*PO*1\nAK9*A*1*1*1", ta1="1")
    translation = translate(Inbound(body), CONNECTION)
    assert (translation.events, translation.acknowledgements) == ((), ())
    assert acknowledge_refusal(Inbound(body.replace(b"SE*4", b"SE*5")), CONNECTION) is None


def test_invoice_for_goods_is_accepted_and_says_nothing() -> None:
    body = message("810", "BIG*20260305*1\nIT1**16*CA*12.34**UA*002840022222\nTDS*100")
    translation = translate(Inbound(body), CONNECTION)
    assert translation.events == ()
    assert said(translation.acknowledgements[0])[0][-1] == ("AK9", "A", "1", "1", "1")


def test_ta1_is_sent_to_who_asks() -> None:
    assert b"TA1*000000123*260302*1500*A*000~" in answer(message("850", ta1="1"))
    assert b"TA1" not in answer(SOUND)


@pytest.mark.parametrize(
    ("sound", "broken", "notes", "ak5", "ak9"),
    [
        (b"SE*11*", b"SE*12*", [], ("AK5", "R", "4"), ("AK9", "R", "1", "1", "0")),
        (b"SE*11*1230001", b"SE*11*9999", [], ("AK5", "R", "3"), ("AK9", "R", "1", "1", "0")),
        (b"SE*11*1230001", b"SE*9*9999", [], ("AK5", "R", "4", "3"), ("AK9", "R", "1", "1", "0")),
        (b"SE*11*1230001~", b"", [], ("AK5", "R", "2"), ("AK9", "R", "1", "1", "0")),
        (b"ST*850*", b"ST*999*", [], ("AK5", "R", "1"), ("AK9", "R", "1", "1", "0")),
        (b"GE*1*1231", b"GE*7*1231", [], ("AK5", "R"), ("AK9", "R", "7", "1", "0", "5")),
        (b"GE*1*1231", b"GE*1*8", [], ("AK5", "R"), ("AK9", "R", "1", "1", "0", "4")),
        (b"GE*1*1231~", b"", [], ("AK5", "R"), ("AK9", "R", "1", "1", "0", "3")),
        (
            b"PO1*2*4*CA",
            b"PO1*2*four*CA",
            [("AK3", "PO1", "9", "", "8"), ("AK4", "2", "", "6", "four")],
            ("AK5", "R", "5"),
            ("AK9", "R", "1", "1", "0"),
        ),
        (
            b"BEG*00*SA*PO-77**20260301",
            b"BEG*00*SA*PO-77",
            [("AK3", "BEG", "2", "", "8"), ("AK4", "5", "", "1")],
            ("AK5", "R", "5"),
            ("AK9", "R", "1", "1", "0"),
        ),
        (
            b"BEG*",
            b"BXX*",
            [("AK3", "BEG", "11", "", "3")],
            ("AK5", "R", "5"),
            ("AK9", "R", "1", "1", "0"),
        ),
    ],
)
def test_rejection_says_what_is_wrong_in_the_codes_of_the_standard(
    sound: bytes,
    broken: bytes,
    notes: list[tuple[str, ...]],
    ak5: tuple[str, ...],
    ak9: tuple[str, ...],
) -> None:
    assert sound in SOUND
    (told,) = said(refusal(SOUND.replace(sound, broken, 1)))
    assert told[0] == ("AK1", "PO", "1231")
    assert told[2:] == [*notes, ak5, ak9]


def test_all_sets_of_a_refused_file_are_rejected_only_the_guilty_with_a_code() -> None:
    bad = segments(MESSAGES["940"].replace("W05*N", "W05*Q"))
    told = said(refusal(interchange(("850", segments(MESSAGES["850"])), ("940", bad))))
    assert [each[-2] for each in told] == [("AK5", "R"), ("AK5", "R", "5")]
    assert {each[-1] for each in told} == {("AK9", "R", "1", "1", "0")}


def test_interchange_fault_is_told_in_a_ta1() -> None:
    assert b"TA1*000000123*260302*1500*R*021~" in refusal(SOUND.replace(b"IEA*1*", b"IEA*2*"))
    assert b"TA1*000000123*260302*1500*R*023~" in refusal(SOUND.replace(b"IEA*1*000000123~", b""))


def test_what_is_no_x12_and_what_is_not_refused_get_no_rejection() -> None:
    assert acknowledge_refusal(Inbound(b"PK\x03\x04"), CONNECTION) is None
    assert acknowledge_refusal(Inbound(SOUND), CONNECTION) is None


def test_answers_to_several_interchanges_stand_in_one_file() -> None:
    body = SOUND + message("940", control="000000124")
    assert len(translate(Inbound(body), CONNECTION).acknowledgements) == 2
    rejected = read(refusal(body.replace(b"SE*11*", b"SE*12*")))
    for one in rejected:
        check(one)
    assert [one.control_number for one in rejected] == ["000000123", "000000124"]
