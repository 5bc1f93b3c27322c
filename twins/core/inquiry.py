"""Questions about twins that are answered by folding some of their facts again, aside and without a trace."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.identity import PostingKey, TwinRef
from canonical.postings import Command, Posting
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution
from twins.core.rules import Policy
from twins.core.twin import Snapshot, Stored, Twin


class Change(NamedTuple):
    """One place of a document that differs; None: it is not there."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Moment:
    """*as_of*: what had happened by then. *known_at*: as far as it was recorded by then. None: up to now."""

    as_of: datetime | None = None
    known_at: datetime | None = None

    def includes(self, event: Event, recorded_at: datetime) -> bool:
        """A retraction says that something never happened, at any time: only when it was known matters."""
        if self.known_at is not None and recorded_at > self.known_at:
            return False
        return self.as_of is None or isinstance(event.fact, Retracted) or event.time <= self.as_of


@dataclass(slots=True)
class Scratch:
    """Twins that nobody else sees, and none but those that were asked for."""

    policy: Policy
    refs: Collection[TwinRef]
    twins: dict[TwinRef, Twin] = field(default_factory=dict)

    def take(self, events: Iterable[Event], words: Iterable[Contribution] = ()) -> Effects:
        """Fold *events*; twins begin empty. What is said to others than those asked for is mail."""
        batch = Batch(self.twins, self.refs.__contains__)
        batch.deliver(events, words)
        while True:
            for ref in batch.missing():
                self.twins[ref] = Twin.restore(ref, self.policy, Stored())
            if not batch.step():
                return batch.finish()

    def snapshot(self, ref: TwinRef) -> Snapshot | None:
        twin = self.twins.get(ref)
        found = twin.snapshot() if twin is not None else None
        return found if found is not None and found.exists else None

    def live(self, ref: TwinRef) -> dict[PostingKey, Posting]:
        twin = self.twins.get(ref)
        return twin.live_postings() if twin is not None else {}


# --- what a late event changed ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LateEffect:
    """What one twin was believed to be before an event came late, and after."""

    event: Event
    state: tuple[Change, ...]
    postings: tuple[Change, ...]


def late_effects(
    ref: TwinRef, told: Sequence[tuple[Event, bool]], scratch: Scratch, words: Iterable[Contribution] = ()
) -> list[LateEffect]:
    """*told*: the facts of the twin and its neighbours as they came, and whether they were late."""
    effects: list[LateEffect] = []
    scratch.take([], words)
    waiting: list[Event] = []
    for event, is_late in told:
        waiting.append(event)
        if is_late:
            scratch.take(waiting[:-1])
            waiting = []
            before = _stand(scratch, ref)
            scratch.take([event])
            after = _stand(scratch, ref)
            state, postings = (tuple(differences(*both)) for both in zip(before, after, strict=True))
            if state or postings:
                effects.append(LateEffect(event, state, postings))
    return effects


def _stand(scratch: Scratch, ref: TwinRef) -> tuple[dict[str, Any], dict[str, Any]]:
    snapshot = scratch.snapshot(ref)
    live: dict[str, Any] = {str(key): posting for key, posting in scratch.live(ref).items()}
    return (snapshot.document() if snapshot is not None else {}), live


# --- what would be ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What events would make of one twin."""

    ref: TwinRef
    status: str
    changes: tuple[Change, ...]
    findings: tuple[str, ...]
    """Those that it would have, and has not."""
    commands: tuple[Command, ...]


def outcomes(before: Mapping[TwinRef, Snapshot], effects: Effects) -> list[Outcome]:
    """*before*: the twins as they were when they were loaded."""
    found: list[Outcome] = []
    for ref, after in sorted(effects.touched.items()):
        was = before.get(ref)
        known = {one.text for one in was.findings} if was is not None else set()
        outcome = Outcome(
            ref,
            after.status,
            tuple(differences(was.document() if was is not None and was.exists else {}, after.document())),
            tuple(one.text for one in after.findings if one.text not in known),
            tuple(command for owner, command in effects.commands if owner == ref),
        )
        if outcome.changes or outcome.commands:
            found.append(outcome)
    return found


# --- differences -----------------------------------------------------------------------------------------

_NAMES = ("line_id", "event", "code", "package_id")
"""What members of a list are told apart by, where they have it."""


def differences(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Places in which two documents differ, in the order of their paths (``lines.1.shipped``)."""
    if before == after:
        return
    one, other = _parts(before), _parts(after)
    if one is None or other is None:
        yield Change(path, before, after)
        return
    for name in sorted(one.keys() | other.keys()):
        yield from differences(one.get(name), other.get(name), f"{path}.{name}" if path else name)


def _parts(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return {_name(part, index): part for index, part in enumerate(value)}
    return None


def _name(part: dict[str, Any], index: int) -> str:
    return next((str(part[name]) for name in _NAMES if name in part), str(index))
