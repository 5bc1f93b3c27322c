"""A batch of deliveries taken by the twins of one host, with everything that follows from them.

The shell asks `missing` which twins to load, loads them, and calls `step`, until nothing is left to do; then
it commits the `Effects` of `finish` as one. No I/O here: the simulation runs these very lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from canonical.envelope import Event
from canonical.errors import InvariantViolated
from canonical.identity import Kind, TwinRef
from canonical.postings import Command
from twins.core.contributions import Contribution
from twins.core.history import Arrival, Checkpoint
from twins.core.ledger import Record
from twins.core.twin import Snapshot, Twin

ROUNDS_MAX = 64
"""Contributions depend on each other in one direction, so a batch comes to rest in a handful of rounds."""

_STRATUM = {
    Kind.ITEM: 0,
    Kind.CUSTOMER: 0,
    Kind.ERP: 0,
    Kind.TRACKING: 0,
    Kind.RETURN: 0,
    Kind.SHIPMENT: 1,
    Kind.ORDER: 2,
    Kind.STOCK: 3,
}
"""Twins settle in this order: what others build on comes first, so that few settle twice."""
_STRATA = max(_STRATUM.values()) + 1


@dataclass(slots=True)
class Effects:
    """What one transaction must hold."""

    events: list[tuple[Event, Arrival]] = field(default_factory=list)
    """Events that are new to their twins, conflicting versions included."""
    registers: dict[tuple[TwinRef, TwinRef], Contribution] = field(default_factory=dict)
    """(target, source) → the latest word, for targets of this host."""
    mail: dict[tuple[TwinRef, TwinRef], Contribution] = field(default_factory=dict)
    """The same, for targets of other hosts, and those of this one that hear it later."""
    commands: list[tuple[TwinRef, Command]] = field(default_factory=list)
    records: list[tuple[TwinRef, Record]] = field(default_factory=list)
    checkpoints: dict[TwinRef, Checkpoint[Any] | None] = field(default_factory=dict)
    """None: the one in storage no longer stands."""
    touched: dict[TwinRef, Snapshot] = field(default_factory=dict)
    """Every twin that changed, as it stands now: what comes next cannot reach in here."""

    def add(self, later: Effects) -> None:
        """Hold what a batch that was folded upon this one leaves behind, too, as two transactions would."""
        self.events += later.events
        self.registers |= later.registers
        self.mail |= later.mail
        self.commands += later.commands
        self.records += later.records
        self.checkpoints |= later.checkpoints
        self.touched |= later.touched


@dataclass(slots=True)
class _Stratum:
    """What its twins have to take in before they settle."""

    changed: dict[TwinRef, Twin] = field(default_factory=dict)
    """Those that events have changed already."""
    letters: dict[TwinRef, dict[TwinRef, Contribution]] = field(default_factory=dict)
    """Target → source → its latest word."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.letters)


@dataclass(slots=True)
class Batch:
    residents: Mapping[TwinRef, Twin]
    """Twins in memory; the shell adds to it what `missing` asks for."""
    is_mine: Callable[[TwinRef], bool]
    crowd: int | None = None
    """Where one twin answers more others than so many, those that are not in hand hear it by mail, as twins
    of other hosts do, and whoever else waits need not wait for all of them; None: all hear it at once."""
    effects: Effects = field(default_factory=Effects)
    arrivals: list[Arrival] = field(default_factory=list)
    """One an event, in the order of delivery."""
    _events: list[Event] = field(default_factory=list)
    _waiting: list[_Stratum] = field(default_factory=lambda: [_Stratum() for _ in range(_STRATA)])
    _next: int = 0
    """The stratum whose turn it is."""
    _touched: dict[TwinRef, Twin] = field(default_factory=dict)
    _rounds: int = 0

    def deliver(self, events: Iterable[Event], contributions: Iterable[Contribution] = ()) -> None:
        self._events.extend(events)
        for contribution in contributions:
            self._send(contribution)

    def missing(self) -> list[TwinRef]:
        """Twins that the next step needs in `residents`, each once."""
        told = (event.subject for event in self._events)
        needed = dict.fromkeys(chain(told, *(stratum.letters for stratum in self._waiting)))
        return [ref for ref in needed if ref not in self.residents]

    def step(self) -> bool:
        """Take the events that wait, or settle one stratum. False: there was nothing, the batch is at rest.

        Strata take turns, so that a twin settles but once a turn, with all that others have said by then.
        """
        if self._events:
            self._accept()
            return True
        turns = (number % _STRATA for number in range(self._next, self._next + _STRATA))
        turn = next((number for number in turns if self._waiting[number]), None)
        if turn is None:
            return False
        self._rounds += 1
        if self._rounds > ROUNDS_MAX * _STRATA:
            raise InvariantViolated(
                f"contributions do not come to rest: {sorted(map(str, self._waiting[turn].letters))[:5]}"
            )
        stratum, self._waiting[turn], self._next = self._waiting[turn], _Stratum(), (turn + 1) % _STRATA
        self._absorb(stratum)
        for twin in stratum.changed.values():
            self._settle(twin)
        return True

    def finish(self) -> Effects:
        """Plan the postings of every twin that changed, now that all are at rest."""
        for ref, twin in self._touched.items():
            commands, records = twin.settle_postings()
            self.effects.touched[ref] = twin.snapshot()
            changed, checkpoint = twin.settle_checkpoint()
            if changed:
                self.effects.checkpoints[ref] = checkpoint
            self.effects.commands.extend((ref, command) for command in commands)
            self.effects.records.extend((ref, record) for record in records)
        return self.effects

    def _accept(self) -> None:
        changed: dict[TwinRef, Twin] = {}
        for event in self._events:
            twin = self.residents[event.subject]
            arrival = twin.accept(event)
            self.arrivals.append(arrival)
            if arrival is not Arrival.DUPLICATE:
                self.effects.events.append((event, arrival))
                changed[twin.ref] = twin
        self._events = []
        for ref, twin in changed.items():
            self._waiting[_STRATUM[ref.kind]].changed[ref] = twin
            for contribution in twin.ask():
                self._send(contribution)

    def _absorb(self, stratum: _Stratum) -> None:
        for target, letters in stratum.letters.items():
            twin = self.residents[target]
            for contribution in letters.values():
                if twin.absorb(contribution):
                    self.effects.registers[target, contribution.source] = contribution
                    stratum.changed[target] = twin

    def _settle(self, twin: Twin) -> None:
        self._touched[twin.ref] = twin
        said = twin.settle()
        is_crowd = self.crowd is not None and twin.rules.echo is not None and len(said) > self.crowd
        for contribution in said:
            self._send(contribution, by_mail=is_crowd and not self._is_in_hand(contribution.target))

    def _is_in_hand(self, ref: TwinRef) -> bool:
        waiting = self._waiting[_STRATUM[ref.kind]]
        return ref in waiting.changed or ref in waiting.letters or ref in self._touched

    def _send(self, contribution: Contribution, *, by_mail: bool = False) -> None:
        if not by_mail and self.is_mine(contribution.target):
            letters = self._waiting[_STRATUM[contribution.target.kind]].letters
            waiting = letters.setdefault(contribution.target, {})
            known = waiting.get(contribution.source)
            if known is None or known.version < contribution.version:
                waiting[contribution.source] = contribution
        else:
            self.effects.mail[contribution.target, contribution.source] = contribution
