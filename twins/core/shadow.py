"""An ERP instance in shadow: it is told what another is told, and nothing depends on what it answers.

Rules
- The shadow has a ledger of its own: what it was told, in the same versions, and what it said to that.
- It is asked to reverse only what it was told to post; what was posted before it came is not its business.
- A later version makes it reverse every earlier one first, whatever the live instance did with that: where
  the live one refuses what the shadow took, the shadow must not end with both.
- When it is promoted, what has not reached the old instance goes to it, unless it builds on a document that
  the old one keeps: then the two stay together. Copies of what the old one keeps are reversed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from canonical.identity import PostingKey
from canonical.postings import Action, Command
from twins.core.dispatch import QueuedCommand
from twins.core.ledger import Record, Status

Place = tuple[PostingKey, int]
Copies = Mapping[PostingKey, Sequence[Record]]
"""The shadow's ledger, versions ascending."""
_MADE = frozenset({Status.QUEUED, Status.CONFIRMED})


def mirror(told: Iterable[Command], copies: Copies) -> tuple[list[Command], list[Record]]:
    """What the shadow is told when the live instance is told *told*; and its records that change."""
    ledger = {key: {one.version: one for one in versions} for key, versions in copies.items()}
    commands: list[Command] = []
    changed: dict[Place, Record] = {}

    def file(record: Record) -> None:
        ledger.setdefault(record.key, {})[record.version] = record
        changed[record.key, record.version] = record

    def take_back(record: Record) -> None:
        reversing = replace(record, status=Status.REVERSING, reason=None)
        file(reversing)
        commands.append(Command(Action.REVERSE, record.version, record.posting, reversing.again))

    for command in told:
        versions = ledger.setdefault(command.key, {})
        if command.action is Action.POST:
            for earlier in [one for one in versions.values() if one.status in _MADE]:
                take_back(earlier)
            file(Record(command.posting, command.version, Status.QUEUED))
            commands.append(command)
            continue
        copy = versions.get(command.version)
        if copy is None:
            continue
        if copy.status in _MADE:
            take_back(copy)
        elif copy.status is Status.REVERSING and copy.reason is not None:
            take_back(replace(copy, again=copy.again + 1))
        elif copy.status is Status.REJECTED:
            file(replace(copy, status=Status.ANNULLED))
    return commands, list(changed.values())


def taken_back(copies: Copies) -> list[Command]:
    """Reversals of every copy that was made, or may be."""
    return [
        Command(Action.REVERSE, one.version, one.posting)
        for versions in copies.values()
        for one in versions
        if one.status in _MADE
    ]


# --- promotion -------------------------------------------------------------------------------------------


def moving(unsent: Collection[QueuedCommand], kept: Collection[PostingKey]) -> list[QueuedCommand]:
    """Which of the old instance's unsent commands go to the new one.

    *kept*: keys whose current document is with the old instance, or may be. A reversal goes only with the
    post that it takes back.
    """
    posts = {one.command.key: one for one in unsent if one.command.action is Action.POST}
    staying: set[PostingKey] = set()
    while True:
        bound = {
            key
            for key, one in posts.items()
            if key not in staying and any(_stays(need, kept, posts, staying) for need in _needs(one))
        }
        if not bound:
            break
        staying |= bound
    moved = {(key, one.command.version) for key, one in posts.items() if key not in staying}
    return [one for one in unsent if (one.command.key, one.command.version) in moved]


def _needs(one: QueuedCommand) -> tuple[PostingKey, ...]:
    return one.command.posting.requires


def _stays(
    key: PostingKey, kept: Collection[PostingKey], posts: Collection[PostingKey], staying: set[PostingKey]
) -> bool:
    return key in staying or (key in kept and key not in posts)


# --- differences -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What an instance made of one version of a posting."""

    status: Status
    document: str | None = None
    reversal: str | None = None
    reason: str | None = None


def is_open(said: Said) -> bool:
    """It has not answered."""
    return said.status is Status.QUEUED or (said.status is Status.REVERSING and said.reason is None)


def difference(live: Said, shadow: Said) -> str | None:
    """In words; None: alike, or too early to say."""
    if is_open(live) or is_open(shadow) or _outcome(live) == _outcome(shadow):
        return None
    return f"live: {_outcome(live)}; shadow: {_outcome(shadow)}"


def _outcome(said: Said) -> str:
    match said.status:
        case Status.CONFIRMED:
            return "holds it"
        case Status.REJECTED:
            return "refused it"
        case Status.REVERSING:
            return "refused to reverse it"
        case _:
            return "does not hold it"
