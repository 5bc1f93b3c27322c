"""What one installation can carry: hosts, an ingest and a database of its own. Arithmetic, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from ops.capacity.counted import Counted, mail
from ops.capacity.measured import Assumed, Measured, activation_us
from twins.core.portions import LEAST, SHARE
from twins.runtime.gathering import TOGETHER_MAX

BATCH_MAX = 500
LANES = 2
"""Queues that an ingest actor consumes, scans apart: each has a batch under way for each host, or two full
ones."""


@dataclass(frozen=True, slots=True)
class Inputs:
    measured: Measured = field(default_factory=Measured)
    counted: Counted = field(default_factory=Counted)
    assumed: Assumed = field(default_factory=Assumed)


@dataclass(frozen=True, slots=True)
class Installation:
    """One prefix of queues, one database."""

    hosts: int = 1
    ingests: int = 1
    prefetch: int = 2_000
    """Messages of each queue that an ingest actor holds."""
    latency_target_s: float = 0.1
    """TWINSYNC_LATENCY_TARGET_MS: a portion of scans may occupy a host for a share of it."""


AS_BUILT = Installation()
"""The most that one host carries; more hosts carry less each, see `limits`."""


def shipped(hosts: int) -> Installation:
    """With as many ingest actors as `TWINSYNC_INGEST_MAX` allows where nobody has set it."""
    return Installation(hosts, ingests=-(-2 * hosts // 3))


@dataclass(frozen=True, slots=True)
class Work:
    """What a message costs at each place, its mail included, in µs where nothing else is said."""

    broker: float
    """Of the leader of its queue."""
    ingest: float
    host: float
    """Of the host's one thread: decoding, folding, activations, making rows."""
    turns: float
    """Of the host's turns: one batch is folded while another is committed."""
    lane: float
    """Of one lane, which waits for each of its batches from call to answer."""
    database: float
    """Of one transaction's place."""
    log_bytes: float
    pages: float
    """Touched."""


def work(inputs: Inputs, shape: Installation, absent: float = 0.0) -> Work:
    """When full. *absent*: share of messages whose twin is not in memory."""
    m, c, a = inputs.measured, inputs.counted, inputs.assumed
    cycle = _cycle(inputs, shape, absent)
    fold = sum(times * turn.fold_us for times, turn in cycle.turns) / cycle.messages
    commit = sum(times * turn.commit_us for times, turn in cycle.turns) / cycle.messages
    waited = a.replica_us * sum(times for times, _ in cycle.turns) / cycle.messages
    letters = mail(c, shape.hosts)
    full = batch_when_full(shape)
    batch = _turn(inputs, shape, full, full * letters, absent)
    under_way = 2 if shape.prefetch / shape.hosts >= 2 * BATCH_MAX else 1
    rows = c.rows + letters * (c.rows_a_letter + 1)
    return Work(
        broker=m.broker_us,
        ingest=m.ingest_us,
        host=fold + (commit - waited) * a.commit_in_host,
        turns=_overlapping(cycle, inputs) / cycle.messages,
        lane=(batch.fold_us + batch.commit_us + 2 * a.call_us) / full / under_way,
        database=(commit - waited) * (1 - a.commit_in_host) + waited,
        log_bytes=m.disk_bytes * m.different_share * a.wal_factor * rows / c.rows,
        pages=rows,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages and letters that are folded and committed together, in µs."""

    fold_us: float
    commit_us: float


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a full host does from one portion of scans to the next: a turn of these, so many of all else."""

    messages: float
    scans: Turn
    pressing: Turn
    times: float

    @property
    def turns(self) -> list[tuple[float, Turn]]:
        return [(1.0, self.scans), (self.times, self.pressing)]


def _turn(inputs: Inputs, shape: Installation, messages: float, letters: float, absent: float) -> Turn:
    m, c, a = inputs.measured, inputs.counted, inputs.assumed
    row_us = m.rows_us + absent * a.activation_read_us
    return Turn(
        messages * fold_us(inputs, shape, absent) + letters * c.fold_a_letter * m.fold_us,
        m.transaction_us + a.replica_us + messages * row_us + letters * commit_letter_us(inputs),
    )


def _cycle(inputs: Inputs, shape: Installation, absent: float) -> Cycle:
    """A portion of scans, and all that came with it, mail included: in one turn, as long as it may be."""
    bulk = inputs.counted.bulk_share
    scans = portion(inputs, shape, absent)
    messages = scans / bulk
    pressing, letters = messages - scans, messages * mail(inputs.counted, shape.hosts)
    times = max(1.0, (pressing + letters) / TOGETHER_MAX)
    return Cycle(
        messages,
        _turn(inputs, shape, scans, 0.0, absent),
        _turn(inputs, shape, pressing / times, letters / times, absent),
        times,
    )


def portion(inputs: Inputs, shape: Installation, absent: float = 0.0) -> float:
    """Scans a turn, as `Portions` cuts them once it has learnt what a message takes."""
    fixed, more = (_turn(inputs, shape, many, 0.0, absent) for many in (0.0, 1.0))
    message_us = more.fold_us + more.commit_us - fixed.commit_us
    room_us = SHARE * shape.latency_target_s * 1e6 - fixed.commit_us
    return min(max(room_us / message_us, float(LEAST)), float(BATCH_MAX))


def _overlapping(cycle: Cycle, inputs: Inputs) -> float:
    """µs of a cycle.

    What comes next is folded while this is committed, but for the part that is the thread's, and both must
    have ended: where long turns alternate with short ones, folding and committing hide little of each other.
    That came out of the simulation.
    """
    a = inputs.assumed

    def both(this: Turn, following: Turn) -> float:
        in_thread = (this.commit_us - a.replica_us) * a.commit_in_host
        return max(this.commit_us, in_thread + following.fold_us)

    scans, pressing = cycle.scans, cycle.pressing
    between = (cycle.times - 1) * both(pressing, pressing)
    return both(scans, pressing) + between + both(pressing, scans)


def fold_us(inputs: Inputs, shape: Installation, absent: float) -> float:
    """A message without what it leads to at other hosts."""
    m, c = inputs.measured, inputs.counted
    folded = m.fold_us * (1 - (1 - c.fold_kept) * (1 - 1 / shape.hosts))
    return m.other_us + folded + absent * activation_us(m, inputs.assumed)


def commit_letter_us(inputs: Inputs) -> float:
    """A letter's rows, and taking it out of the mail."""
    m, c = inputs.measured, inputs.counted
    return c.rows_a_letter * m.rows_us / c.rows + m.letter_us


def batch_when_full(shape: Installation) -> float:
    """Messages a batch at most: half of what an ingest holds for a host is under way, the rest gathers."""
    return min(BATCH_MAX, max(shape.prefetch / shape.hosts / 2, 1.0))


def limits(inputs: Inputs, shape: Installation, absent: float = 0.0) -> dict[str, float]:
    """Place → messages a second at which it is full, were it alone."""
    one = work(inputs, shape, absent)
    fuller = max(inputs.counted.bulk_share, 1 - inputs.counted.bulk_share)
    return {
        "queue": shape.ingests * 1e6 / (one.broker * fuller),
        "ingest": shape.ingests * 1e6 / one.ingest,
        "host": shape.hosts * 1e6 / one.host,
        "turns": shape.hosts * 1e6 / one.turns,
        "lanes": shape.hosts * shape.ingests * 1e6 / (one.lane * fuller),
    }


def database_limits(inputs: Inputs, shape: Installation, absent: float = 0.0) -> dict[str, float]:
    """The same for one server of PostgreSQL, whichever installations share it."""
    one, a = work(inputs, shape, absent), inputs.assumed
    return {
        "transactions": a.database_cores * 1e6 / one.database,
        "log": a.wal_bytes_per_s / one.log_bytes,
    }


def carried(inputs: Inputs, shape: Installation, absent: float = 0.0) -> float:
    """Messages a second when full, with a database server of its own."""
    return min((limits(inputs, shape, absent) | database_limits(inputs, shape, absent)).values())


def by_cost_alone(inputs: Inputs, shape: Installation) -> float:
    """What it would carry did a message cost the same however many hosts share it, and no turn wait."""
    one = work(inputs, Installation())
    return min(shape.hosts * 1e6 / one.host, shape.ingests * 1e6 / one.ingest)
