"""An installation under load, as a discrete-event simulation: arrivals, queues, lanes, turns, transactions.

The shapes are the product's: an ingest takes messages one after the other within its prefetch; each of its
lanes has one batch of at most 500 under way for each host while the next gathers, and a second where that one
is full; a host folds a batch while the one before is committed, in one thread that also makes the rows. It
takes all calls together that wait by then, mail of other hosts among them, but for scans: those come last, in
portions. Installations share a database: so many transactions at once, and one log. Times are drawn around
what was measured.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import exp, log, sqrt
from random import Random

from ops.capacity.installation import BATCH_MAX, LANES, Inputs, Installation, commit_letter_us, fold_us
from twins.core.portions import Portions
from twins.runtime.gathering import TOGETHER_MAX
from twins.runtime.turn import GIVES_WAY_MAX

SCANS = LANES - 1
"""The queue whose messages may wait."""
SLICE_S = 0.001
"""Arrivals are let in so often."""
BURST_TIMES, BURST_SHARE, BURST_S = 2.0, 0.2, 0.25
"""Bursty arrivals come at twice the rate for a fifth of the time, a quarter of a second each on average."""

Then = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Load:
    """Messages that come to all installations together."""

    events_per_s: float
    bursty: bool = False
    seconds: float = 4.0
    warm_up_s: float = 1.0
    """Not measured."""
    absent: float = 0.0
    """Share of messages whose twin has to be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen after the warm-up. Latency from the publisher's confirm to the commit."""

    offered_per_s: float
    carried_per_s: float
    p50_ms: float
    p99_ms: float
    utilisation: dict[str, float]
    """Place → share of the time that it was busy."""
    batch_messages: float
    arrived: int
    left: int
    waiting: int
    """Of messages, wherever they wait."""
    letters_sent: int
    letters_absorbed: int
    letters_waiting: int
    waiting_halfway: int

    @property
    def keeps_up(self) -> bool:
        """It carries what came, but for what a burst leaves, and what waits has not grown by a twentieth."""
        grown = self.waiting - self.waiting_halfway
        return self.carried_per_s > 0.92 * self.offered_per_s and grown < 0.05 * self.arrived


class Simulation:
    def __init__(
        self,
        inputs: Inputs,
        shape: Installation,
        load: Load,
        *,
        installations: int = 1,
        seed: int = 1,
    ) -> None:
        self.inputs, self.shape, self.load, self.installations = inputs, shape, load, installations
        self.random = Random(seed)
        self.now = 0.0
        self.arrived = self.arrived_warm = self.left = self.letters_sent = self.letters_absorbed = 0
        self.latencies: list[float] = []
        self.left_warm = self.batches = 0
        self._ahead: list[tuple[float, int, Then]] = []
        self._numbers = count()
        self._sigma = sqrt(log(1 + inputs.measured.spread**2))
        self.database = Database(self)
        self.places = [Place(self, self.database) for _ in range(installations)]

    # --- time

    def after(self, seconds: float, then: Then) -> None:
        heapq.heappush(self._ahead, (self.now + seconds, next(self._numbers), then))

    def drawn(self, mean_us: float) -> float:
        """Seconds around so many µs: log-normal, as spread as was measured."""
        return mean_us * 1e-6 * exp(self.random.gauss(-(self._sigma**2) / 2, self._sigma))

    def many(self, mean: float) -> int:
        """A Poisson number."""
        if mean > 50:
            return max(0, round(self.random.gauss(mean, sqrt(mean))))
        many, product, least = 0, self.random.random(), exp(-mean)
        while product > least:
            many += 1
            product *= self.random.random()
        return many

    @property
    def warm(self) -> bool:
        return self.now >= self.load.warm_up_s

    def run(self) -> Outcome:
        for place in self.places:
            place.arrivals.let_in()
        load, end = self.load, self.load.warm_up_s + self.load.seconds
        halfway = -1
        while self._ahead and self._ahead[0][0] <= end:
            at, _, then = heapq.heappop(self._ahead)
            if halfway < 0 and at > load.warm_up_s + load.seconds / 2:
                halfway = self.waiting()
            self.now = at
            then()
        self.now = end
        return self._outcome(halfway)

    def waiting(self) -> int:
        return sum(place.waiting() for place in self.places)

    def _outcome(self, halfway: int) -> Outcome:
        seconds = self.load.seconds
        seen = sorted(self.latencies) or [float("inf")]
        hosts = [host for place in self.places for host in place.hosts]
        ingests = [ingest for place in self.places for ingest in place.ingests]
        return Outcome(
            offered_per_s=self.arrived_warm / seconds,
            carried_per_s=self.left_warm / seconds,
            p50_ms=seen[len(seen) // 2] * 1e3,
            p99_ms=seen[len(seen) * 99 // 100] * 1e3,
            utilisation={
                "ingest": sum(one.busy_s for one in ingests) / len(ingests) / seconds,
                "host": sum(one.thread.busy_s for one in hosts) / len(hosts) / seconds,
                "commit": sum(one.committing_s for one in hosts) / len(hosts) / seconds,
                "database": self.database.busy_s / self.database.slots / seconds,
                "log": self.database.log_s / seconds,
            },
            batch_messages=self.left_warm / max(self.batches, 1),
            arrived=self.arrived,
            left=self.left,
            waiting=self.waiting(),
            letters_sent=self.letters_sent,
            letters_absorbed=self.letters_absorbed,
            letters_waiting=sum(host.letters_waiting for host in hosts),
            waiting_halfway=halfway,
        )


@dataclass(slots=True)
class Message:
    at: float
    host: int


@dataclass(slots=True)
class Job:
    """What a host was called with: a lane's batch, or mail."""

    messages: list[Message]
    """Of scans, those that no turn has taken yet."""
    may_wait: bool
    done: Then
    letters: int = 0

    @property
    def size(self) -> int:
        return len(self.messages) + self.letters


@dataclass(slots=True)
class Taken:
    """By a host, in one turn."""

    jobs: list[Job]
    messages: list[Message]
    letters: int
    fold_s: float = 0.0


class Place:
    """One installation."""

    def __init__(self, sim: Simulation, database: Database) -> None:
        self.hosts = [Host(sim, self, database) for _ in range(sim.shape.hosts)]
        self.ingests = [Ingest(sim, self) for _ in range(sim.shape.ingests)]
        self.arrivals = Arrivals(sim, self)

    def waiting(self) -> int:
        return sum(ingest.waiting() for ingest in self.ingests) + sum(host.messages for host in self.hosts)


class Arrivals:
    """Poisson, or Poisson whose rate changes between two levels."""

    def __init__(self, sim: Simulation, place: Place) -> None:
        self._sim, self._place = sim, place
        self._rate = sim.load.events_per_s / sim.installations
        self._next = sim.random.expovariate(self._rate)
        self._bursting, self._changes = False, 0.0

    def let_in(self) -> None:
        sim, place, random = self._sim, self._place, self._sim.random
        bulk, hosts, ingests = sim.inputs.counted.bulk_share, len(place.hosts), place.ingests
        end = sim.now + SLICE_S
        while self._next < end:
            ingest = ingests[int(random.random() * len(ingests))]
            ingest.arrive(int(random.random() < bulk), Message(self._next, int(random.random() * hosts)))
            sim.arrived += 1
            sim.arrived_warm += sim.warm
            self._next += random.expovariate(self._current())
        for ingest in ingests:
            ingest.wake()
        sim.after(SLICE_S, self.let_in)

    def _current(self) -> float:
        if not self._sim.load.bursty:
            return self._rate
        while self._next >= self._changes:
            self._bursting = not self._bursting
            lasts = BURST_S if self._bursting else BURST_S * (1 - BURST_SHARE) / BURST_SHARE
            self._changes += self._sim.random.expovariate(1 / lasts)
        calm = (1 - BURST_TIMES * BURST_SHARE) / (1 - BURST_SHARE)
        return self._rate * (BURST_TIMES if self._bursting else calm)


class Ingest:
    """A process that consumes its queues by turns, as long as it holds less of each than its prefetch."""

    def __init__(self, sim: Simulation, place: Place) -> None:
        self._sim, self._place = sim, place
        self._queues: list[deque[tuple[float, Message]]] = [deque() for _ in range(LANES)]
        """As the leader of each gets to them."""
        self._led = [0.0] * LANES
        self._held = [0] * LANES
        self._in_hand = 0
        self._lanes = [[Lane(sim, self, kind, host) for host in place.hosts] for kind in range(LANES)]
        self._busy = False
        self.busy_s = 0.0

    def waiting(self) -> int:
        gathering = sum(len(lane.gathering) + lane.called for lanes in self._lanes for lane in lanes)
        return sum(map(len, self._queues)) + self._in_hand + gathering

    def arrive(self, kind: int, message: Message) -> None:
        sim = self._sim
        self._led[kind] = max(self._led[kind], message.at) + sim.inputs.measured.broker_us * 1e-6
        self._queues[kind].append((self._led[kind], message))

    def wake(self) -> None:
        if self._busy:
            return
        sim, taken = self._sim, []
        for _ in range(sim.inputs.assumed.ingest_messages):
            kinds = [kind for kind in range(LANES) if self._ready(kind)]
            if not kinds:
                break
            kind = min(kinds, key=lambda one: self._queues[one][0][0])
            taken.append((kind, self._queues[kind].popleft()[1]))
            self._held[kind] += 1
        if not taken:
            return
        self._busy, self._in_hand = True, len(taken)
        lasts = sim.drawn(len(taken) * sim.inputs.measured.ingest_us)
        self.busy_s += lasts if sim.warm else 0.0
        sim.after(lasts, lambda: self._sorted(taken))

    def _ready(self, kind: int) -> bool:
        queue = self._queues[kind]
        return bool(queue) and queue[0][0] <= self._sim.now and self._held[kind] < self._sim.shape.prefetch

    def _sorted(self, taken: list[tuple[int, Message]]) -> None:
        self._busy, self._in_hand = False, 0
        for kind, message in taken:
            self._lanes[kind][message.host].add(message)
        self.wake()

    def acknowledged(self, kind: int, many: int) -> None:
        self._held[kind] -= many
        self.wake()


class Lane:
    """Messages of one queue for one host: one batch is under way while the next gathers, or two full ones."""

    def __init__(self, sim: Simulation, ingest: Ingest, kind: int, host: Host) -> None:
        self._sim, self._ingest, self._kind, self._host = sim, ingest, kind, host
        self.gathering: deque[Message] = deque()
        self.called = 0
        """Messages on their way to the host."""
        self._under_way = self._catches_up = False

    def add(self, message: Message) -> None:
        self.gathering.append(message)
        if not self._under_way:
            self._under_way = True
            self._sim.after(0.0, self._next)
        elif self._is_behind and not self._catches_up:
            self._catches_up = True
            self._catch_up()

    @property
    def _is_behind(self) -> bool:
        return len(self.gathering) >= BATCH_MAX

    def _next(self) -> None:
        self._under_way = bool(self.gathering)
        if self._under_way:
            self._send(self._next)

    def _catch_up(self) -> None:
        self._catches_up = self._is_behind
        if self._catches_up:
            self._send(self._catch_up)

    def _send(self, then: Then) -> None:
        batch = [self.gathering.popleft() for _ in range(min(len(self.gathering), BATCH_MAX))]
        many = len(batch)
        self.called += many

        def arrived() -> None:
            self.called -= many
            self._host.take(Job(batch, self._kind == SCANS, lambda: self._call(taken)))

        def taken() -> None:
            self._ingest.acknowledged(self._kind, many)
            then()

        self._call(arrived)

    def _call(self, then: Then) -> None:
        self._sim.after(self._sim.drawn(self._sim.inputs.assumed.call_us), then)


@dataclass(slots=True)
class Thread:
    """Does one thing after the other."""

    sim: Simulation
    busy_s: float = 0.0
    _free_at: float = 0.0

    def spend(self, mean_us: float, then: Then) -> None:
        lasts = self.sim.drawn(mean_us)
        self._free_at = max(self._free_at, self.sim.now) + lasts
        self.busy_s += lasts if self.sim.warm else 0.0
        self.sim.after(self._free_at - self.sim.now, then)


class Host:
    """Folds in turns; a turn ends when what it folded begins to be committed, in the order of folding."""

    def __init__(self, sim: Simulation, place: Place, database: Database) -> None:
        self._sim, self._place, self._database = sim, place, database
        self.thread = Thread(sim)
        self.messages = self.letters_waiting = 0
        self.committing_s = 0.0
        self._pressing: deque[list[Job]] = deque()
        """Those that wait for the same turn. Who comes joins the last."""
        self._scans: deque[Job] = deque()
        """They have a turn while nobody presses, or when they have given way often enough."""
        self._given_way = 0
        self._ahead = 0
        """Turns of those that press, before scans that give way once more."""
        self._portions = Portions(sim.shape.latency_target_s)
        self._folding: Taken | None = None
        self._folded: Taken | None = None
        self._committing = False
        m, c = sim.inputs.measured, sim.inputs.counted
        self._fold_us = fold_us(sim.inputs, sim.shape, sim.load.absent)
        self._fold_letter_us = c.fold_a_letter * m.fold_us
        self._letter_us = commit_letter_us(sim.inputs)

    def take(self, job: Job) -> None:
        self.messages += len(job.messages)
        if job.may_wait:
            self._scans.append(job)
        else:
            self._join(job)
        self._turn()

    def _join(self, job: Job) -> None:
        last = self._pressing[-1] if self._pressing else []
        if not last or sum(one.size for one in last) + job.size > TOGETHER_MAX:
            self._pressing.append([job])
        else:
            last.append(job)

    def _turn(self) -> None:
        if self._folding is not None or self._folded is not None:
            return
        taken = self._folding = self._taken()
        if taken is not None:
            mean = len(taken.messages) * self._fold_us + taken.letters * self._fold_letter_us
            began = self._sim.now
            self.thread.spend(mean, lambda: self._has_folded(taken, began))

    def _taken(self) -> Taken | None:
        if self._pressing and not self._have_given_way():
            return self._pressed(self._pressing.popleft())
        self._given_way = self._ahead = 0
        return self._portion() if self._scans else None

    def _have_given_way(self) -> bool:
        """As `Turn` has it: once for all that press as scans come to the front, and so on."""
        if not self._scans:
            return False
        if not self._ahead:
            if self._given_way == GIVES_WAY_MAX:
                return True
            self._given_way, self._ahead = self._given_way + 1, len(self._pressing)
        self._ahead -= 1
        return False

    def _pressed(self, jobs: list[Job]) -> Taken:
        taken = Taken(
            jobs, [message for job in jobs for message in job.messages], sum(job.letters for job in jobs)
        )
        if taken.messages:
            self._portions.others_came(self._sim.now, len(taken.messages))
        return taken

    def _portion(self) -> Taken:
        job = self._scans.popleft()
        size = self._portions.size(len(job.messages), self._sim.now)
        portion, job.messages = job.messages[:size], job.messages[size:]
        return Taken([job], portion, 0)

    def _has_folded(self, taken: Taken, began: float) -> None:
        taken.fold_s = self._sim.now - began
        self._folded, self._folding = taken, None
        self._commit()

    def _commit(self) -> None:
        if self._committing or self._folded is None:
            return
        taken, self._folded, self._committing = self._folded, None, True
        m, c, a = self._sim.inputs.measured, self._sim.inputs.counted, self._sim.inputs.assumed
        began, many = self._sim.now, len(taken.messages)
        row_us = m.rows_us + self._sim.load.absent * a.activation_read_us
        mean = m.transaction_us + many * row_us + taken.letters * self._letter_us
        there = mean * (1 - a.commit_in_host) + a.replica_us
        rows = many * c.rows + taken.letters * (c.rows_a_letter + 1)
        self.thread.spend(
            mean * a.commit_in_host,
            lambda: self._database.commit(there, rows, lambda: self._committed(taken, began)),
        )
        self._turn()

    def _committed(self, taken: Taken, began: float) -> None:
        sim = self._sim
        self._committing = False
        self.messages -= len(taken.messages)
        self.letters_waiting -= taken.letters
        sim.letters_absorbed += taken.letters
        sim.left += len(taken.messages)
        if sim.warm:
            self.committing_s += sim.now - max(began, sim.load.warm_up_s)
            sim.left_warm += len(taken.messages)
            sim.batches += bool(taken.messages)
            sim.latencies += [sim.now - message.at for message in taken.messages]
        for job in taken.jobs:
            if job.may_wait:
                self._portions.took(len(taken.messages), taken.fold_s + sim.now - began)
            if job.may_wait and job.messages:
                self._scans.append(job)
            else:
                job.done()
        self._send_mail(taken)
        self._commit()
        self._turn()

    def _send_mail(self, taken: Taken) -> None:
        sim, others = self._sim, [host for host in self._place.hosts if host is not self]
        if not others:
            return
        c = sim.inputs.counted
        mean = len(taken.messages) * c.letters_a_message + taken.letters * c.letters_a_letter
        for host in others:
            if letters := sim.many(mean / sim.shape.hosts):
                sim.letters_sent += letters
                host.letters_waiting += letters
                sim.after(sim.drawn(sim.inputs.assumed.call_us), self._posted(host, letters))

    def _posted(self, host: Host, letters: int) -> Then:
        def there() -> None:
            host.take(Job([], False, lambda: None, letters))

        return there


class Database:
    """So many transactions at once; each ends when its part of the one log is flushed."""

    def __init__(self, sim: Simulation) -> None:
        a, m = sim.inputs.assumed, sim.inputs.measured
        self._sim = sim
        self.slots = a.database_cores
        self.busy_s = self.log_s = 0.0
        row_bytes = m.disk_bytes * m.different_share * a.wal_factor / sim.inputs.counted.rows
        self._log_us = row_bytes / a.wal_bytes_per_s * 1e6
        """Flushing a row."""
        self._log_free_at = 0.0
        self._running = 0
        self._waiting: deque[tuple[float, float, Then]] = deque()

    def commit(self, mean_us: float, rows: float, then: Then) -> None:
        self._waiting.append((mean_us, rows, then))
        self._serve()

    def _serve(self) -> None:
        sim = self._sim
        while self._waiting and self._running < self.slots:
            mean_us, rows, then = self._waiting.popleft()
            self._running += 1
            lasts = sim.drawn(mean_us)
            self.busy_s += lasts if sim.warm else 0.0
            sim.after(lasts, self._flushing(rows, then))

    def _flushing(self, rows: float, then: Then) -> Then:
        def flush() -> None:
            sim = self._sim
            lasts = rows * self._log_us * 1e-6
            self.log_s += lasts if sim.warm else 0.0
            self._log_free_at = max(self._log_free_at, sim.now) + lasts
            sim.after(self._log_free_at - sim.now, ended)

        def ended() -> None:
            self._running -= 1
            self._serve()
            then()

        return flush
