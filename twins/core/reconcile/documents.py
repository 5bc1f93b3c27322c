"""The documents of one posting key: what the ledger says of them, and what the ERP holds.

Rules
- Each version is compared by itself. Reversals tell whether what they reverse is live, and nothing more.
- What is on its way is no difference: a version that is queued or being reversed is left alone until it has
  been so since before *settled_before*, and then only where the ERP has done what we still wait for.
- Amounts are compared as far as the posting says them, not on accounts that the ERP values by its costing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from canonical.identity import PostingKey, TwinRef
from canonical.money import ZERO
from canonical.movements import Shelf, movements
from canonical.postings import Account, Action, Entry, Posting, entries
from twins.core.ledger import Record, Status
from twins.core.reconcile.causes import DOCUMENT_CAUSES, DocumentEvidence, likely
from twins.core.reconcile.difference import Confirm, Corrections, Difference, Kind, Resend, Reverse


class Held(Protocol):
    """A document as an ERP holds it; see twins.ports.HeldDocument."""

    @property
    def document(self) -> str: ...
    @property
    def posting_key(self) -> PostingKey: ...
    @property
    def version(self) -> int: ...
    @property
    def action(self) -> Action: ...
    @property
    def live(self) -> bool: ...
    @property
    def amounts(self) -> Mapping[Account, Decimal]: ...


@dataclass(frozen=True, slots=True)
class Filed:
    """One record of the ledger: whose it is, and since when it stands as it does."""

    owner: TwinRef
    record: Record
    since: datetime


def compared(
    key: PostingKey, filed: Sequence[Filed], held: Sequence[Held], *, erp: str, settled_before: datetime
) -> Iterator[Difference]:
    """*filed*: all versions of the key, ascending; *held*: all of its documents, reversals too."""
    ours = {one.record.version: one for one in filed}
    for version in sorted(ours.keys() | {one.version for one in held}):
        of_version = [one for one in held if one.version == version]
        is_last = bool(filed) and version == filed[-1].record.version
        found = _Version(key, version, ours.get(version), of_version, is_last, erp, settled_before)
        yield from found.differences()


@dataclass(frozen=True, slots=True)
class _Version:
    key: PostingKey
    version: int
    filed: Filed | None
    held: Sequence[Held]
    is_last: bool
    erp: str
    settled_before: datetime

    def differences(self) -> Iterator[Difference]:
        match self.filed.record.status if self.filed is not None else None:
            case Status.CONFIRMED:
                yield from self._confirmed()
            case Status.QUEUED | Status.REVERSING:
                yield from self._waiting()
            case Status.REJECTED if self.is_last and self.live and not self._amounts_off(self.live[0]):
                yield self._lost_confirmation("post", self.live[0])
                yield from self._doubles(self.live[0])
            case _:
                for one in self.live:
                    yield self._difference(Kind.DOCUMENT_ORPHANED, one, (self._reversed(one),))

    @property
    def live(self) -> list[Held]:
        return [one for one in self.held if one.live]

    def _confirmed(self) -> Iterator[Difference]:
        assert self.filed is not None
        number = self.filed.record.document
        if not self.live:
            kind = Kind.REVERSED_ELSEWHERE if self.held else Kind.DOCUMENT_MISSING
            yield self._difference(kind, None, (self._resent("it is not there any more"),))
            return
        kept = next((one for one in self.live if one.document == number), self.live[0])
        anew = (self._reversed(kept), self._resent("it was reversed, to be posted as it should be"))
        if self._amounts_off(kept):
            yield self._difference(Kind.AMOUNTS_DIFFER, kept, anew)
        elif kept.document != number:
            yield self._difference(Kind.DOCUMENT_NUMBER_DIFFERS, kept, anew)
        yield from self._doubles(kept)

    def _waiting(self) -> Iterator[Difference]:
        assert self.filed is not None
        if self.filed.since >= self.settled_before or not self.held:
            return
        if self.filed.record.status is Status.QUEUED and self.live:
            yield self._lost_confirmation("post", self.live[0])
        reversal = next((one for one in self.held if one.action is Action.REVERSE), None)
        if self.filed.record.status is Status.REVERSING and not self.live and reversal is not None:
            yield self._lost_confirmation("reverse", reversal)
        if self.live:
            yield from self._doubles(self.live[0])

    def _doubles(self, kept: Held) -> Iterator[Difference]:
        for one in self.live:
            if one is not kept:
                yield self._difference(Kind.DOCUMENT_DOUBLED, one, (self._reversed(one),))

    def _lost_confirmation(self, action: str, found: Held) -> Difference:
        assert self.filed is not None
        confirm = Confirm(
            str(self.filed.owner),
            self.key,
            self.version,
            "post" if action == "post" else "reverse",
            found.document,
        )
        return self._difference(Kind.CONFIRMATION_LOST, found, (confirm,))

    def _amounts_off(self, found: Held) -> bool:
        return self.filed is not None and bool(amounts_off(self.filed.record.posting, found.amounts))

    def _reversed(self, found: Held) -> Reverse:
        return Reverse(self.erp, found.document)

    def _resent(self, reason: str) -> Resend:
        assert self.filed is not None
        return Resend(self.erp, str(self.filed.owner), self.key, self.version, reason)

    def _difference(self, kind: Kind, found: Held | None, corrections: Corrections) -> Difference:
        record = self.filed.record if self.filed is not None else None
        evidence = DocumentEvidence(record, found, tuple(self.held), self._off(record, found))
        return Difference(
            kind,
            self.key,
            f"erp/{self.erp}",
            _ours(self.version, record, evidence.off),
            _theirs(found, self.held, evidence.off),
            likely(DOCUMENT_CAUSES[kind], evidence),
            corrections,
        )

    def _off(self, record: Record | None, found: Held | None) -> Mapping[Account, tuple[Decimal, Decimal]]:
        return amounts_off(record.posting, found.amounts) if record is not None and found is not None else {}


def _ours(version: int, record: Record | None, off: Mapping[Account, tuple[Decimal, Decimal]]) -> str:
    if record is None:
        return f"version {version}: never heard of"
    document = f", document {record.document}" if record.document else ""
    return f"version {version}: {record.status}{document}{_amounts(off, 0)}"


def _theirs(found: Held | None, held: Sequence[Held], off: Mapping[Account, tuple[Decimal, Decimal]]) -> str:
    if found is None:
        return (
            ", ".join(f"{one.document} ({one.action})" for one in held) + " not live" if held else "nothing"
        )
    live = "live" if found.live else "not live"
    return f"document {found.document} ({found.action}), {live}{_amounts(off, 1)}"


def _amounts(off: Mapping[Account, tuple[Decimal, Decimal]], side: int) -> str:
    return "".join(f", {account} {both[side]}" for account, both in sorted(off.items()))


# --- amounts ---------------------------------------------------------------------------------------------


def amounts_off(
    posting: Posting, amounts: Mapping[Account, Decimal]
) -> dict[Account, tuple[Decimal, Decimal]]:
    """Accounts whose amount is not what the posting says → ours, theirs (debit less credit)."""
    said, probed = _net(entries(posting)), _net(entries(posting, Decimal(1)))
    return {
        account: (said.get(account, ZERO), amounts.get(account, ZERO))
        for account in said.keys() | probed.keys() | amounts.keys()
        if said.get(account, ZERO) == probed.get(account, ZERO)  # else the ERP values it
        and said.get(account, ZERO) != amounts.get(account, ZERO)
    }


def _net(made: Iterable[Entry]) -> dict[Account, Decimal]:
    found: dict[Account, Decimal] = {}
    for entry in made:
        found[entry.account] = found.get(entry.account, ZERO) + entry.debit - entry.credit
    return found


# --- goods -----------------------------------------------------------------------------------------------

_SHIPPED = frozenset({Status.QUEUED, Status.CONFIRMED, Status.REJECTED})


def unlike_the_twins(filed: Sequence[Filed], held: Sequence[Held]) -> Iterator[tuple[Shelf, Decimal]]:
    """Goods that the ERP's documents of one key have moved beyond what the twins have, by shelf."""
    live = [one.version for one in held if one.live]
    for one in filed:
        record = one.record
        desired = record is filed[-1].record and record.status in _SHIPPED
        if surplus := live.count(record.version) - int(desired):
            yield from ((shelf, surplus * each) for shelf, each in movements(record.posting))
