"""A segment, and its elements read as what the standard says they are. Refusals name segment and element.

Types of X12.6: AN text, ID code, R decimal with an explicit point, N2 whole number with two implied decimals,
DT date, TM time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import pairwise

from canonical.errors import RejectedMessage

NUMBER_DIGITS_MAX = 18
"""The longest R element of the standard (782, monetary amount)."""
CENTURY_TURN = 70
"""Two-digit years (releases before 00401) below this are of the 21st century."""

_R = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_HEADERS = frozenset(
    ("ISA", "IEA", "GS", "GE", "ST", "SE", "B10", "BEG", "BSN", "W05", "W06", "W17", "BIA", "BIG", "CUR")
)
"""Segments that occur once, so that their references need no index."""

MISSING = "1"
INVALID_CHARACTER = "6"
INVALID_CODE = "7"
INVALID_DATE = "8"
INVALID_TIME = "9"
"""Element 723, data element syntax error code."""


class RefusedSet(RejectedMessage):
    """What a set says cannot be taken. Carries what AK3 and AK4 of a 997 say about it.

    *position* counts from the ST, which is 1; 0 where a segment is missing. *element* is 0 where the segment
    as a whole is at fault.
    """

    def __init__(
        self,
        reason: str,
        field: str,
        segment_id: str,
        position: int,
        element: int = 0,
        code: str = "",
        value: str = "",
    ) -> None:
        super().__init__(reason, field=field)
        self.segment_id = segment_id
        self.position = position
        self.element = element
        self.code = code
        self.value = value

    def within(self, control_number: str) -> RefusedSet:
        """The same refusal, naming the set (ST02) as well."""
        reason = f"set {control_number}: {self.reason}"
        where = (self.segment_id, self.position, self.element, self.code, self.value)
        return RefusedSet(reason, self.field, *where)


@dataclass(frozen=True, slots=True)
class Segment:
    id: str
    elements: tuple[str, ...]
    position: int = 1
    """Place in its transaction set; the ST is 1."""
    occurrence: int = 1
    """How many segments of this identifier the set has up to here."""

    def __getitem__(self, number: int) -> str:
        """Element by its number in the standard, from 1; empty where the sender left it out."""
        return self.elements[number - 1] if number <= len(self.elements) else ""

    def label(self, element: int = 0) -> str:
        """``PO1[3].02``; ``BEG03`` for what occurs only once."""
        if self.id in _HEADERS:
            return f"{self.id}{element:02}" if element else self.id
        name = f"{self.id}[{self.occurrence}]"
        return f"{name}.{element:02}" if element else name

    def refuse(self, reason: str, element: int = 0, code: str = INVALID_CODE) -> RefusedSet:
        value = self[element] if element else ""
        return RefusedSet(reason, self.label(element), self.id, self.position, element, code, value)

    def text(self, number: int) -> str:
        """A mandatory AN. Raises: RefusedSet."""
        if not self[number]:
            raise self.refuse("missing", number, MISSING)
        return self[number]

    def code(self, number: int, known: Collection[str]) -> str:
        """A mandatory ID of which only some codes can be taken. Raises: RefusedSet naming those."""
        said = self.text(number)
        if said not in known:
            raise self.refuse(f"says {said!r}; read are {', '.join(sorted(known))}", number)
        return said

    def number(self, number: int) -> Decimal:
        """A mandatory R. Raises: RefusedSet."""
        said = self.text(number)
        if not _R.fullmatch(said) or len(said) > NUMBER_DIGITS_MAX + 2:
            raise self.refuse(f"expected a number, got {said[:40]!r}", number, INVALID_CHARACTER)
        return Decimal(said)

    def quantity(self, number: int) -> Decimal:
        """A mandatory R that counts goods. Raises: RefusedSet, also for a negative one."""
        found = self.number(number)
        if found < 0:
            raise self.refuse(f"expected a quantity, got {found}", number)
        return found

    def cents(self, number: int) -> Decimal:
        """A mandatory N2, in units of its currency: ``7500`` is 75.00. A point, where written, rules."""
        found = self.number(number)
        return found if "." in self[number] else found.scaleb(-2)

    def date(self, number: int) -> date:
        """A mandatory DT, CCYYMMDD or YYMMDD. Raises: RefusedSet."""
        said = self.text(number)
        found = _date(said)
        if found is None:
            raise self.refuse(f"expected a date CCYYMMDD, got {said[:40]!r}", number, INVALID_DATE)
        return found

    def time(self, number: int) -> time | None:
        """An optional TM, HHMM to HHMMSSDD. Raises: RefusedSet."""
        said = self[number]
        found = _time(said)
        if said and found is None:
            raise self.refuse(f"expected a time HHMM, got {said[:40]!r}", number, INVALID_TIME)
        return found

    def pairs(self, *starts: int) -> Iterator[tuple[str, str]]:
        """Qualifier and value of the pairs that begin at these elements, where both are given."""
        for start in starts:
            if self[start] and self[start + 1]:
                yield self[start], self[start + 1]


def _digits(said: str, lengths: Collection[int]) -> bool:
    return len(said) in lengths and said.isascii() and said.isdigit()


def _date(said: str) -> date | None:
    if not _digits(said, (6, 8)):
        return None
    year = int(said[:-4])
    if len(said) == 6:
        year += 2000 if year < CENTURY_TURN else 1900
    try:
        return date(year, int(said[-4:-2]), int(said[-2:]))
    except ValueError:
        return None


def _time(said: str) -> time | None:
    if not _digits(said, (4, 6, 7, 8)):
        return None
    fraction_us = int(said[6:].ljust(2, "0")) * 10_000
    try:
        return time(int(said[:2]), int(said[2:4]), int(said[4:6] or 0), fraction_us)
    except ValueError:
        return None


def missing(segment_id: str, what: str = "missing") -> RefusedSet:
    """A mandatory segment that the set does not have."""
    return RefusedSet(what, segment_id, segment_id, 0)


def first(segments: Iterable[Segment], segment_id: str, *qualifiers: str) -> Segment | None:
    """The first segment of that identifier; with *qualifiers*, the one whose first element ranks best."""
    found = [segment for segment in segments if segment.id == segment_id]
    if not qualifiers:
        return found[0] if found else None
    ranked = (segment for qualifier in qualifiers for segment in found if segment[1] == qualifier)
    return next(ranked, None)


def only(segments: Iterable[Segment], segment_id: str) -> Segment:
    """A mandatory segment. Raises: RefusedSet naming it."""
    found = first(segments, segment_id)
    if found is None:
        raise missing(segment_id)
    return found


def loops(segments: Sequence[Segment], *starts: str) -> list[tuple[Segment, ...]]:
    """Cut where a segment begins a loop; what stands before the first one is left out."""
    places = [index for index, segment in enumerate(segments) if segment.id in starts]
    return [tuple(segments[place:end]) for place, end in pairwise((*places, len(segments)))]


def before(segments: Sequence[Segment], *starts: str) -> tuple[Segment, ...]:
    """The heading: what stands before the first loop."""
    places = (index for index, segment in enumerate(segments) if segment.id in starts)
    return tuple(segments[: next(places, len(segments))])
