"""What all facts share."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

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


_SPELLED_OUT: set[str] = set()


class Part(BaseModel):
    """A piece of a fact, such as a line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_post_init(self, context: Any, /) -> None:
        """Share one record of which fields were spelled out: a default means the same told or left out.

        Pydantic keeps a set in each instance, half a kilobyte for a line of an order that stays in memory.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _SPELLED_OUT)


class Fact(Part):
    """What happened, told by one source, about one twin."""

    TYPE: ClassVar[str]
    """CloudEvents ``type``, with its major version."""
    KINDS: ClassVar[frozenset[Kind]]
    """Kinds of twin that take the fact."""
    RANK: ClassVar[Rank]


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
