"""Segments as any sender may delimit them: everything is told by the ISA, by position."""

from __future__ import annotations

import pytest

from adapters.x12 import tokens
from adapters.x12.tokens import Delimiters
from canonical.errors import RejectedMessage
from tests.unit.test_x12_partner import ORDER_850, interchange, message, segments, translated

LAYOUTS = {
    "tilde": Delimiters(),
    "tilde and line feed": Delimiters(line_break="\n"),
    "tilde and carriage return, line feed": Delimiters(line_break="\r\n"),
    "line feed": Delimiters(segment="\n"),
    "carriage return, line feed": Delimiters(segment="\r", line_break="\n"),
    "pipes, carets and colons": Delimiters("|", ":", "^"),
    "control characters": Delimiters("\x1d", "\x1f", "\x1c"),
    "repetitions": Delimiters("+", ">", "'", repetition="^"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_delimiters_give_the_same_events(layout: str) -> None:
    delimiters = LAYOUTS[layout]
    release = "00501" if delimiters.repetition else "00401"
    body = message("850", delimiters=delimiters, release=release)
    assert translated(body) == translated(message("850"))
    assert tokens.read(body)[0].delimiters == delimiters


def test_the_last_terminator_may_be_missing() -> None:
    body = message("850")
    assert translated(body[:-1]) == translated(body)


def test_blanks_and_blank_lines_around_segments_say_nothing() -> None:
    body = message("850", delimiters=Delimiters(line_break="\n\n"))
    assert translated(b"\xef\xbb\xbf \n" + body + b"\r\n\x1a\x00") == translated(message("850"))


def test_repetition_separator_is_a_standards_code_before_00402() -> None:
    body = message("850", delimiters=Delimiters(repetition="^"), release="00401")
    assert tokens.read(body)[0].delimiters.repetition is None


def test_separator_inside_text_that_does_not_repeat_is_text() -> None:
    """node-x12's 856 has ``-`` as separator and ``999999-001`` as a reference: only asked-for parts split."""
    delimiters = Delimiters(repetition="-")
    (event,) = translated(message("850", delimiters=delimiters, release="00406"))
    assert event.subject.key == "PO-77"
    assert delimiters.repetitions("a-b") == ["a", "b"]
    assert delimiters.components("a>b-c") == ["a", "b-c"]
    assert Delimiters().repetitions("a-b") == ("a-b",)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "does not begin with ISA"),
        (b"UNB+UNOA:1'", "does not begin with ISA"),
        (b"ISA*00*", "ISA has 7 characters, 106 are needed"),
        (message("850").replace(b"*00*          *", b"*00**", 1), "no element separator"),
        (message("850")[:105] + b"G" + message("850")[106:], "as delimiters"),
        (message("850")[:104] + b"*" + message("850")[105:], "as delimiters"),
    ],
)
def test_what_has_no_isa_is_no_interchange(body: bytes, reason: str) -> None:
    with pytest.raises(RejectedMessage, match="not an X12 interchange") as refused:
        tokens.read(body)
    assert reason in refused.value.reason
    assert refused.value.field == "ISA"


def test_several_interchanges_in_a_file_may_be_delimited_differently() -> None:
    second = interchange(("850", segments(ORDER_850)), delimiters=Delimiters("|", ":", "\n"))
    found = tokens.read(message("850") + b"\n" + second)
    assert [one.delimiters.element for one in found] == ["*", "|"]


def test_what_follows_the_last_iea_is_not_swallowed() -> None:
    with pytest.raises(RejectedMessage, match="follows interchange 1"):
        tokens.read(message("850") + b"GS*PO~")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_letters_beyond_ascii_are_kept_in_either_encoding(encoding: str) -> None:
    body = message("850", ORDER_850.replace("Blue widget", "Crème brûlée"), encoding=encoding)
    (event,) = translated(body)
    assert "Crème brûlée" in event.data_json().decode()
    assert tokens.read(body)[0].encoding == encoding


def test_oversized_file_is_refused_unread() -> None:
    with pytest.raises(RejectedMessage, match="at most"):
        tokens.read(b"ISA" + b" " * tokens.BODY_BYTES_MAX)


def test_an_isa_with_an_element_too_many_is_refused() -> None:
    """Its delimiters stand where they should, and yet an answer to it could not be read."""
    body = message("850")
    with pytest.raises(RejectedMessage, match="17 element separators"):
        tokens.read(body[:4] + b"\x00*" + body[6:])
