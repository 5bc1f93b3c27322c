"""The set of events of one twin, in the one order that their content gives, and the fold over it.

Sort key: ``(effective time, lifecycle rank, source, sequence, id)``. Within a source that numbers its events
the numbers rule: time and rank are the running maximum along the numbering. Nothing here knows when anything
arrived.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import Any, Generic, NamedTuple, TypeVar, cast

from msgspec import Struct
from rpds import HashTrieMap, HashTrieSet

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.identity import EventId, event_id_of
from twins.core.rules import FEW, Around, Waiting

S = TypeVar("S")
_NO_MAP: HashTrieMap[Any, Any] = HashTrieMap()
_NO_SET: HashTrieSet[Any] = HashTrieSet()
_NO_EVENTS = cast(list[Any], ())
"""What never changes is shared: most twins know of no conflict and no retraction."""

CHECKPOINT_EVERY = 32
"""Events between two checkpoints: a late event replays at most this many, and those after it."""


Moment = tuple[datetime, int]
"""Time and lifecycle rank. Along a source's numbers both can only grow, so that the numbers rule."""


class SortKey(NamedTuple):
    effective_time: datetime
    rank: int
    source: str
    sequence: int
    id: str

    @property
    def moment(self) -> Moment:
        return self.effective_time, self.rank


UNNUMBERED = -1
"""Sequence of events that their source does not number."""


def key_of_unnumbered(event: Event) -> SortKey:
    return SortKey(event.time, event.rank, event.source, UNNUMBERED, event.id)


class Arrival(StrEnum):
    NEW = "new"
    LATE = "late"
    """New, and sorts before something already folded."""
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """Known id, other content: the smaller digest counts, and the conflict is on record."""


class Held(Struct, frozen=True, gc=False):
    event: Event
    waits_for: str


class Folded(Struct, Generic[S], frozen=True, gc=False):
    """Where the fold stands: the state, and the events that nothing has enabled yet."""

    state: S
    held: tuple[Held, ...] = ()


class Checkpoint(Struct, Generic[S], frozen=True, gc=False):
    """The fold over the first *count* events in sort order, the last of which is at *at*."""

    at: SortKey
    count: int
    folded: Folded[S]

    def precedes(self, event: Event) -> bool:
        """Whether *event* changes nothing of what was folded: it moves no other event, and sorts after."""
        if event.sequence is not None or isinstance(event.fact, Retracted):
            return False
        return self.at < key_of_unnumbered(event)


@dataclass(slots=True)
class History(Generic[S]):
    initial: S
    evolve: Callable[[S, Event], S | Waiting]
    slip_in: Callable[[S, Event, Around[S]], Callable[[S], S] | None] | None = None
    """For long histories: see `Rules.slip_in`."""
    checkpoint_every: int = CHECKPOINT_EVERY
    base: Checkpoint[S] | None = None
    """Stands for the events before it, which are not in memory; see `covers`."""
    conflicts: HashTrieMap[EventId, int] = _NO_MAP
    """Ids told with different content, and in how many versions."""
    retracted: HashTrieSet[EventId] = _NO_SET
    """Ids that were told, and taken back."""
    retractions: HashTrieMap[EventId, tuple[Event, ...]] = _NO_MAP
    """Id → what takes it back, whether it was told or not."""
    _line: list[Event] = field(default_factory=lambda: _NO_EVENTS)
    """Those that stand, in their order."""
    _told: dict[EventId, Event] | None = None
    """The event that counts for each id, retracted ones included; None: a handful, all of which stand."""
    _conflicts: HashTrieMap[EventId, HashTrieMap[bytes, Event]] = _NO_MAP
    """Every version of an id that was told in more than one, by digest."""
    _numbered: HashTrieMap[str, list[tuple[int, str]]] = _NO_MAP
    """Source → (sequence, id) of its numbered events that stand, ascending."""
    _numbered_keys: dict[EventId, SortKey] | None = None
    """Of numbered events that stand, where there are any; the key of any other is told by itself."""
    _checkpoints: tuple[tuple[int, Folded[S]], ...] = ()
    _folded: Folded[S] | None = None
    _position: int = 0
    """How many of `_line` are folded into `_folded`."""

    def add(self, event: Event) -> Arrival:
        """Take an event into the set; the fold is brought up to date by `folded`."""
        known = self._find(event.event_id)
        if known is None:
            return self._take(event)
        return self._compare(known, event)

    def discard(self, event_id: EventId) -> None:
        """Take an event out of the set, as if it had never been told."""
        event = self._find(event_id)
        if event is None:
            return
        if self._told is not None:
            del self._told[event_id]
        self.retracted = self.retracted.discard(event_id)
        self._remove(event)
        if isinstance(event.fact, Retracted):
            self._unretract(event)

    def folded(self) -> Folded[S]:
        """State and held events of the whole set; replays only what follows the last change."""
        folded, position = self._resume()
        for index in range(position, len(self._line)):
            folded = self._step(folded, self._line[index])
            if (index + 1) % self.checkpoint_every == 0:
                self._checkpoints += ((index + 1, folded),)
        self._folded, self._position = folded, len(self._line)
        return folded

    def all_events(self) -> Iterable[Event]:
        """Every event that counts, retracted ones and retractions included, in no particular order."""
        return self._line if self._told is None else self._told.values()

    def covers(self, event: Event) -> bool:
        """Whether *event*, if it is new, can be taken without the events before `base`."""
        return self.base is None or self.base.precedes(event)

    def knows(self, event: Event) -> bool:
        return self._find(event.event_id) is not None

    def checkpoint(self) -> Checkpoint[S] | None:
        """A fold that is some way behind the end, so that what comes a little late stays after it.

        None for a history in which an event can move others: numbered sources, conflicts, retractions.
        """
        if self._numbered or self._conflicts or self.retractions:
            return None
        for position, folded in reversed(self._checkpoints):
            if position <= len(self._line) - self.checkpoint_every:
                before = self.base.count if self.base is not None else 0
                return Checkpoint(self._key(self._line[position - 1]), before + position, folded)
        return self.base

    def stands(self) -> bool:
        """Whether any fact has not been taken back."""
        return bool(self._line) or (self.base is not None and self.base.count > 0)

    def __len__(self) -> int:
        told = self._line if self._told is None else self._told
        return len(told) + (self.base.count if self.base is not None else 0)

    def _find(self, event_id: EventId) -> Event | None:
        if self._told is not None:
            return self._told.get(event_id)
        for event in self._line:
            if event.event_id == event_id:
                return event
        return None

    def _is_plain(self, event: Event) -> bool:
        """One that stands, and that the place of no other depends on."""
        return event.sequence is None and not self.retractions and not isinstance(event.fact, Retracted)

    def _take(self, event: Event) -> Arrival:
        if self._told is None and (len(self._line) >= FEW or not self._is_plain(event)):
            self._told = {one.event_id: one for one in self._line}
        if self._told is not None:
            self._told[event.event_id] = event
        if isinstance(event.fact, Retracted):
            return self._retract(event, event.fact)
        if event.event_id in self.retractions:
            self.retracted = self.retracted.insert(event.event_id)
            return Arrival.NEW
        return Arrival.LATE if self._insert(event) else Arrival.NEW

    def _compare(self, known: Event, event: Event) -> Arrival:
        if known == event:
            return Arrival.DUPLICATE
        told, counted = event.digest(), known.digest()
        if told == counted:
            return Arrival.DUPLICATE
        versions = self._conflicts.get(known.event_id, HashTrieMap({counted: known}))
        if told in versions:
            return Arrival.DUPLICATE
        versions = versions.insert(told, event)
        self._conflicts = self._conflicts.insert(known.event_id, versions)
        self.conflicts = self.conflicts.insert(known.event_id, len(versions))
        if told < counted:
            self.discard(known.event_id)
            self._take(event)
        return Arrival.CONFLICT

    def _retract(self, event: Event, fact: Retracted) -> Arrival:
        target = event_id_of(fact.source, fact.id)
        by = (*self.retractions.get(target, ()), event)
        self.retractions = self.retractions.insert(target, tuple(sorted(by, key=lambda one: one.event_id)))
        known = self._find(target)
        if known is None or isinstance(known.fact, Retracted):
            return Arrival.NEW
        self.retracted = self.retracted.insert(target)
        self._remove(known)
        return Arrival.LATE

    def _unretract(self, event: Event) -> None:
        assert isinstance(event.fact, Retracted)
        target = event_id_of(event.fact.source, event.fact.id)
        by = tuple(one for one in self.retractions[target] if one.event_id != event.event_id)
        if by:
            self.retractions = self.retractions.insert(target, by)
        else:
            self.retractions = self.retractions.remove(target)
            self.retracted = self.retracted.discard(target)
            known = self._find(target)
            if known is not None and not isinstance(known.fact, Retracted):
                self._insert(known)

    def _insert(self, event: Event) -> bool:
        """Place an event, and move those that its time pushes later. True if it is late."""
        if event.sequence is None:
            return self._place(event, (event.time, event.rank))
        numbered = self._numbered.get(event.source)
        if numbered is None:
            numbered = []
            self._numbered = self._numbered.insert(event.source, numbered)
        insort(numbered, (event.sequence, event.id))
        return self._renumber(event.source, event.sequence, event.id)

    def _remove(self, event: Event) -> None:
        self._displace(event)
        if event.sequence is None:
            return
        numbered = self._numbered.get(event.source, [])
        at = bisect_left(numbered, (event.sequence, event.id))
        if at < len(numbered) and numbered[at] == (event.sequence, event.id):
            del numbered[at]
            self._renumber(event.source, event.sequence, event.id)

    def _renumber(self, source: str, sequence: int, event_id: str) -> bool:
        """Give the source's events from *sequence* on their effective times. True if any is late."""
        numbered = self._numbered[source]
        first = bisect_left(numbered, (sequence, event_id))
        late = False
        keys = self._numbered_keys = self._numbered_keys or {}
        latest = keys[event_id_of(source, numbered[first - 1][1])].moment if first else None
        for _, later_id in numbered[first:]:
            key_id = event_id_of(source, later_id)
            event = self._event(key_id)
            told = (event.time, event.rank)
            effective = told if latest is None else max(latest, told)
            placed = keys.get(key_id)
            if placed is None or placed.moment != effective:
                self._displace(event)
                late |= self._place(event, effective)
            latest = effective
        return late

    def _place(self, event: Event, effective: Moment) -> bool:
        sequence = UNNUMBERED if event.sequence is None else event.sequence
        key = SortKey(*effective, event.source, sequence, event.id)
        if self._numbered_keys is not None and event.sequence is not None:
            self._numbered_keys[event.event_id] = key
        if not self._line:
            self._line = [event]  # of one place: most twins are short, and a list that grows has four
            return False
        if self._key(self._line[-1]) < key:
            self._line.append(event)
            return False
        at = bisect_left(self._line, key, key=self._key)
        self._line.insert(at, event)
        return self._slip(at, key, event) or self._changed_at(at)

    def _slip(self, position: int, key: SortKey, event: Event) -> bool:
        """Slip an event into what is folded past *position*, where that can be done without folding."""
        if self.slip_in is None or self._folded is None or position >= self._position:
            return False

        places = [(self._position, self._folded)]
        places += takewhile(lambda one: one[0] > position, reversed(self._checkpoints))
        around = _Place(self, position, key)
        if any(folded.held for _, folded in places) or around.has_held_before():
            return False
        slip = self.slip_in(self._folded.state, event, around)
        if slip is None:
            return False
        later = [(place + 1, Folded(slip(folded.state))) for place, folded in places]
        (self._position, self._folded), *checkpoints = later
        if checkpoints:
            self._checkpoints = (*self._checkpoints[: -len(checkpoints)], *reversed(checkpoints))
        return True

    def _displace(self, event: Event) -> None:
        at = self._place_of(event)
        if at is None:
            return
        del self._line[at]
        if self._numbered_keys is not None:
            self._numbered_keys.pop(event.event_id, None)
        self._changed_at(at)

    def _place_of(self, event: Event) -> int | None:
        """None for an event that does not stand."""
        if event.sequence is not None and event.event_id not in (self._numbered_keys or ()):
            return None
        at = bisect_left(self._line, self._key(event), key=self._key)
        return at if at < len(self._line) and self._line[at].event_id == event.event_id else None

    def _key(self, event: Event) -> SortKey:
        """Of one that stands, or would."""
        if event.sequence is None:
            return key_of_unnumbered(event)
        return (self._numbered_keys or {})[event.event_id]

    def _changed_at(self, position: int) -> bool:
        """Forget what was folded past *position*. True if something was."""
        kept = len(self._checkpoints)
        while kept and self._checkpoints[kept - 1][0] > position:
            kept -= 1
        self._checkpoints = self._checkpoints[:kept]
        if position < self._position:
            self._folded = None
            return True
        return False

    def _resume(self) -> tuple[Folded[S], int]:
        if self._folded is not None:
            return self._folded, self._position
        if self._checkpoints:
            position, folded = self._checkpoints[-1]
            return folded, position
        return (self.base.folded if self.base is not None else Folded(self.initial)), 0

    def _step(self, folded: Folded[S], event: Event) -> Folded[S]:
        after = self.evolve(folded.state, event)
        if isinstance(after, Waiting):
            return Folded(folded.state, (*folded.held, Held(event, after.what)))
        if not folded.held:
            return Folded(after)
        return self._retry(after, folded.held)

    def _retry(self, state: S, held: tuple[Held, ...]) -> Folded[S]:
        """Let held events in, in sort order, until none of them is enabled."""
        moved = True
        while moved:
            moved = False
            still: list[Held] = []
            for one in held:
                after = self.evolve(state, one.event)
                if isinstance(after, Waiting):
                    still.append(Held(one.event, after.what))
                else:
                    state, moved = after, True
            held = tuple(still)
        return Folded(state, held)

    def _event(self, event_id: EventId) -> Event:
        event = self._find(event_id)
        assert event is not None
        return event


@dataclass(frozen=True, slots=True)
class _Place(Generic[S]):
    """Implements `Around` for an event that has just been given its place."""

    history: History[S]
    position: int
    key: SortKey

    def state_before(self) -> S:
        place, folded = self._checkpoint()
        for event in self.history._line[place : self.position]:
            folded = self.history._step(folded, event)
        return folded.state

    def precedes(self, other: EventId) -> bool:
        event = self.history._find(other)
        stands = event is not None and self.history._place_of(event) is not None
        return event is not None and stands and self.key < self.history._key(event)

    def has_held_before(self) -> bool:
        return bool(self._checkpoint()[1].held)

    def _checkpoint(self) -> tuple[int, Folded[S]]:
        before = (one for one in reversed(self.history._checkpoints) if one[0] <= self.position)
        base = self.history.base
        return next(before, (0, base.folded if base is not None else Folded(self.history.initial)))
