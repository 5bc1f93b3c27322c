"""What one installation can carry: hosts, an ingest and a database of its own. Arithmetic, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from ops.capacity.counted import Counted, mail
from ops.capacity.measured import Assumed, Measured, activation_us

BATCH_MAX = 500
LANES = 2
"""Queues that an ingest actor consumes, scans apart: each has one batch under way for each host."""


@dataclass(frozen=True, slots=True)
class Inputs:
    measured: Measured = field(default_factory=Measured)
    counted: Counted = field(default_factory=Counted)
    assumed: Assumed = field(default_factory=Assumed)


@dataclass(frozen=True, slots=True)
class Installation:
    """One prefix of queues, one database. *gathered* is not built."""

    hosts: int = 1
    ingests: int = 1
    prefetch: int = 2_000
    """Messages of each queue that an ingest actor holds."""
    gathered: bool = False
    """Mail waits for the next batch of its host and is folded with it; otherwise each call is a batch."""

    @property
    def built(self) -> bool:
        return not self.gathered


AS_BUILT = Installation()
"""The most that one host carries; more hosts carry less each, see `limits`."""
GATHERED = Installation(hosts=4, ingests=3, prefetch=4_000, gathered=True)
"""What could carry several times as much as one host in one installation."""


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


def work(inputs: Inputs, shape: Installation, batch: float, absent: float = 0.0) -> Work:
    """*absent*: share of messages whose twin is not in memory."""
    m, c, a = inputs.measured, inputs.counted, inputs.assumed
    sent = mail(c, shape.hosts, batch)
    calls = 0.0 if shape.gathered else sent.calls
    kept_us, letter_us = fold_us(inputs, shape, absent), c.fold_a_letter * m.fold_us
    row_us = m.rows_us + absent * a.activation_read_us
    transaction_us = m.transaction_us + a.replica_us

    took = sent.letters if shape.gathered else 0.0
    take = Turn(
        batch * (kept_us + took * letter_us),
        transaction_us + batch * (row_us + took * commit_letter_us(inputs, shape)),
    )
    kinds = [(1.0, take)]
    if calls:
        letters = sent.letters / calls
        absorb = Turn(letters * letter_us, transaction_us + letters * commit_letter_us(inputs, shape))
        kinds.append((batch * calls, absorb))
    fold = sum(times * turn.fold_us for times, turn in kinds) / batch
    commit = sum(times * turn.commit_us for times, turn in kinds) / batch
    waited = a.replica_us * (1 / batch + calls)
    rows = c.rows + sent.letters * (c.rows_a_letter + 1)
    return Work(
        broker=m.broker_us,
        ingest=m.ingest_us,
        host=fold + (commit - waited) * a.commit_in_host,
        turns=_overlapping(kinds) / batch,
        lane=(take.fold_us + take.commit_us + 2 * a.call_us) / batch,
        database=(commit - waited) * (1 - a.commit_in_host) + waited,
        log_bytes=m.disk_bytes * m.different_share * a.wal_factor * rows / c.rows,
        pages=rows,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch, or the mail of one call, in µs."""

    fold_us: float
    commit_us: float


def _overlapping(kinds: list[tuple[float, Turn]]) -> float:
    """µs of turns of these kinds, so many of each, that come in any order.

    What comes next is folded while this is committed, and both must have ended: where long turns alternate
    with short ones, folding and committing hide little of each other. That came out of the simulation.
    """
    total = sum(times for times, _ in kinds)
    pairs = ((one, other) for one in kinds for other in kinds)
    return sum(
        times * others / total * max(this.commit_us, following.fold_us)
        for (times, this), (others, following) in pairs
    )


def fold_us(inputs: Inputs, shape: Installation, absent: float) -> float:
    """A message without what it leads to at other hosts."""
    m, c = inputs.measured, inputs.counted
    folded = m.fold_us * (1 - (1 - c.fold_kept) * (1 - 1 / shape.hosts))
    return m.other_us + folded + absent * activation_us(m, inputs.assumed)


def commit_letter_us(inputs: Inputs, shape: Installation) -> float:
    """A letter's rows, and taking it out of the mail: one statement each, or one for all that is gathered."""
    m, c = inputs.measured, inputs.counted
    row_us = m.rows_us / c.rows
    return c.rows_a_letter * row_us + (row_us if shape.gathered else m.letter_us)


def batch_when_full(shape: Installation) -> float:
    """Messages a batch at most: half of what an ingest holds for a host is under way, the rest gathers."""
    return min(BATCH_MAX, max(shape.prefetch / shape.hosts / 2, 1.0))


def limits(inputs: Inputs, shape: Installation, absent: float = 0.0) -> dict[str, float]:
    """Place → messages a second at which it is full, were it alone.

    A lane has one batch under way, so with one ingest it takes both, evenly filled, to keep a host busy.
    """
    one = work(inputs, shape, batch_when_full(shape), absent)
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
    one, a = work(inputs, shape, batch_when_full(shape), absent), inputs.assumed
    return {
        "transactions": a.database_cores * 1e6 / one.database,
        "log": a.wal_bytes_per_s / one.log_bytes,
    }


def carried(inputs: Inputs, shape: Installation, absent: float = 0.0) -> float:
    """Messages a second when full, with a database server of its own."""
    return min((limits(inputs, shape, absent) | database_limits(inputs, shape, absent)).values())


def by_cost_alone(inputs: Inputs, shape: Installation) -> float:
    """What it would carry did a message cost the same however many hosts share it, and no turn wait."""
    one = work(inputs, Installation(), BATCH_MAX)
    return min(shape.hosts * 1e6 / one.host, shape.ingests * 1e6 / one.ingest)
