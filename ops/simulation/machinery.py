"""The whole system in one process, one thread and one random seed, with faults.

The core, the planning and the gateway's decisions are the real ones; disks, wires, hosts and the clock are
simulated.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any
from zlib import crc32

from adapters.simulated_erp.books import Books, Manners, Posted
from adapters.simulated_erp.models import Instruction
from canonical.envelope import Event
from canonical.errors import Fenced
from canonical.facts.base import Fact
from canonical.facts.erp import PostingAnnulled, PostingConfirmed, PostingRejected
from canonical.identity import PostingKey, TwinRef
from canonical.postings import Command, Posting
from ops.simulation.faults import RATE, Fault
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution
from twins.core.dispatch import QueuedCommand, decide
from twins.core.gaps import gaps
from twins.core.ledger import Record, Status
from twins.core.rules import Policy
from twins.core.twin import Snapshot, Stored, Twin

HOSTS = 3
BATCH_MAX = 8
CROWD = 1
"""So small that most answers to others of the same host are mail, too."""
SLOW_STEPS = 40
"""Deliveries that pass until a slow ERP has posted."""
REPLIED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""Replies are registers: their time means nothing."""


@dataclass(slots=True)
class Disk:
    """What has been committed. Outlives every host."""

    events: dict[TwinRef, dict[tuple[str, bytes], Event]] = field(default_factory=dict)
    registers: dict[TwinRef, dict[TwinRef, Contribution]] = field(default_factory=dict)
    records: dict[TwinRef, dict[tuple[PostingKey, int], Record]] = field(default_factory=dict)
    versions: dict[TwinRef, int] = field(default_factory=dict)
    queue: dict[int, QueuedCommand] = field(default_factory=dict)
    mail: dict[tuple[TwinRef, TwinRef], Contribution] = field(default_factory=dict)
    epochs: Counter[str] = field(default_factory=Counter)
    numbers: Any = field(default_factory=lambda: count(1))

    def claim(self, host: str) -> int:
        self.epochs[host] += 1
        return self.epochs[host]

    def load(self, ref: TwinRef) -> Stored:
        return Stored(
            self.versions.get(ref, 0),
            tuple(self.events.get(ref, {}).values()),
            tuple(self.registers.get(ref, {}).values()),
            tuple(self.records.get(ref, {}).values()),
        )

    def commit(self, host: str, epoch: int, effects: Effects, delivered: Iterable[Contribution]) -> None:
        if self.epochs[host] != epoch:
            raise Fenced(f"{host} lost epoch {epoch}")
        for event, _ in effects.events:
            self.events.setdefault(event.subject, {})[event.event_id, event.digest()] = event
        for (target, source), word in effects.registers.items():
            known = self.registers.setdefault(target, {}).get(source)
            if known is None or known.version < word.version:
                self.registers[target][source] = word
        for owner, record in effects.records:
            self.records.setdefault(owner, {})[record.key, record.version] = record
        for ref, twin in effects.touched.items():
            self.versions[ref] = twin.version
        for owner, command in effects.commands:
            number = next(self.numbers)
            self.queue[number] = QueuedCommand(number, owner, command, False)
        for address, letter in effects.mail.items():
            self.mail[address] = letter
        for letter in delivered:
            known = self.mail.get((letter.target, letter.source))
            if known is not None and known.version <= letter.version:
                del self.mail[letter.target, letter.source]


@dataclass(slots=True)
class Host:
    """One incarnation: what it has in memory goes with it."""

    name: str
    epoch: int
    disk: Disk
    policy: Policy
    twins: dict[TwinRef, Twin] = field(default_factory=dict)

    def fold(self, events: Sequence[Event], letters: Sequence[Contribution]) -> Effects:
        batch = Batch(self.twins, lambda ref: host_of(ref) == self.name, CROWD)
        batch.deliver(events, letters)
        while True:
            for ref in batch.missing():
                self.twins[ref] = Twin.restore(ref, self.policy, self.disk.load(ref))
            if not batch.step():
                return batch.finish()


def host_of(ref: TwinRef) -> str:
    return f"host-{crc32(str(ref).encode()) % HOSTS}"


@dataclass(order=True, slots=True)
class Delivery:
    """Events or mail on the wire to a host."""

    at: int
    number: int
    host: str = field(compare=False)
    events: tuple[Event, ...] = field(compare=False, default=())
    letters: tuple[Contribution, ...] = field(compare=False, default=())


class Simulation:
    def __init__(self, events: Sequence[Event], seed: int, faults: frozenset[Fault], policy: Policy) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.injected: Counter[str] = Counter()
        self.disk = Disk()
        self.books = Books(Manners(idempotent=False))  # so that whatever is told twice shows
        self.policy = policy
        self.now = 0
        self._wire: list[Delivery] = []
        self._numbers = count()
        self.hosts = {name: self._start(name) for name in (f"host-{n}" for n in range(HOSTS))}
        self._zombies: list[tuple[Host, Effects]] = []
        self._posting: dict[int, int] = {}
        """Commands that a slow ERP is working on → when it will be done."""
        self.fenced = 0
        self.backfilled = 0
        """Numbers that sources were asked for."""
        self.not_fenced = 0
        self._sources: dict[str, dict[int, list[Event]]] = {}
        """What each source that numbers its events can tell again."""
        for event in events:
            if event.sequence is not None:
                self._sources.setdefault(event.source, {}).setdefault(event.sequence, []).append(event)
        for at, event in enumerate(events):
            self._send_event(event, at)

    # --- the run

    def run(self) -> None:
        while self._wire:
            delivery = heapq.heappop(self._wire)
            self.now = max(self.now, delivery.at)
            self._arrive(delivery)
            if self.random.random() < 0.2:
                self._gateway()
        self._heal()

    def _heal(self) -> None:
        """Without faults, let everything that waits come to rest."""
        self._wake_zombies()
        self.faults = frozenset()
        self._backfill()
        while self.disk.queue or self.disk.mail or self._wire:
            for letter in list(self.disk.mail.values()):
                self._arrive(Delivery(self.now, next(self._numbers), host_of(letter.target), (), (letter,)))
            while self._wire:
                self._arrive(heapq.heappop(self._wire))
            before = len(self.disk.queue)
            self._gateway()
            if before and len(self.disk.queue) == before and not self._wire and not self.disk.mail:
                break

    def _strikes(self, fault: Fault) -> bool:
        if fault not in self.faults or self.random.random() >= RATE[fault]:
            return False
        self.injected[fault.value] += 1
        return True

    # --- wires

    def _send_event(self, event: Event, at: int) -> None:
        if self._can_be_missed(event) and self._strikes(Fault.DROP):
            return
        delay = self.random.randrange(1, 2_000) if self._strikes(Fault.REORDER) else 0
        self._put(at + delay, host_of(event.subject), (event,))
        if self._strikes(Fault.DUPLICATE):
            self._put(at + self.random.randrange(0, 2_000), host_of(event.subject), (event,))

    def _can_be_missed(self, event: Event) -> bool:
        """Whether what the source tells later shows that this is missing."""
        if event.sequence is None:
            return False
        numbers = self._sources[event.source]
        return 0 < event.sequence < max(numbers) and len(numbers[event.sequence]) == 1

    def _backfill(self) -> None:
        """Ask each source for the numbers that it left out."""
        told: dict[str, dict[int, datetime]] = {}
        for known in self.disk.events.values():
            for event in known.values():
                if event.sequence is not None:
                    told.setdefault(event.source, {})[event.sequence] = event.time
        for source, numbers in sorted(told.items()):
            for gap in gaps(source, sorted(numbers.items())):
                for number in range(gap.first, gap.last + 1):
                    self.backfilled += 1
                    for event in self._sources[source][number]:
                        self._put(self.now, host_of(event.subject), (event,))

    def _put(
        self, at: int, host: str, events: tuple[Event, ...] = (), letters: tuple[Contribution, ...] = ()
    ) -> None:
        heapq.heappush(self._wire, Delivery(at, next(self._numbers), host, events, letters))

    def _arrive(self, first: Delivery) -> None:
        """Take a delivery, together with what waits for the same host, as a broker's prefetch would."""
        together = [first]
        while self._wire and len(together) < BATCH_MAX and self._wire[0].host == first.host:
            if self._wire[0].at > self.now:
                break
            together.append(heapq.heappop(self._wire))
        if self._strikes(Fault.LOSS):
            self._again(together)
            return
        self._take(first.host, together)

    def _again(self, deliveries: Iterable[Delivery]) -> None:
        for one in deliveries:
            self._put(self.now + self.random.randrange(1, 50), one.host, one.events, one.letters)

    # --- hosts

    def _start(self, name: str) -> Host:
        return Host(name, self.disk.claim(name), self.disk, self.policy)

    def _take(self, name: str, deliveries: list[Delivery]) -> None:
        host = self.hosts[name]
        events = [event for one in deliveries for event in one.events]
        letters = [letter for one in deliveries for letter in one.letters]
        effects = host.fold(events, letters)
        if self._strikes(Fault.CRASH_BEFORE_COMMIT):
            self.hosts[name] = self._start(name)
            self._again(deliveries)
            return
        if self._strikes(Fault.ZOMBIE):
            self._zombies.append((host, effects))
            self.hosts[name] = self._start(name)
            self._again(deliveries)
            return
        self.disk.commit(name, host.epoch, effects, letters)
        if self._strikes(Fault.CRASH_AFTER_COMMIT):
            self.hosts[name] = self._start(name)
            self._again(deliveries)
            return
        self._post(effects.mail.values())
        if self._strikes(Fault.PASSIVATION):
            for ref in self.random.sample(sorted(host.twins), k=len(host.twins) // 2):
                del host.twins[ref]
        if self._zombies and self.random.random() < 0.1:
            self._wake_zombies()

    def _wake_zombies(self) -> None:
        for zombie, effects in self._zombies:
            try:
                self.disk.commit(zombie.name, zombie.epoch, effects, ())
                self.not_fenced += 1
            except Fenced:
                self.fenced += 1
        self._zombies = []

    def _post(self, letters: Iterable[Contribution]) -> None:
        for letter in letters:
            if self._strikes(Fault.MAIL_LOSS):
                continue
            for _ in range(2 if self._strikes(Fault.MAIL_DUPLICATE) else 1):
                at = self.now + self.random.randrange(0, 20)
                self._put(at, host_of(letter.target), (), (letter,))

    # --- gateway and ERP

    def _gateway(self) -> None:
        queue = [self.disk.queue[number] for number in sorted(self.disk.queue)]
        decided = decide(queue, self.statuses())
        for post, reverse in decided.annul:
            fact = PostingAnnulled(posting_key=post.command.key, version=post.command.version)
            self._reply(post, fact, "annulled")
            del self.disk.queue[post.number], self.disk.queue[reverse.number]
        for one in decided.drop:
            del self.disk.queue[one.number]
        for one in decided.send:
            self._tell(one)

    def statuses(self) -> dict[tuple[PostingKey, int], Status]:
        return {
            place: record.status
            for records in self.disk.records.values()
            for place, record in records.items()
        }

    def _tell(self, one: QueuedCommand) -> None:
        command = one.command
        if self._is_still_posting(one.number):
            return
        self.disk.queue[one.number] = QueuedCommand(one.number, one.owner, command, True, one.attempts + 1)
        if self._strikes(Fault.ERP_AWAY):
            return
        known = self.books.find(command.idempotency_key) if one.sent else ()
        if known:
            number = known[0].number
        else:
            if self._is_slow(one.number):
                return
            refusal = "not today" if self._strikes(Fault.ERP_REFUSES) else None
            answer = None if refusal else self.books.take(_instruction(command))
            if not isinstance(answer, Posted):
                reason = refusal or (answer.reason if answer is not None else "")
                self._reply(one, self._rejected(one, reason), "rejected")
                del self.disk.queue[one.number]
                return
            number = answer.document.number
            if self._strikes(Fault.ERP_TIMEOUT):
                return
        if self._strikes(Fault.ERP_FORGETS):
            return
        fact = PostingConfirmed(
            posting_key=command.key, version=command.version, action=command.action.value, document=number
        )
        self._reply(one, fact, "confirmed")
        del self.disk.queue[one.number]

    def _is_slow(self, number: int) -> bool:
        """Whether the ERP begins to take its time over a command; the call to it goes on meanwhile."""
        if number in self._posting or not self._strikes(Fault.ERP_SLOW):
            return False
        self._posting[number] = self.now + SLOW_STEPS
        return True

    def _is_still_posting(self, number: int) -> bool:
        return bool(self.faults) and self.now < self._posting.get(number, 0)

    def _rejected(self, one: QueuedCommand, reason: str) -> PostingRejected:
        command = one.command
        return PostingRejected(
            posting_key=command.key,
            version=command.version,
            action=command.action.value,
            reason=reason,
            again=command.again,
        )

    def _reply(self, one: QueuedCommand, fact: Fact, outcome: str) -> None:
        """The gateway commits a reply with its twin before it takes the command off the queue."""
        told = Event("/erp/main", f"{one.command.idempotency_key}/{outcome}", one.owner, REPLIED_AT, fact)
        host = self.hosts[host_of(one.owner)]
        effects = host.fold([told], ())
        self.disk.commit(host.name, host.epoch, effects, ())
        self._post(effects.mail.values())

    # --- what is left

    def snapshots(self) -> dict[TwinRef, Snapshot]:
        kept = (Twin.restore(ref, self.policy, self.disk.load(ref)) for ref in sorted(self.disk.versions))
        return {one.ref: one.snapshot() for one in kept}

    def records(self) -> dict[PostingKey, tuple[Record, ...]]:
        """Every key's versions, ascending."""
        found: dict[PostingKey, list[Record]] = {}
        for records in self.disk.records.values():
            for place in sorted(records):
                found.setdefault(place[0], []).append(records[place])
        return {key: tuple(versions) for key, versions in found.items()}

    def in_erp(self) -> dict[PostingKey, list[Posting]]:
        held: dict[PostingKey, list[Posting]] = {}
        for document in self.books.documents:
            if document.live:
                held.setdefault(document.posting_key, []).append(document.posting)
        return held


def _instruction(command: Command) -> Instruction:
    return Instruction(command.idempotency_key, command.action, command.version, command.posting)
