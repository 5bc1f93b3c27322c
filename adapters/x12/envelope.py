"""Interchange, functional groups and transaction sets, and whether their trailers agree with them.

Two steps: `structured` reads any sequence of segments into the tree and notes what is wrong as `Fault`s, so
that a broken interchange can still be answered; `check` refuses the first fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from adapters.x12 import tokens
from adapters.x12.segments import Segment
from adapters.x12.tokens import Delimiters, Tokens
from canonical.errors import RejectedMessage

FUNCTIONAL_ACKNOWLEDGEMENTS = "FA"
"""GS01 of a group of 997s, which are never acknowledged themselves."""


@dataclass(frozen=True, slots=True)
class Fault:
    """*code* is of the level's own list: I18 for an interchange, 716 for a group, 718 for a set."""

    reason: str
    field: str
    code: str


@dataclass(frozen=True, slots=True)
class TransactionSet:
    """*segments* run from ST to SE; a set without an SE ends before the segment that should not be there."""

    segments: tuple[Segment, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def id(self) -> str:
        return self.segments[0][1]

    @property
    def control_number(self) -> str:
        return self.segments[0][2]

    @property
    def body(self) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments[1:] if segment.id != "SE")


@dataclass(frozen=True, slots=True)
class Group:
    header: Segment
    trailer: Segment | None
    sets: tuple[TransactionSet, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def functional_id(self) -> str:
        return self.header[1]

    @property
    def control_number(self) -> str:
        return self.header[6]


@dataclass(frozen=True, slots=True)
class Interchange:
    delimiters: Delimiters
    encoding: str
    header: Segment
    trailer: Segment | None
    groups: tuple[Group, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def control_number(self) -> str:
        return self.header[13]

    @property
    def sets(self) -> Iterator[TransactionSet]:
        return chain.from_iterable(group.sets for group in self.groups)

    @property
    def all_faults(self) -> Iterator[Fault]:
        """In the order of the file: sets, then their group, then the interchange."""
        for group in self.groups:
            for one in group.sets:
                yield from one.faults
            yield from group.faults
        yield from self.faults


def read(body: bytes) -> tuple[Interchange, ...]:
    """Read a file, sound or not. Raises: RejectedMessage where it is no X12 at all."""
    return tuple(structured(interchange) for interchange in tokens.read(body))


def check(interchange: Interchange) -> None:
    """Raises: RejectedMessage naming the first segment at fault, what it says and what was found."""
    for fault in interchange.all_faults:
        raise RejectedMessage(fault.reason, field=fault.field)


# --- structure -------------------------------------------------------------------------------------------


def structured(interchange: tokens.Interchange) -> Interchange:
    tree = _Tree()
    for segment in interchange.segments[1:]:
        tree.take(segment)
    tree.close_group()
    header = Segment("ISA", interchange.segments[0][1:])
    groups = tuple(tree.groups)
    faults = (*tree.strays, *_interchange_faults(header, tree.trailer, groups))
    return Interchange(interchange.delimiters, interchange.encoding, header, tree.trailer, groups, faults)


@dataclass(slots=True)
class _Tree:
    """The interchange as far as it is read. What does not belong where it stands is a stray."""

    groups: list[Group] = field(default_factory=list)
    strays: list[Fault] = field(default_factory=list)
    trailer: Segment | None = None
    _header: Segment | None = None
    _sets: list[TransactionSet] = field(default_factory=list)
    _set: list[Tokens] = field(default_factory=list)

    def take(self, segment: Tokens) -> None:
        match segment[0]:
            case "ST":
                self._open_set(segment)
            case "SE" if self._set:
                self._set.append(segment)
                self._close_set()
            case "GS":
                self.close_group()
                self._header = Segment("GS", segment[1:])
            case "GE" if self._header is not None:
                self.close_group(Segment("GE", segment[1:]))
            case "IEA":
                self.close_group()
                self.trailer = Segment("IEA", segment[1:])
            case "TA1" if self._header is None:
                pass
            case "SE" | "GE" | "ISA":
                self._stray(segment)
            case _ if self._set:
                self._set.append(segment)
            case _:
                self._stray(segment)

    def _open_set(self, segment: Tokens) -> None:
        self._close_set()
        if self._header is None:
            self._stray(segment)
        else:
            self._set = [segment]

    def _close_set(self) -> None:
        if self._set:
            self._sets.append(_transaction_set(self._set))
        self._set = []

    def close_group(self, trailer: Segment | None = None) -> None:
        self._close_set()
        if self._header is not None:
            sets = tuple(self._sets)
            faults = tuple(_group_faults(self._header, trailer, sets))
            self.groups.append(Group(self._header, trailer, sets, faults))
        self._header, self._sets = None, []

    def _stray(self, segment: Tokens) -> None:
        where = "outside any transaction set" if self._header is not None else "outside any functional group"
        self.strays.append(Fault(f"{segment[0]} stands {where}", segment[0], INVALID_CONTENT))


def _transaction_set(raw: Sequence[Tokens]) -> TransactionSet:
    seen: Counter[str] = Counter()
    segments: list[Segment] = []
    for position, segment in enumerate(raw, start=1):
        seen[segment[0]] += 1
        segments.append(Segment(segment[0], segment[1:], position, seen[segment[0]]))
    return TransactionSet(tuple(segments), tuple(_set_faults(segments)))


# --- checks ----------------------------------------------------------------------------------------------

CONTROL_NUMBERS_DIFFER = "001"
INVALID_CONTROL_NUMBER = "018"
INVALID_GROUP_COUNT = "021"
UNEXPECTED_END = "023"
INVALID_CONTENT = "024"
"""Element I18, interchange note code."""


def _set_faults(segments: Sequence[Segment]) -> Iterator[Fault]:
    """Codes of element 718."""
    header, trailer = segments[0], segments[-1]
    name = f"the set {header[2]}"
    if not header[1]:
        yield Fault("missing", "ST01", "6")
    if not header[2]:
        yield Fault("missing", "ST02", "7")
    if trailer.id != "SE":
        yield Fault(f"{name} has no SE", "SE", "2")
        return
    if not _counts(trailer[1], len(segments)):
        yield Fault(f"SE01 says {trailer[1]} segments, {name} has {len(segments)}", "SE01", "4")
    if trailer[2] != header[2]:
        yield Fault(f"SE02 says {trailer[2]}, ST02 {header[2]}", "SE02", "3")


def _group_faults(
    header: Segment, trailer: Segment | None, sets: Sequence[TransactionSet]
) -> Iterator[Fault]:
    """Codes of element 716."""
    name = f"the group {header[6]}"
    if not _is_count(header[6]):
        yield Fault(f"expected a control number, got {header[6][:20]!r}", "GS06", "6")
    if trailer is None:
        yield Fault(f"{name} has no GE", "GE", "3")
        return
    if not _counts(trailer[1], len(sets)):
        yield Fault(f"GE01 says {trailer[1]} transaction sets, {name} has {len(sets)}", "GE01", "5")
    if not _same_number(trailer[2], header[6]):
        yield Fault(f"GE02 says {trailer[2]}, GS06 {header[6]}", "GE02", "4")


def _interchange_faults(header: Segment, trailer: Segment | None, groups: Sequence[Group]) -> Iterator[Fault]:
    name = f"the interchange {header[13]}"
    if not _is_count(header[13]):
        yield Fault(f"expected a control number, got {header[13]!r}", "ISA13", INVALID_CONTROL_NUMBER)
    if trailer is None:
        yield Fault(f"{name} has no IEA", "IEA", UNEXPECTED_END)
        return
    if not _counts(trailer[1], len(groups)):
        reason = f"IEA01 says {trailer[1]} functional groups, {name} has {len(groups)}"
        yield Fault(reason, "IEA01", INVALID_GROUP_COUNT)
    if not _same_number(trailer[2], header[13]):
        yield Fault(f"IEA02 says {trailer[2]}, ISA13 {header[13]}", "IEA02", CONTROL_NUMBERS_DIFFER)


def _is_count(said: str) -> bool:
    return said.isascii() and said.isdigit()


def _counts(said: str, found: int) -> bool:
    return _is_count(said) and (said.lstrip("0") or "0") == str(found)


def _same_number(one: str, other: str) -> bool:
    """Control numbers of groups and interchanges are N0: leading zeros say nothing."""
    if _is_count(one) and _is_count(other):
        return one.lstrip("0") == other.lstrip("0")
    return one == other
