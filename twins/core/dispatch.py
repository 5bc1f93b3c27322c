"""Which queued commands may go to the ERP now, which cancel each other out, and which must wait.

Rules
- One command of a posting key at a time, in the order of its versions, and of commits within one version: a
  refused reversal that is sent again goes before the posts that were planned since.
- A post that was never sent and the reversal that follows it are annulled together.
- A post waits until every document that it requires is confirmed, and until every version before it is out of
  the ERP: where the ERP refused to reverse one, a person must see to it first.
- A goods issue is reversed only after the invoices that build on it.
- Of those that may go, documents that customers wait for come first, bulk comes last; every eighth turn is
  the oldest's, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from canonical.identity import PostingKey, TwinRef, posting_key
from canonical.postings import Action, Command, PostGoodsIssue, Posting
from twins.core.ledger import Status

Statuses = Mapping[tuple[PostingKey, int], Status]


class Priority(IntEnum):
    """A document and those it requires share one, so that they stand in the queue in the order of commits."""

    CUSTOMER = 0
    ROUTINE = 1
    BULK = 2


_PRIORITY: Mapping[str, Priority] = {
    "credit-note": Priority.CUSTOMER,
    "return-receipt": Priority.CUSTOMER,
    "invoice": Priority.CUSTOMER,
    "goods-issue": Priority.CUSTOMER,
    "refund": Priority.CUSTOMER,
    "payment": Priority.CUSTOMER,
    "freight-accrual": Priority.ROUTINE,
    "carrier-bill": Priority.ROUTINE,
    "transfer": Priority.ROUTINE,
    "reserve-stock": Priority.BULK,
    "stock-adjustment": Priority.BULK,
}
OLDEST_EVERY = 8
"""Turns; so bulk is slow while there is much else, and never starves."""


def priority(posting: Posting) -> Priority:
    return _PRIORITY[posting.command]


@dataclass(frozen=True, slots=True)
class QueuedCommand:
    """A command that a twin has committed and the gateway has not finished."""

    number: int
    """Position in the queue, ascending in the order of commits."""
    owner: TwinRef
    command: Command
    sent: bool
    """It may have reached the ERP: look it up before telling it again."""
    attempts: int = 0
    queued_at: datetime | None = None
    trouble: str | None = None
    """Why the last attempt had no answer."""


@dataclass(slots=True)
class Dispatch:
    send: list[QueuedCommand] = field(default_factory=list)
    annul: list[tuple[QueuedCommand, QueuedCommand]] = field(default_factory=list)
    """A post and its reversal."""
    drop: list[QueuedCommand] = field(default_factory=list)
    """Reversals of what the ERP never took."""
    wait: list[tuple[QueuedCommand, str]] = field(default_factory=list)
    """Commands, and the document that each waits for."""


def reversed_first(command: Command) -> str | None:
    """Prefix of the keys that must be reversed before this reversal; None: nothing must."""
    if command.action is Action.REVERSE and isinstance(command.posting, PostGoodsIssue):
        return posting_key("invoice", command.posting.shipment_id) + "/"
    return None


def decide(queue: Iterable[QueuedCommand], statuses: Statuses) -> Dispatch:
    """Sort the queue into what can be done now.

    *statuses* covers every key of the queue, every key they require, and those `reversed_first` names.
    """
    decided = Dispatch()
    by_key: dict[PostingKey, list[QueuedCommand]] = {}
    for one in queue:
        by_key.setdefault(one.command.key, []).append(one)
    for waiting in by_key.values():
        waiting.sort(key=lambda one: (one.command.version, one.number))
    in_erp = {key for (key, _), status in statuses.items() if status in _IN_ERP}
    in_erp -= {key for key, waiting in by_key.items() if _never_sent(waiting)}
    in_erp |= {key for key, waiting in by_key.items() if waiting[0].sent}
    current = _current(statuses)
    heads = [_annul(waiting, decided) for waiting in by_key.values()]
    there = _still_there(statuses, decided)
    for head in heads:
        if head is not None:
            _place(head, statuses, current, in_erp, there, decided)
    return decided


def in_turn(ready: Iterable[QueuedCommand], many: int, turn: int) -> Sequence[QueuedCommand]:
    """The next *many* to be told. *turn*: how many were told before, so that the oldest get their share."""
    best = sorted(ready, key=lambda one: (priority(one.command.posting), one.number), reverse=True)
    by_age = sorted(best, key=lambda one: one.number, reverse=True)
    chosen: dict[int, QueuedCommand] = {}
    while len(chosen) < many and (best or by_age):
        line = by_age if (turn + len(chosen)) % OLDEST_EVERY == OLDEST_EVERY - 1 else best
        while line and line[-1].number in chosen:
            line.pop()
        if not line:
            break
        one = line.pop()
        chosen[one.number] = one
    return tuple(chosen.values())


_IN_ERP = frozenset({Status.CONFIRMED, Status.REVERSING})
_GONE = frozenset({Status.ANNULLED, Status.REVERSED, Status.LOST})


def _current(statuses: Statuses) -> dict[PostingKey, Status]:
    latest: dict[PostingKey, int] = {}
    for key, version in statuses:
        latest[key] = max(version, latest.get(key, 0))
    return {key: statuses[key, version] for key, version in latest.items()}


def _never_sent(waiting: list[QueuedCommand]) -> bool:
    return waiting[0].command.action is Action.POST and not waiting[0].sent


def _annul(waiting: list[QueuedCommand], decided: Dispatch) -> QueuedCommand | None:
    """Cancel pairs at the front; the first command that remains, if any."""
    while len(waiting) > 1 and _never_sent(waiting):
        post, reverse = waiting[0].command, waiting[1].command
        if (reverse.action, reverse.version) != (Action.REVERSE, post.version):
            break
        decided.annul.append((waiting[0], waiting[1]))
        del waiting[:2]
    return waiting[0] if waiting else None


def _still_there(statuses: Statuses, decided: Dispatch) -> set[tuple[PostingKey, int]]:
    """Versions that are to be reversed and may be in the ERP."""
    annulled = {(post.command.key, post.command.version) for post, _ in decided.annul}
    return {one for one, status in statuses.items() if status is Status.REVERSING} - annulled


def _place(
    head: QueuedCommand,
    statuses: Statuses,
    current: Mapping[PostingKey, Status],
    in_erp: set[PostingKey],
    there: set[tuple[PostingKey, int]],
    decided: Dispatch,
) -> None:
    command = head.command
    if command.action is Action.REVERSE:
        if statuses.get((command.key, command.version)) in _GONE:
            decided.drop.append(head)
            return
        prefix = reversed_first(command)
        blocking = sorted(key for key in in_erp if key.startswith(prefix)) if prefix else []
    else:
        blocking = [key for key in command.posting.requires if current.get(key) is not Status.CONFIRMED]
        if any((command.key, version) in there for version in range(1, command.version)):
            blocking.append(command.key)
    if blocking and not head.sent:
        decided.wait.append((head, blocking[0]))
    else:
        decided.send.append(head)
