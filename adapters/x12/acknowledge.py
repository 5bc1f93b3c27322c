"""The 997 Functional Acknowledgment: what we answer to an interchange, sound or refused.

A message is taken as a whole or not at all, so every set of it is accepted (AK5*A) or every one is rejected
(AK5*R); the codes stand with those that are to blame, and E and P (accepted in part) are never said. Each
group is answered to the application that sent it (GS02), in its release; a group of 997s is not, since that
would never end. Interchange faults belong in a TA1, which is also sent where the sender asks for one
(ISA14 = 1).

Nothing here reads a clock or counts: control numbers and times mirror those of the interchange answered,
unless they are given. The same message is answered with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from adapters.x12.envelope import FUNCTIONAL_ACKNOWLEDGEMENTS, Group, Interchange, TransactionSet
from adapters.x12.segments import MISSING, RefusedSet, Segment
from adapters.x12.tokens import ISA_WIDTHS
from canonical.errors import RejectedMessage

ACCEPTED, REJECTED = "A", "R"
"""Elements 717 (AK501), 715 (AK901) and I17 (TA104)."""
SET_NOT_SUPPORTED = "1"
SEGMENTS_IN_ERROR = "5"
"""Element 718, transaction set syntax error code, for what is wrong inside a set."""

_NO_ERROR = "000"
_MANDATORY_SEGMENT_MISSING = "3"
_DATA_ELEMENT_ERRORS = "8"
"""Element 720, segment syntax error code."""
_BAD_ELEMENT_LENGTH = 99
"""AK404, copy of the bad data element."""
_ERROR_CODES_MAX = 5
"""AK502 to AK506, and AK905 to AK909."""

_CONTROL_NUMBERS = 10**9
"""Element 28 has up to nine digits."""

_Segment = Sequence[str]
_Answer = tuple[Group, Sequence[_Segment]]
"""A group, and what its 997 says between ST and SE."""
RefusalOf = Callable[[TransactionSet], RejectedMessage | None]


def acceptance(
    interchange: Interchange, *, control_number: str | None = None, at: datetime | None = None
) -> bytes | None:
    """Accept all of a sound interchange; nothing where there is nothing to answer."""
    groups = [(group, _accepted(group)) for group in _answered(interchange)]
    asked = interchange.header[14] == "1"
    ta1 = [_ta1(interchange, ACCEPTED, _NO_ERROR)] if asked else []
    return _written(interchange, ta1, groups, control_number, at)


def rejection(
    interchange: Interchange,
    refusal: RefusalOf,
    *,
    control_number: str | None = None,
    at: datetime | None = None,
) -> bytes | None:
    """Reject all of an interchange. *refusal* tells what is wrong inside a set, where something is."""
    groups = [(group, _rejected(group, refusal)) for group in _answered(interchange)]
    ta1: list[_Segment] = []
    if interchange.faults:
        ta1 = [_ta1(interchange, REJECTED, interchange.faults[0].code)]
    elif interchange.header[14] == "1":
        ta1 = [_ta1(interchange, ACCEPTED, _NO_ERROR)]
    return _written(interchange, ta1, groups, control_number, at)


def _answered(interchange: Interchange) -> list[Group]:
    return [group for group in interchange.groups if group.functional_id != FUNCTIONAL_ACKNOWLEDGEMENTS]


def _ta1(interchange: Interchange, code: str, note: str) -> _Segment:
    isa = interchange.header
    return ("TA1", isa[13], isa[9], isa[10], code, note)


# --- one 997 a group -------------------------------------------------------------------------------------


def _accepted(group: Group) -> list[_Segment]:
    count = str(len(group.sets))
    answers: list[_Segment] = []
    for one in group.sets:
        answers += [("AK2", one.id, one.control_number), ("AK5", ACCEPTED)]
    return [_ak1(group), *answers, ("AK9", ACCEPTED, count, count, count)]


def _rejected(group: Group, refusal: RefusalOf) -> list[_Segment]:
    answers: list[_Segment] = []
    for one in group.sets:
        answers += _rejected_set(one, refusal(one))
    received = str(len(group.sets))
    included = group.trailer[1] if group.trailer is not None else ""
    codes = _codes(fault.code for fault in group.faults)
    totals = (included if included.isdigit() else received, received, "0")
    return [_ak1(group), *answers, ("AK9", REJECTED, *totals, *codes)]


def _ak1(group: Group) -> _Segment:
    return ("AK1", group.functional_id, group.control_number)


def _rejected_set(one: TransactionSet, refusal: RejectedMessage | None) -> Iterator[_Segment]:
    yield "AK2", one.id, one.control_number
    codes = [fault.code for fault in one.faults]
    if refusal is not None:
        codes.append(SET_NOT_SUPPORTED if refusal.field == "ST01" else SEGMENTS_IN_ERROR)
    if isinstance(refusal, RefusedSet) and refusal.field != "ST01":
        yield from _notes(one, refusal)
    yield "AK5", REJECTED, *_codes(codes)


def _notes(one: TransactionSet, refusal: RefusedSet) -> Iterator[_Segment]:
    """AK3 for the segment at fault, AK4 for its element. The place of a missing one is where the set ends."""
    if not refusal.position:
        yield "AK3", refusal.segment_id, str(len(one.segments)), "", _MANDATORY_SEGMENT_MISSING
        return
    yield "AK3", refusal.segment_id, str(refusal.position), "", _DATA_ELEMENT_ERRORS
    if refusal.element:
        copy = () if refusal.code == MISSING else (refusal.value[:_BAD_ELEMENT_LENGTH],)
        yield "AK4", str(refusal.element), "", refusal.code, *copy


def _codes(codes: Iterable[str]) -> Sequence[str]:
    return tuple(dict.fromkeys(codes))[:_ERROR_CODES_MAX]


# --- envelope of the answer ------------------------------------------------------------------------------


def _written(
    interchange: Interchange,
    ta1: Sequence[_Segment],
    groups: Sequence[_Answer],
    control_number: str | None,
    at: datetime | None,
) -> bytes | None:
    if not groups and (interchange.groups or not ta1):
        return None
    number = control_number or _mirrored(interchange.control_number)
    alike = _alike(groups)
    segments = [_isa(interchange, number, at), *ta1]
    for index, together in enumerate(alike):
        segments += _group(together, _group_number(number, index), at)
    segments.append(("IEA", str(len(alike)), number.zfill(9)))
    return interchange.delimiters.join(segments).encode(interchange.encoding)


def _alike(groups: Sequence[_Answer]) -> list[list[_Answer]]:
    """Answers that one group holds: to the same application, from the same, in the same release."""
    found: dict[tuple[str, str, str], list[_Answer]] = {}
    for one in groups:
        gs = one[0].header
        found.setdefault((gs[2], gs[3], _release(gs)), []).append(one)
    return list(found.values())


def _release(gs: Segment) -> str:
    return gs[8][:6]


def _group_number(number: str, index: int) -> str:
    """That of the interchange, and the next ones."""
    return str((int(number) + index) % _CONTROL_NUMBERS)


def _mirrored(control_number: str) -> str:
    return control_number if control_number.isascii() and control_number.isdigit() else "1"


def _isa(interchange: Interchange, number: str, at: datetime | None) -> _Segment:
    """Sender and receiver change places; no passwords are answered, and no TA1 is asked for."""
    isa = interchange.header
    day, hour = (f"{at:%y%m%d}", f"{at:%H%M}") if at is not None else (isa[9], isa[10])
    parties = (isa[7], isa[8], isa[5], isa[6])
    syntax = (isa[11], isa[12], number.zfill(9), "0", isa[15], interchange.delimiters.component)
    elements = ("00", "", "00", "", *parties, day, hour, *syntax)
    return ("ISA", *(text.ljust(width) for text, width in zip(elements, ISA_WIDTHS, strict=True)))


def _group(answers: Sequence[_Answer], control: str, at: datetime | None) -> Iterator[_Segment]:
    received = answers[0][0].header
    day, hour = (f"{at:%Y%m%d}", f"{at:%H%M}") if at is not None else (received[4], received[5])
    release = _release(received)
    yield "GS", FUNCTIONAL_ACKNOWLEDGEMENTS, received[3], received[2], day, hour, control, "X", release
    for index, (_, answer) in enumerate(answers, start=1):
        name = f"{index:04}"
        yield "ST", "997", name
        yield from answer
        yield "SE", str(len(answer) + 2), name
    yield "GE", str(len(answers)), control
