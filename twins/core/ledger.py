"""What was told to the ERP, and what must be told so that its net equals what is desired.

Level-triggered: `plan` compares, and never asks how the difference came about. The ledger has one record a
version of a posting key. A command that was never sent is annulled by the gateway, together with the
reversal that follows it: only the gateway knows what it has sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from rpds import HashTrieMap

from canonical.facts.base import Fact
from canonical.facts.erp import (
    PostingAnnulled,
    PostingConfirmed,
    PostingLost,
    PostingRejected,
    PostingResent,
)
from canonical.identity import PostingKey
from canonical.postings import Action, Command, Posting


class Status(StrEnum):
    QUEUED = "queued"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    REVERSING = "reversing"
    REVERSED = "reversed"
    ANNULLED = "annulled"
    LOST = "lost"
    """Confirmed, and gone from the ERP without us: the next version is posted in its place."""


TRANSITIONS: Mapping[Status, Mapping[str, Status]] = {
    Status.QUEUED: {
        "post confirmed": Status.CONFIRMED,
        "post rejected": Status.REJECTED,
        "not desired": Status.REVERSING,
        "post lost": Status.LOST,
    },
    Status.CONFIRMED: {"not desired": Status.REVERSING, "post lost": Status.LOST},
    Status.REJECTED: {
        "not desired": Status.ANNULLED,
        "post resent": Status.ANNULLED,
        "post confirmed": Status.CONFIRMED,
        "post lost": Status.LOST,
    },
    Status.REVERSING: {
        "post confirmed": Status.REVERSING,
        "post rejected": Status.ANNULLED,
        "reverse confirmed": Status.REVERSED,
        "reverse rejected": Status.REVERSING,
        "reverse resent": Status.REVERSING,
        "annulled": Status.ANNULLED,
        "post lost": Status.LOST,
    },
    Status.LOST: {"reverse confirmed": Status.REVERSED},
    Status.REVERSED: {},
    Status.ANNULLED: {"post confirmed": Status.REVERSING},
}
_NONE: HashTrieMap[Any, Any] = HashTrieMap()
_LIVE = frozenset({Status.QUEUED, Status.CONFIRMED})
_REFUSABLE = frozenset({Status.REJECTED, Status.REVERSING})


class Record(Struct, frozen=True, gc=False):
    """One version of a posting key."""

    posting: Posting
    version: int
    status: Status
    document: str | None = None
    reversal: str | None = None
    """Document number of the reversal."""
    reason: str | None = None
    """Why the ERP refused, the post or its reversal."""
    again: int = 0
    """How often its reversal has been sent again by hand."""

    @property
    def key(self) -> PostingKey:
        return self.posting.key


@dataclass(slots=True)
class Ledger:
    """All versions of a twin's posting keys; each key's last version is its current one."""

    records: HashTrieMap[PostingKey, tuple[Record, ...]] = _NONE
    """Shared with readers as it is: it never changes, it is replaced."""
    refused: HashTrieMap[tuple[PostingKey, int], Record] = _NONE
    """What the ERP would not take, or would not take back, and nothing has settled since."""

    def current(self, key: PostingKey) -> Record | None:
        versions = self.records.get(key)
        return versions[-1] if versions else None

    def live(self) -> dict[PostingKey, Posting]:
        """What the ERP holds, or will once it has answered."""
        return {
            key: versions[-1].posting
            for key, versions in self.records.items()
            if versions[-1].status in _LIVE
        }

    def put(self, record: Record) -> None:
        versions = self.records.get(record.key, ())
        if any(known.version == record.version for known in versions):
            versions = tuple(record if known.version == record.version else known for known in versions)
        else:
            versions = (*versions, record)
        self.records = self.records.insert(record.key, versions)
        place = (record.key, record.version)
        if record.reason is not None and record.status in _REFUSABLE:
            self.refused = self.refused.insert(place, record)
        elif place in self.refused:
            self.refused = self.refused.remove(place)

    def find(self, key: PostingKey, version: int) -> Record | None:
        return next((one for one in self.records.get(key, ()) if one.version == version), None)

    def __iter__(self) -> Iterator[Record]:
        return (record for versions in self.records.values() for record in versions)


def plan(
    desired: Mapping[PostingKey, Posting | None], ledger: Ledger, *, whole: bool = True
) -> tuple[list[Command], list[Record]]:
    """List the commands that make the ledger's net equal *desired*, and the records that change.

    Shape: at most one reversal and one post a key; reversals first, then posts, each group by key. What the
    ERP refused is annulled where it is no longer desired, or not like that; it was never made.
    *whole* False: *desired* speaks of its own keys alone, None being not desired.
    Raises: nothing; a key unknown to the ledger is simply new.
    """
    reversals: list[Command] = []
    posts: list[Command] = []
    records: list[Record] = []
    for key in sorted(desired.keys() | set(ledger.records) if whole else desired):
        want, have = desired.get(key), ledger.current(key)
        if have is not None and have.status is Status.REJECTED:
            if want is not None and (want is have.posting or want == have.posting):
                continue
            records.append(replace(have, status=TRANSITIONS[have.status]["not desired"]))
        elif have is not None and have.status in _LIVE:
            if want is not None and _is_as_told(want, have):
                continue
            reversals.append(Command(Action.REVERSE, have.version, have.posting))
            records.append(replace(have, status=TRANSITIONS[have.status]["not desired"], reason=None))
        if want is not None:
            version = have.version + 1 if have is not None else 1
            posts.append(Command(Action.POST, version, want))
            records.append(Record(want, version, Status.QUEUED))
    return reversals + posts, records


def _is_as_told(want: Posting, have: Record) -> bool:
    """A command that still waits must not wait for documents that it does not build on any more."""
    if want is have.posting:
        return True
    return want == have.posting and (
        have.status is not Status.QUEUED or want.requires == have.posting.requires
    )


def answered(record: Record, reply: Fact) -> Record:
    """Apply an ERP's reply to the version it names. One repeated, or too late to matter, changes nothing."""
    match reply:
        case PostingConfirmed(action="post"):
            document = record.document or reply.document
            return _moved(record, "post confirmed", document=document, reason=None)
        case PostingConfirmed():
            return _moved(record, "reverse confirmed", reversal=reply.document, reason=None)
        case PostingRejected(action="reverse", again=again) if again != record.again:
            return record
        case PostingRejected(action="post") if record.document is not None:
            return record  # it was refused before it was taken after all
        case PostingRejected(action=action):
            return _moved(record, f"{action} rejected", reason=reply.reason)
        case PostingAnnulled():
            return _moved(record, "annulled")
        case PostingLost():
            return _moved(record, "post lost", reason=reply.reason)
        case PostingResent():
            return resent(record, reply)
        case _:
            return record


def resent(record: Record, reply: PostingResent) -> Record:
    """Open what was refused anew: a post, so that it is planned in its next version; a reversal as it is.

    It answers one refusal, and changes nothing where that has not come, or has been answered already.
    """
    if record.reason is None or record.again != reply.again:
        return record
    if reply.action == "post":
        return _moved(record, "post resent")
    return _moved(record, "reverse resent", reason=None, again=record.again + 1)


def _moved(record: Record, what: str, **changes: str | int | None) -> Record:
    status = TRANSITIONS[record.status].get(what)
    return record if status is None else replace(record, status=status, **changes)
