"""Bytes to segments and back. Everything about the syntax is told by the ISA, by position (X12.5, X12.6).

The ISA is the one segment of fixed length: 106 characters with its terminator. Character 4 separates
elements, 83 repetitions (from release 00402 on; before, it is a standards code), 105 components, and 106
ends segments. Some senders end segments with a line feed, some write line breaks after the terminator,
some leave the last terminator out: all are read, and an answer is laid out as the question was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from canonical.errors import RejectedMessage

ISA_LENGTH = 106
"""Characters of an ISA, its terminator included (X12.5)."""
ISA_WIDTHS = (2, 10, 2, 10, 2, 15, 2, 15, 6, 4, 1, 5, 9, 1, 1, 1)
"""Width of ISA01 to ISA16, in characters."""
BODY_BYTES_MAX = 16 * 1_048_576
"""More than a day of a large partner's traffic; beyond it, a file is in the wrong place."""

_REPETITION_SINCE = "00402"
_SEGMENT_ID = re.compile(r"[A-Z][A-Z0-9]{1,2}")
_LINE_BREAKS = "\r\n"
_PADDING = " \t\r\n\x00\x1a"
"""What may stand before an ISA and after an IEA: blanks, line breaks, and ends of file of older systems."""

Tokens = tuple[str, ...]
"""One segment: its identifier, then its elements, outer blanks removed."""


@dataclass(frozen=True, slots=True)
class Delimiters:
    element: str = "*"
    component: str = ">"
    segment: str = "~"
    repetition: str | None = None
    line_break: str = ""
    """What the sender writes after each segment terminator; no part of the syntax."""

    def components(self, element: str) -> Sequence[str]:
        return element.split(self.component)

    def repetitions(self, element: str) -> Sequence[str]:
        """Split only what the standard repeats: old senders use the separator as ordinary text elsewhere."""
        return element.split(self.repetition) if self.repetition else (element,)

    def join(self, segments: Iterable[Sequence[str]]) -> str:
        end = self.segment + self.line_break
        return "".join(self.element.join(segment) + end for segment in segments)


@dataclass(frozen=True, slots=True)
class Interchange:
    """An ISA and all that follows, up to its IEA or to where the file ends."""

    delimiters: Delimiters
    encoding: str
    segments: tuple[Tokens, ...]


def read(body: bytes) -> tuple[Interchange, ...]:
    """Split a file into its interchanges, at least one.

    Raises: RejectedMessage where it does not begin with a well-formed ISA.
    """
    if len(body) > BODY_BYTES_MAX:
        raise RejectedMessage(f"{len(body)} bytes; at most {BODY_BYTES_MAX}")
    text, encoding = _decoded(body)
    found: list[Interchange] = []
    rest = text.lstrip(_PADDING)
    while rest or not found:
        if found and not rest.startswith("ISA"):
            raise RejectedMessage(f"{rest[:20]!r} follows interchange {len(found)}", field="IEA")
        delimiters = _delimiters(rest)
        segments, length = _segments(rest, delimiters)
        found.append(Interchange(delimiters, encoding, segments))
        rest = rest[length:].lstrip(_PADDING)
    return tuple(found)


def _decoded(body: bytes) -> tuple[str, str]:
    """X12 is ASCII. Beyond it partners send UTF-8 or Latin-1, and the bytes themselves tell which."""
    try:
        return body.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return body.decode("latin-1"), "latin-1"


def _delimiters(text: str) -> Delimiters:
    if not text.startswith("ISA"):
        raise _no_interchange("it does not begin with ISA")
    if len(text) < ISA_LENGTH:
        raise _no_interchange(f"ISA has {len(text)} characters, {ISA_LENGTH} are needed")
    element, component, segment = text[3], text[104], text[105]
    for place in _separator_places():
        if text[place] != element:
            raise _no_interchange(f"ISA has no element separator {element!r} at character {place + 1}")
    signs = (element, component, segment)
    if len(set(signs)) < len(signs) or any(sign.isalnum() or sign == " " for sign in signs):
        raise _no_interchange(f"ISA gives {element!r}, {component!r} and {segment!r} as delimiters")
    if (many := text.count(element, 0, ISA_LENGTH)) > len(ISA_WIDTHS):
        raise _no_interchange(f"ISA has {many} element separators {element!r}, {len(ISA_WIDTHS)} are needed")
    return Delimiters(element, component, segment, _repetition(text, signs), _line_break(text, segment))


def _no_interchange(why: str) -> RejectedMessage:
    return RejectedMessage(f"not an X12 interchange: {why}", field="ISA")


def _separator_places() -> Iterator[int]:
    place = 3
    for width in ISA_WIDTHS:
        yield place
        place += 1 + width


def _repetition(text: str, taken: tuple[str, str, str]) -> str | None:
    sign, release = text[82], text[84:89]
    usable = not sign.isalnum() and sign != " " and sign not in taken
    return sign if release >= _REPETITION_SINCE and usable else None


def _line_break(text: str, segment: str) -> str:
    after = text[ISA_LENGTH : ISA_LENGTH + 2]
    found = after[: len(after) - len(after.lstrip(_LINE_BREAKS))]
    return found if segment not in _LINE_BREAKS else "\n" if (segment, found[:1]) == ("\r", "\n") else ""


def _segments(text: str, delimiters: Delimiters) -> tuple[tuple[Tokens, ...], int]:
    """The segments of one interchange, and how many characters they took."""
    found: list[Tokens] = []
    start = 0
    while start < len(text):
        end = text.find(delimiters.segment, start)
        end = len(text) if end < 0 else end
        raw = text[start:end].strip(_LINE_BREAKS)
        start = end + 1
        if not raw.strip():
            continue
        found.append(_tokens(raw, delimiters, len(found) + 1))
        if found[-1][0] == "IEA":
            break
    return tuple(found), start


def _tokens(raw: str, delimiters: Delimiters, number: int) -> Tokens:
    identifier, *elements = raw.split(delimiters.element)
    if not _SEGMENT_ID.fullmatch(identifier):
        raise RejectedMessage(f"segment {number} begins with {identifier[:20]!r}, no segment identifier")
    return (identifier, *(element.strip() for element in elements))
