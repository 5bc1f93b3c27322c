"""What an ERP answers. Replies are registers beside the fold, keyed by posting and version."""

from __future__ import annotations

from datetime import date
from typing import Literal

from canonical.facts.base import Fact, Rank, closed
from canonical.identity import Kind
from canonical.types import Identifier, Text, Whole

_OWNERS = frozenset({Kind.ORDER, Kind.SHIPMENT, Kind.STOCK})


@closed
class PostingConfirmed(Fact):
    """The ERP holds the document, or its reversal."""

    TYPE = "io.twinsync.erp.posting-confirmed.v1"
    KINDS = _OWNERS
    RANK = Rank.REPLY

    posting_key: Text
    version: Whole
    action: Literal["post", "reverse"]
    document: Text
    """The ERP's document number."""


@closed
class PostingRejected(Fact):
    TYPE = "io.twinsync.erp.posting-rejected.v1"
    KINDS = _OWNERS
    RANK = Rank.REPLY

    posting_key: Text
    version: Whole
    action: Literal["post", "reverse"]
    reason: Text
    again: int = 0
    """How often the command had been sent again by hand."""


@closed
class PostingAnnulled(Fact):
    """The gateway dropped a command, and the reversal that followed it, before either was sent."""

    TYPE = "io.twinsync.erp.posting-annulled.v1"
    KINDS = _OWNERS
    RANK = Rank.REPLY

    posting_key: Text
    version: Whole


@closed
class PostingLost(Fact):
    """The ERP has confirmed the document and holds it no longer: what is still desired is posted anew."""

    TYPE = "io.twinsync.erp.posting-lost.v1"
    KINDS = _OWNERS
    RANK = Rank.REPLY

    posting_key: Text
    version: int
    reason: Text


@closed
class PostingResent(Fact):
    """A person wants what the ERP refused to be told again: a post as its next version, a reversal as it is.

    It answers one refusal. Repeated, or told by two people, it does nothing more.
    """

    TYPE = "io.twinsync.erp.posting-resent.v1"
    KINDS = _OWNERS
    RANK = Rank.REPLY

    posting_key: Text
    version: int
    action: Literal["post", "reverse"]
    again: int = 0
    """That of the refusal."""
    request: Identifier
    """Chosen by who asks; the same request twice is one."""
    by: Text


@closed
class PeriodClosed(Fact):
    """Nothing may be posted up to and including this day; later postings keep their event date."""

    TYPE = "io.twinsync.erp.period-closed.v1"
    KINDS = frozenset({Kind.ERP})
    RANK = Rank.MASTER

    closed_through: date
    company: Identifier = "main"
