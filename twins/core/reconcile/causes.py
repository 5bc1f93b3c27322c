"""Why a difference is likely there: the first rule that its evidence fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from canonical.postings import Account, Action
from twins.core.gaps import Gap
from twins.core.ledger import Record, Status
from twins.core.reconcile.difference import Kind

if TYPE_CHECKING:
    from twins.core.reconcile.documents import Held

E = TypeVar("E")
Rules = Sequence[tuple[Callable[[E], bool], Callable[[E], str]]]


def likely(rules: Rules[E], evidence: E) -> str:
    return next((say(evidence) for fits, say in rules if fits(evidence)), "unknown")


# --- documents -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DocumentEvidence:
    record: Record | None
    found: Held | None
    """The document in question."""
    held: Sequence[Held]
    """All documents of that version."""
    off: Mapping[Account, tuple[Decimal, Decimal]]

    @property
    def status(self) -> Status | None:
        return self.record.status if self.record is not None else None


def _always(evidence: object) -> bool:
    return True


def _number(one: DocumentEvidence) -> str | None:
    return one.record.document if one.record is not None else None


def _reversal(one: DocumentEvidence) -> str:
    found = [held.document for held in one.held if held.action is Action.REVERSE]
    return f" as {', '.join(found)}" if found else ""


_TAXED = frozenset({Account.TAX, Account.RECEIVABLE})

DOCUMENT_CAUSES: Mapping[Kind, Rules[DocumentEvidence]] = {
    Kind.DOCUMENT_MISSING: (
        (
            lambda one: _number(one) is not None,
            lambda one: f"the ERP confirmed it as {_number(one)} and has it no longer: deleted there",
        ),
        (_always, lambda one: "it was confirmed without a number, and is not there"),
    ),
    Kind.REVERSED_ELSEWHERE: (
        (_always, lambda one: f"reversed in the ERP{_reversal(one)}; nobody here asked for it"),
    ),
    Kind.DOCUMENT_ORPHANED: (
        (
            lambda one: one.record is None,
            lambda one: "nobody here asked for it: entered by hand or by another system under our key",
        ),
        (
            lambda one: (
                one.status is Status.REVERSED and one.record is not None and bool(one.record.reversal)
            ),
            lambda one: (
                f"its reversal {one.record.reversal if one.record else ''} is gone from the ERP, "
                "or it was posted again"
            ),
        ),
        (
            lambda one: one.status is Status.ANNULLED,
            lambda one: "annulled here before it was sent, and made there all the same",
        ),
        (
            lambda one: one.status is Status.REJECTED,
            lambda one: "the ERP refused it and posted it all the same, and it is wanted no more",
        ),
        (
            lambda one: one.status is Status.LOST,
            lambda one: "it was believed lost and posted anew; it has come back",
        ),
        (_always, lambda one: "we have reversed it; it stands there again"),
    ),
    Kind.DOCUMENT_DOUBLED: (
        (_always, lambda one: "told twice under one key by somebody who did not look it up"),
    ),
    Kind.AMOUNTS_DIFFER: (
        (lambda one: one.off.keys() <= _TAXED, lambda one: "the ERP computed the tax by rules of its own"),
        (_always, lambda one: "altered in the ERP after it was posted, or posted otherwise than told"),
    ),
    Kind.DOCUMENT_NUMBER_DIFFERS: (
        (
            _always,
            lambda one: (
                f"{_number(one)} was deleted and entered anew, or the ERP was restored and renumbered"
            ),
        ),
    ),
    Kind.CONFIRMATION_LOST: (
        (
            lambda one: one.status is Status.REJECTED,
            lambda one: "the ERP refused it, and posted it all the same",
        ),
        (_always, lambda one: "the ERP has done it; its answer never reached us"),
    ),
}


# --- shelves ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShelfEvidence:
    """What is known about a shelf of which somebody else says something else."""

    surplus: Decimal
    """Theirs less ours."""
    gaps: Sequence[Gap] = ()
    """Numbers left out by sources that speak of this shelf."""
    moved: Mapping[str, Decimal] = field(default_factory=dict)
    """Posting key → what it moved on this shelf, of those that stand with us."""
    counted_at: datetime | None = None
    agreed_before_count: bool = False
    """What we believed just before our last count is what they say."""

    @property
    def doubled(self) -> list[str]:
        """Documents of exactly the missing quantity."""
        return sorted(key for key, each in self.moved.items() if each == -self.surplus)


def gap_text(gap: Gap) -> str:
    numbers = f"{gap.first}" if gap.missing == 1 else f"{gap.first} to {gap.last}"
    return f"a message was lost: {gap.source} left out {numbers}"


SHELF_CAUSES: Rules[ShelfEvidence] = (
    (lambda one: bool(one.gaps), lambda one: gap_text(one.gaps[0])),
    (
        lambda one: one.agreed_before_count,
        lambda one: f"our count of {one.counted_at:%Y-%m-%d %H:%M} is not theirs",
    ),
    (
        lambda one: len(one.doubled) == 1,
        lambda one: f"exactly what {one.doubled[0]} moved: they have not booked it, or we have it twice",
    ),
    (_always, lambda one: "nothing here tells: a movement that one side lacks, to be counted"),
)


# --- balances and orders ---------------------------------------------------------------------------------

JOURNALLED = "an entry in the ERP that belongs to none of our documents"
UNKNOWN_TO_OMS = "it was deleted in the OMS, or the snapshot leaves it out"


def order_cause(gaps: Sequence[Gap], otherwise: str) -> str:
    return gap_text(gaps[0]) if gaps else otherwise
