"""Twins that live apart, with a post between them that nobody should trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

from canonical.envelope import Event
from canonical.identity import TwinRef
from ops.simulation.machinery import Disk
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution
from twins.core.history import Checkpoint
from twins.core.rules import Policy
from twins.core.twin import REPLIES, Stored, Twin

ROUNDS_MAX = 10_000
CROWD = 1
"""So small that most answers to others of the same host are mail, too."""


@dataclass
class Hosts:
    """Two worlds that own every other twin, and a post that carries mail in any order, twice or late."""

    random: Random
    twins: tuple[dict[TwinRef, Twin], dict[TwinRef, Twin]] = field(default_factory=lambda: ({}, {}))
    mail: list[Contribution] = field(default_factory=list)

    def owner(self, ref: TwinRef) -> int:
        return sum(str(ref).encode()) % 2

    def take(self, host: int, events: Sequence[Event], letters: Sequence[Contribution]) -> None:
        residents = self.twins[host]
        batch = Batch(residents, lambda ref: self.owner(ref) == host, CROWD)
        batch.deliver(events, letters)
        while True:
            for ref in batch.missing():
                residents[ref] = Twin.restore(ref, Policy(), Stored())
            if not batch.step():
                break
        self.mail += batch.finish().mail.values()

    def run(self, events: Sequence[Event]) -> None:
        for event in events:
            self.take(self.owner(event.subject), [event], [])
            if self.random.random() < 0.5:
                self.deliver_some()
        for _ in range(ROUNDS_MAX):
            if not self.mail:
                return
            self.deliver_some()
        raise AssertionError(f"{len(self.mail)} letters go round and round")

    def deliver_some(self) -> None:
        self.random.shuffle(self.mail)
        size = self.random.randint(1, len(self.mail)) if self.mail else 0
        now, self.mail = self.mail[:size], self.mail[size:]
        for letter in now + now[::2]:
            self.take(self.owner(letter.target), [], [letter])

    def all_twins(self) -> dict[TwinRef, Twin]:
        return {ref: twin for twins in self.twins for ref, twin in twins.items()}


@dataclass(slots=True)
class Shelf(Disk):
    """A disk that keeps checkpoints too, and reads no event that one of them stands for."""

    checkpoints: dict[TwinRef, Checkpoint[Any]] = field(default_factory=dict)
    partly_loaded: int = 0

    def fetch(self, ref: TwinRef, *, whole: bool = False) -> Stored:
        stored, checkpoint = self.load(ref), self.checkpoints.get(ref)
        if checkpoint is None or whole:
            return Stored(
                stored.version, stored.events, stored.registers, stored.records, checkpoint, is_whole=True
            )
        self.partly_loaded += 1
        after = tuple(
            event for event in stored.events if isinstance(event.fact, REPLIES) or checkpoint.precedes(event)
        )
        return Stored(stored.version, after, stored.registers, stored.records, checkpoint, is_whole=False)

    def keep(self, host: str, epoch: int, effects: Effects, delivered: Iterable[Contribution]) -> None:
        self.commit(host, epoch, effects, delivered)
        for ref, checkpoint in effects.checkpoints.items():
            if checkpoint is None:
                self.checkpoints.pop(ref, None)
            else:
                self.checkpoints[ref] = checkpoint

    def holds(self, event: Event) -> bool:
        return any(known == event.event_id for known, _ in self.events.get(event.subject, {}))


@dataclass(slots=True)
class Forgetful:
    """A host that may lose its memory at any moment. What it has committed is all that it has."""

    name: str
    epoch: int
    shelf: Shelf
    owns: Any
    checkpoint_every: int
    twins: dict[TwinRef, Twin] = field(default_factory=dict)

    def fold(self, events: Sequence[Event], letters: Sequence[Contribution]) -> Effects:
        batch = Batch(self.twins, self.owns, CROWD)
        batch.deliver(events, letters)
        self._activate(batch.missing())
        self._complete(events)
        while True:
            self._activate(batch.missing())
            if not batch.step():
                return batch.finish()

    def _activate(self, refs: Iterable[TwinRef], *, whole: bool = False) -> None:
        for ref in refs:
            twin = Twin.restore(ref, Policy(), self.shelf.fetch(ref, whole=whole))
            twin.history.checkpoint_every = self.checkpoint_every
            self.twins[ref] = twin

    def _complete(self, events: Sequence[Event]) -> None:
        """As a host does: the whole history, for an event that a checkpoint has no place for."""
        for event in events:
            twin = self.twins[event.subject]
            strange = twin.may_have_forgotten(event) and self.shelf.holds(event)
            if twin.needs_whole_history(event) or strange:
                self._activate([event.subject], whole=True)


@dataclass
class Parcel:
    """Events or letters on their way to a host."""

    host: str
    events: list[Event] = field(default_factory=list)
    letters: list[Contribution] = field(default_factory=list)


class Cluster:
    """Hosts over one disk: each may forget, before its commit or after; mail is lost, doubled, overtaken."""

    def __init__(self, hosts: int, random: Random, checkpoint_every: int = 2) -> None:
        self.random = random
        self.shelf = Shelf()
        self.every = checkpoint_every
        self.names = [f"host-{number}" for number in range(hosts)]
        self.hosts = {name: self._start(name) for name in self.names}
        self.wire: list[Parcel] = []
        self.injected: Counter[str] = Counter()

    def owner(self, ref: TwinRef) -> str:
        return self.names[crc32(str(ref).encode()) % len(self.names)]

    def run(self, events: Sequence[Event]) -> None:
        """Deliver *events* in any order and batches, some of them twice; then let everything come to rest."""
        told = [*events, *self.random.sample(events, k=len(events) // 4)]
        self.random.shuffle(told)
        for event in told:
            self.wire.append(Parcel(self.owner(event.subject), [event]))
        while self.wire:
            self._take(self._together(), faulty=True)
        self._sweep()

    def _start(self, name: str) -> Forgetful:
        return Forgetful(
            name, self.shelf.claim(name), self.shelf, lambda ref: self.owner(ref) == name, self.every
        )

    def _together(self) -> Parcel:
        """Some of what waits for one host, as one batch."""
        first = self.wire.pop(self.random.randrange(len(self.wire)))
        for other in [one for one in self.wire if one.host == first.host]:
            if self.random.random() < 0.3:
                self.wire.remove(other)
                first.events += other.events
                first.letters += other.letters
        return first

    def _strikes(self, fault: str, rate: float) -> bool:
        struck = self.random.random() < rate
        self.injected[fault] += struck
        return struck

    def _take(self, parcel: Parcel, *, faulty: bool) -> None:
        host = self.hosts[parcel.host]
        effects = host.fold(parcel.events, parcel.letters)
        if faulty and self._strikes("crash before commit", 0.1):
            self.hosts[host.name] = self._start(host.name)
            self.wire.append(parcel)
            return
        self.shelf.keep(host.name, host.epoch, effects, parcel.letters)
        if faulty and self._strikes("crash after commit", 0.1):
            self.hosts[host.name] = self._start(host.name)
            self.wire.append(parcel)
            return
        for letter in effects.mail.values() if faulty else ():
            copies = 0 if self._strikes("mail lost", 0.25) else self.random.choice([1, 1, 2])
            for _ in range(copies):
                self.wire.append(Parcel(self.owner(letter.target), [], [letter]))
        if faulty and self._strikes("passivation", 0.3):
            for ref in self.random.sample(sorted(host.twins), k=len(host.twins) // 2):
                del host.twins[ref]

    def _sweep(self) -> None:
        for _ in range(ROUNDS_MAX):
            letters = list(self.shelf.mail.values())
            if not letters:
                return
            letter = self.random.choice(letters)
            self._take(Parcel(self.owner(letter.target), [], [letter]), faulty=False)
        raise AssertionError(f"{len(self.shelf.mail)} letters go round and round")

    def all_twins(self) -> dict[TwinRef, Twin]:
        """Every twin as the disk has it, read by nobody who remembers anything."""
        return {
            ref: Twin.restore(ref, Policy(), self.shelf.fetch(ref)) for ref in sorted(self.shelf.versions)
        }
