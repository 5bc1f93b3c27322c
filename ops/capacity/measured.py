"""What was measured, with units, and what is assumed of the machines: the inputs of the capacity model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from canonical.errors import RejectedMessage

RAW, PRODUCT = "raw consumer", "product"
ONE_ROW, LETTER = "µs of a transaction of one row", "µs of a letter taken in"


@dataclass(frozen=True, slots=True)
class Measured:
    """One machine with one kind of database. Messages count duplicates; µs are of the clock on the wall.

    All of it ran beside each other on the machine's few cores, so times hold waiting for a core too: they are
    upper bounds. `read_bench` fills it from what ``twinsync bench --json`` writes.
    """

    database: str = "postgresql"
    machine: str = "a machine of two cores"
    cores: int = 2
    rounds: int = 1
    product_per_s: float = 5_500.0
    """Messages a second from the queues to the commit, by one host and one ingest actor."""
    raw_per_s: float = 11_164.0
    """Messages a second that one process consumes and acknowledges, and does nothing else with."""
    transaction_us: float = 1_490.0
    """What a transaction takes however little it holds, with nothing beside it."""
    letter_us: float = 11.4
    """A contribution taken out of the mail in a transaction, beside others."""
    fold_us: float = 74.0
    """A message, by the host."""
    commit_us: float = 75.0
    """A message, as its share of a batch's transaction: rows made, sent, written and flushed."""
    batch_messages: float = 400.0
    disk_bytes: float = 5_781.0
    """A different event, tables and indexes, nothing vacuumed yet."""
    different_share: float = 0.6
    """Of the messages: the others are duplicates, which are known and not written."""
    spread: float = 0.2
    """Of service times, as a share of their median."""

    # not from this bench
    kept_bytes: float = 953.0
    """A different event when compacted, its ledger and registers included (docs/retention.md)."""
    archived_bytes: float = 502.0
    """The same once its twin is archived."""
    resident_bytes: float = 4_000.0
    """A twin in a host's memory (cluster.yaml)."""
    reads_per_s: float = 950.0
    """Of one Serve replica behind HAProxy, one actor call a request: not coalesced."""

    @property
    def rows_us(self) -> float:
        """The part of a message's commit that grows with it. At least half of it, whatever the rest is."""
        return max(self.commit_us - self.transaction_us / self.batch_messages, self.commit_us / 2)

    @property
    def ingest_us(self) -> float:
        """A message, by the process that consumes: decoding of frames and headers, routing, acknowledging."""
        return 1e6 / self.raw_per_s

    @property
    def broker_us(self) -> float:
        """A message delivered, by the broker: it had what the consumer's process left of the machine."""
        return max((self.cores - 1) * 1e6 / self.raw_per_s, 1.0)

    @property
    def other_us(self) -> float:
        """Of the machine's time for a message, what no part accounts for; the model charges it to the host.

        Decoding the event, Ray's call, collecting garbage, the kernel.
        """
        parts = self.ingest_us + self.broker_us + self.fold_us + self.commit_us
        return max(self.cores * 1e6 / self.product_per_s - parts, 0.0)


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody measured here. Change it and all follows."""

    utilisation_max: float = 0.7
    """What is planned for: above it waiting grows faster than load, and a burst has no room."""
    commit_in_host: float = 0.4
    """Of a commit: making rows and encoding them, in the host's own thread. The rest is the database's."""
    call_us: float = 1_000.0
    """An actor call, whatever it carries: 0.4 to 1.5 ms by an earlier measurement."""
    replica_us: float = 0.0
    """That a transaction waits for a synchronous replica: 30,000 in another region."""
    ingest_messages: int = 32
    """That an ingest actor takes from its socket at once."""

    worker_cores: int = 8
    cores_a_host: int = 2
    """One busy thread, and half of a core each for Ray and for writing."""
    host_memory_bytes: float = 4e9
    """For twins, of a worker's 4 GiB a core."""
    broker_cores: int = 8
    broker_replicas: int = 3
    """Of a quorum queue. Taking a message in costs its leader what delivering it does, and each follower."""
    database_cores: int = 32
    """As many transactions at once."""
    database_memory_bytes: float = 256e9
    wal_bytes_per_s: float = 500e6
    """That one server flushes, steadily, beside its checkpoints."""
    wal_factor: float = 1.5
    """Log for each byte in tables and indexes: whole pages after each checkpoint."""
    page_share: float = 0.25
    """Of a page in the database's memory, what is of active twins: keys have some locality."""
    io_per_s: float = 100_000.0
    """Random pages a second of one server's disks."""
    database_disk_bytes: float = 30e12
    """That one is willing to vacuum, copy and restore as one."""

    events_a_twin: float = 9.0
    """docs/retention.md: 101,796 events of some 11,500 twins."""
    activation_read_us: float = 300.0
    """Reading a twin's rows; folding its events comes on top."""
    archived_after_days: float = 90.0
    """TWINSYNC_ARCHIVE_AFTER_DAYS, as shipped."""
    mean_to_peak: float = 0.3
    """Of the events: a day's mean rate, which fills disks, beside its busiest minute, which fills queues."""


def activation_us(measured: Measured, assumed: Assumed) -> float:
    """A twin that comes back into memory: its rows are read and its events folded anew."""
    return assumed.activation_read_us + assumed.events_a_twin * measured.fold_us


def read_bench(file: Path, database: str = "postgresql") -> Measured:
    """What a bench says of one kind of database; what it does not say stays as it is assumed.

    Raises: RejectedMessage where it is no bench, or has no figures of that database.
    """
    try:
        told = from_json(file.read_bytes())
        figures: Mapping[str, Mapping[str, Any]] = told["figures"]
        rounds = max(len(one["rounds"]) for one in figures.values())
        return Measured(
            database=database,
            machine=f"{told['machine']['processor']}, {told['machine']['cores']} cores",
            cores=int(told["machine"]["cores"]),
            rounds=rounds,
            product_per_s=_median(figures, f"{PRODUCT}, {database}"),
            raw_per_s=_median(figures, RAW),
            transaction_us=_median(figures, f"{ONE_ROW}, {database}"),
            letter_us=_median(figures, f"{LETTER}, {database}"),
            fold_us=_median(figures, f"µs of folding an event, {database}"),
            commit_us=_median(figures, f"µs of committing an event, {database}"),
            batch_messages=_median(figures, f"messages a batch, {database}"),
            disk_bytes=_median(figures, f"bytes on disk a different event, {database}"),
            different_share=float(told["different"]) / float(told["messages"]),
            spread=_spread(figures, database),
        )
    except KeyError as missing:
        raise RejectedMessage(f"no bench of {database}: it has no {missing}") from missing
    except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise RejectedMessage(f"not what `twinsync bench --json` writes: {error}") from error


def _median(figures: Mapping[str, Mapping[str, Any]], name: str) -> float:
    figure = float(figures[name]["median"])
    if figure <= 0:
        raise ValueError(f"{name} is {figure}")
    return figure


def _spread(figures: Mapping[str, Mapping[str, Any]], database: str) -> float:
    """Range of the rounds over their median, the wider of both services; assumed where there is one round."""
    ranges = []
    for what in ("folding", "committing"):
        rounds = [float(one) for one in figures[f"µs of {what} an event, {database}"]["rounds"]]
        ranges.append((max(rounds) - min(rounds)) / sorted(rounds)[len(rounds) // 2])
    return min(max(*ranges, 0.05), 1.0) if len(rounds) > 1 else Measured().spread
