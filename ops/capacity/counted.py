"""What a message leads to, counted and not timed: rows, and mail between hosts.

The bench has one host, which needs no mail. With several, what a twin contributes to another goes to the host
of that one, is taken in there, and may lead to more. The core says how much, over the demo's day.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import process_time
from zlib import crc32

from canonical.envelope import Event
from canonical.identity import TwinRef
from twins.core.batch import Batch
from twins.core.contributions import Contribution
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin


@dataclass(frozen=True, slots=True)
class Counted:
    """Of a message, where every twin is on another host. `counted` finds them anew (tests/unit)."""

    rows: float = 2.4
    """Written for a message of which 60 % are new: events, registers or mail, twins, postings, commands."""
    bulk_share: float = 0.5
    """Scans, which have a queue of their own."""
    letters_a_message: float = 0.46
    """Contributions to twins of other hosts, when a message is taken."""
    letters_a_letter: float = 0.38
    """Further ones when one is absorbed."""
    fold_kept: float = 0.35
    """Of a message's fold, what is left when its contributions are folded elsewhere."""
    fold_a_letter: float = 1.2
    """Folding a letter, in folds of a message with everything in one host: it is a batch nearly alone."""
    rows_a_letter: float = 1.3
    """A register, and its twin where nothing else has changed that."""


def mail(counted: Counted, hosts: int) -> float:
    """Letters that a message leads to, and letters of letters, between as many hosts."""
    remote = (hosts - 1) / hosts
    return counted.letters_a_message * remote / (1 - counted.letters_a_letter * remote)


@dataclass(slots=True)
class Tally:
    """Of a whole day. Times are of the processor, in s."""

    messages: int = 0
    rows: int = 0
    letters: int = 0
    answered: int = 0
    """Letters that letters led to."""
    taking_s: float = 0.0
    absorbing_s: float = 0.0


@dataclass(slots=True)
class Hosts:
    """Hosts without database or network: the core alone, with mail between them as the runtime sends it."""

    many: int
    batch: int
    tally: Tally = field(default_factory=Tally)
    _twins: list[dict[TwinRef, Twin]] = field(init=False)
    _wire: deque[tuple[int, list[Contribution]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._twins = [{} for _ in range(self.many)]

    def take(self, events: Sequence[Event]) -> Tally:
        gathering: dict[int, list[Event]] = {}
        for event in events:
            host = self._of(event.subject)
            gathering.setdefault(host, []).append(event)
            if len(gathering[host]) == self.batch:
                self._take(host, gathering.pop(host))
        for host, rest in gathering.items():
            self._take(host, rest)
        return self.tally

    def _take(self, host: int, events: list[Event]) -> None:
        self.tally.messages += len(events)
        started = process_time()
        self._fold(host, events, ())
        self.tally.taking_s += process_time() - started
        while self._wire:
            other, letters = self._wire.popleft()
            started, before = process_time(), self.tally.letters
            self._fold(other, (), letters)
            self.tally.absorbing_s += process_time() - started
            self.tally.answered += self.tally.letters - before

    def _fold(self, host: int, events: Sequence[Event], letters: Sequence[Contribution]) -> None:
        residents = self._twins[host]
        batch = Batch(residents, lambda ref: self._of(ref) == host)
        batch.deliver(events, letters)
        while True:
            for ref in batch.missing():
                residents[ref] = Twin.restore(ref, Policy(), Stored())
            if not batch.step():
                break
        effects = batch.finish()
        written = (effects.events, effects.registers, effects.mail, effects.touched, effects.records)
        self.tally.rows += sum(map(len, written)) + len(effects.commands)
        self.tally.letters += len(effects.mail)
        posts: dict[int, list[Contribution]] = {}
        for letter in effects.mail.values():
            posts.setdefault(self._of(letter.target), []).append(letter)
        self._wire.extend(posts.items())

    def _of(self, ref: TwinRef) -> int:
        return crc32(str(ref).encode()) % self.many


def counted(events: Sequence[Event], bulk_types: frozenset[str]) -> Counted:
    """Count over these events: with one host, and with as many that nearly all mail is between hosts."""
    whole = Hosts(1, 400).take(events)
    many = 32
    apart = Hosts(many, 100).take(events)
    remote = (many - 1) / many
    first = apart.letters - apart.answered
    fold_s = whole.taking_s / whole.messages
    types = Counter(event.fact.TYPE in bulk_types for event in events)
    return Counted(
        rows=whole.rows / whole.messages,
        bulk_share=types[True] / len(events),
        letters_a_message=first / apart.messages / remote,
        letters_a_letter=apart.answered / apart.letters / remote,
        fold_kept=min(apart.taking_s / apart.messages / fold_s, 1.0),
        fold_a_letter=apart.absorbing_s / apart.letters / fold_s,
        rows_a_letter=max((apart.rows - whole.rows) / apart.letters, 0.0),
    )
