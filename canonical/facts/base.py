"""What all facts share."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from canonical.identity import Kind
from canonical.types import Identifier, Text


class Rank(IntEnum):
    """Place of a fact in its twin's natural life: the tie-break between facts of the same moment."""

    MASTER = 0
    ORIGIN = 10
    AMENDMENT = 20
    CHECK = 30
    HOLD = 32
    HOLD_END = 34
    ALLOCATION = 40
    RELEASE = 50
    PICK = 60
    SUBSTITUTION = 62
    PACK = 64
    DISPATCH = 70
    VOID = 75
    SCAN = 80
    CANCEL_REQUEST = 82
    CANCEL_ANSWER = 84
    CANCEL = 86
    PAYMENT = 90
    CAPTURE = 92
    RETURN_REQUEST = 100
    RETURN_ANSWER = 102
    RETURN_RECEIPT = 104
    RETURN_INSPECTION = 106
    RETURN_END = 108
    REFUND = 110
    BILL = 120
    COUNT = 130
    REPLY = 140
    RETRACTION = 150


T = TypeVar("T", bound="Part")

_CLOSED = ConfigDict(extra="forbid")


class Part:
    """A piece of a fact, such as a line. What holds for all of them is added by `closed`."""

    __slots__ = ()

    ADAPTER: ClassVar[TypeAdapter[Any]]
    """Reads and writes it, as JSON or as plain values."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def closed(part: type[T]) -> type[T]:
    """Make a frozen dataclass with slots, which checks what it is given, by name, and takes no other."""
    made = cast(type[T], dataclass(frozen=True, slots=True, kw_only=True, config=_CLOSED)(part))
    made.ADAPTER = TypeAdapter(made)
    return made


class Fact(Part):
    """What happened, told by one source, about one twin."""

    __slots__ = ()

    TYPE: ClassVar[str]
    """CloudEvents ``type``, with its major version."""
    KINDS: ClassVar[frozenset[Kind]]
    """Kinds of twin that take the fact."""
    RANK: ClassVar[Rank]


@closed
class Retracted(Fact):
    """Another event never happened, or was told wrongly (EPCIS 2.0 ``errorDeclaration``, 7.4.1.2)."""

    TYPE = "io.twinsync.twin.retracted.v1"
    KINDS = frozenset(Kind)
    RANK = Rank.RETRACTION

    source: Text
    """``source`` of the event that is taken back."""
    id: Text
    reason: Identifier = "did_not_occur"
    """``did_not_occur`` or ``incorrect_data``."""
    corrective_ids: tuple[Identifier, ...] = ()
