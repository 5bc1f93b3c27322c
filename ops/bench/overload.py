"""More than it can take: masses of scans that may wait, beside a trickle that may not."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.queues import AmqpQueues
from adapters.amqp.topology import BULK_TYPES, Names, clear_away
from canonical.envelope import Event, parse_structured
from canonical.identity import Kind
from ops.bench.asking import Line, percentile
from ops.bench.flood import Flood, flooding
from ops.bench.latency import PATIENCE, PROBE_EVERY_S, until_visible
from ops.bench.product import installation, serve_twins, taken
from ops.bench.queues import events_of_a_day, fill
from ops.bench.resident import copies, small_twin
from ops.bench.run import machine, versions
from ops.local import local_ray
from ops.wiring import Installation
from twins.ports import Publication

FLOOD_RATE = 12_000.0
"""More than a machine of two cores sustains."""
TRICKLE, FLOOD = 0.1, 1.9
"""Of what is sustained; together twice of it."""
QUIET_S, FLOOD_S, AFTER_S = 8.0, 12.0, 6.0
READERS, READ_EVERY_S, SAMPLE_EVERY_S = 8, 0.02, 1.0
PROBES = 10_000
WITHIN_S = 300.0
"""By when all that came is taken."""


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    scans_a_second: float
    """That came."""
    taken_a_second: float
    bulk_waiting: int
    others_waiting: int
    host_mb: float


@dataclass(slots=True)
class Seen:
    """What was observed, by seconds since it began."""

    sustained: float = 0.0
    """Messages a second, of both sorts, taken while more of them came than could be."""
    sent: float = 0.0
    """Scans a second that the flood really had: the broker shares the machine."""
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    visible: list[tuple[float, float]] = field(default_factory=list)
    reads: list[tuple[float, float]] = field(default_factory=list)
    refused_reads: int = 0
    samples: list[Sample] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """*visible* and *reads*: when each was due, in seconds, and how long it took from then, in ms."""
        return {
            "sustained": self.sustained,
            "sent": self.sent,
            "refused_reads": self.refused_reads,
            "phases": {name: self._phase(*span) for name, span in self.phases.items()},
            "samples": [asdict(one) for one in self.samples],
            "visible": [(at, s * 1e3) for at, s in self.visible],
            "reads": [(at, s * 1e3) for at, s in self.reads],
        }

    def table(self) -> Table:
        table = Table("", "seconds", "visible p50, ms", "p99", "read p99", "scans waiting", "host, MB")
        for name, one in self.figures()["phases"].items():
            table.add_row(
                name,
                *(
                    "–" if figure is None else f"{figure:,.0f}"
                    for key, figure in one.items()
                    if key != "span"
                ),
            )
        return table

    def _phase(self, begins: float, ends: float) -> dict[str, Any]:
        visible = [s * 1e3 for at, s in self.visible if begins <= at < ends]
        reads = [s * 1e3 for at, s in self.reads if begins <= at < ends]
        samples = [one for one in self.samples if begins <= one.at_s < ends + SAMPLE_EVERY_S]
        return {
            "span": (begins, ends),
            "seconds": ends - begins,
            "visible_p50_ms": percentile(visible, 0.5) if visible else None,
            "visible_p99_ms": percentile(visible, 0.99) if visible else None,
            "read_p99_ms": percentile(reads, 0.99) if reads else None,
            "bulk_waiting_max": max((one.bulk_waiting for one in samples), default=None),
            "host_mb_max": max((one.host_mb for one in samples), default=None),
        }


async def overload(installed: Installation, amqp_url: str, address: tuple[str, int], messages: int) -> Seen:
    """Flood what runs at *address*.

    Raises: RuntimeError where a twin is not visible after half a minute.
    """
    bulk, others = _sorted_by_patience(events_of_a_day(messages, seed=5))
    fifth, half = len(bulk) // 5, len(others) // 2
    names, seen = Names(installed.settings.amqp_prefix), Seen()
    both = list(chain(*zip(bulk[:fifth], others[:half], strict=False)))
    seen.sustained = await _sustained(installed, amqp_url, both)
    rate = FLOOD * seen.sustained
    scans = bulk[fifth:][: int(rate * FLOOD_S)]
    async with (
        flooding(amqp_url, names, others[half:], TRICKLE * seen.sustained) as trickle,
        flooding(amqp_url, names, scans, rate) as flood,
    ):
        watch = _Watch(installed, amqp_url, address, seen, flood)
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run())
            await watch.began.wait()
            trickling = group.create_task(trickle.run())
            await asyncio.sleep(QUIET_S)
            begins = watch.now()
            seen.sent = len(scans) / await flood.run()
            ends = watch.now()
            await watch.until(lambda one: not one.bulk_waiting)
            drained = watch.now()
            await asyncio.sleep(AFTER_S)
            watch.done = True
            trickling.cancel()
    seen.phases = {
        "before": (0.0, begins),
        "flooded": (begins, ends),
        "draining": (ends, drained),
        "after": (drained, watch.now()),
    }
    return seen


def _sorted_by_patience(messages: Sequence[Publication]) -> tuple[list[Publication], list[Publication]]:
    bulk: list[Publication] = []
    others: list[Publication] = []
    for message in messages:
        (bulk if parse_structured(message.body).type in BULK_TYPES else others).append(message)
    return bulk, others


async def _sustained(installed: Installation, amqp_url: str, messages: list[Publication]) -> float:
    names = Names(installed.settings.amqp_prefix)
    before = await taken(installed)
    async with flooding(amqp_url, names, messages, FLOOD_RATE) as flood, asyncio.TaskGroup() as group:
        group.create_task(flood.run())
        await asyncio.sleep(1.0)  # twins of the first orders are there
        first, began = await taken(installed), time.perf_counter()
        now = first
        while now < before + len(messages):
            await asyncio.sleep(0.2)
            now = await taken(installed)
            if time.perf_counter() - began > WITHIN_S:
                raise RuntimeError(f"{now - before:,.0f} of {len(messages):,} messages were taken")
        return (now - first) / (time.perf_counter() - began)


class _Watch:
    """Asks, reads and looks, until it is told to stop."""

    def __init__(
        self, installed: Installation, amqp_url: str, address: tuple[str, int], seen: Seen, flood: Flood
    ) -> None:
        self.began, self.done = asyncio.Event(), False
        self._flood = flood
        self._installed, self._amqp_url, self._address = installed, amqp_url, address
        self._seen = seen
        self._start = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._start

    async def run(self) -> None:
        day = [parse_structured(message.body) for message in events_of_a_day(600, seed=1)]
        known, *probes = copies(small_twin(day, Kind.ORDER), PROBES)
        publisher = AmqpPublisher(
            self._amqp_url, prefix=self._installed.settings.amqp_prefix, patience=PATIENCE
        )
        await until_visible(publisher, self._address, known, time.perf_counter())
        self._start = time.perf_counter()
        self.began.set()
        try:
            async with asyncio.TaskGroup() as group:
                for reader in range(READERS):
                    group.create_task(self._read(f"/v1/twins/{known.subject}", reader))
                group.create_task(self._look())
                await self._probe(group, publisher, probes)
        finally:
            await publisher.close()

    async def _probe(
        self, group: asyncio.TaskGroup, publisher: AmqpPublisher, probes: Sequence[Event]
    ) -> None:
        async def one(probe: Event, due: float) -> None:
            _, visible = await until_visible(publisher, self._address, probe, due)
            self._seen.visible.append((due - self._start, visible))

        for number in count():
            due = self._start + number * PROBE_EVERY_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self.done:
                return
            group.create_task(one(probes[number], due))

    async def _read(self, path: str, reader: int) -> None:
        """Readers ask in turn, so that one which waits for its answer leaves the others their moments."""
        async with Line(*self._address) as line:
            for number in count(reader, READERS):
                due = self._start + number * READ_EVERY_S
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if self.done:
                    return
                self._seen.refused_reads += await line.ask(path) != 200
                self._seen.reads.append((due - self._start, time.perf_counter() - due))

    async def _look(self) -> None:
        prefix = self._installed.settings.amqp_prefix
        queues = AmqpQueues(self._amqp_url, prefix=prefix, patience=PATIENCE)
        before, at, sent = await taken(self._installed), self.now(), self._flood.sent
        while not self.done:
            await asyncio.sleep(SAMPLE_EVERY_S)
            waiting = await queues.waiting()
            more, now, came = await taken(self._installed), self.now(), self._flood.sent
            lasted = now - at
            self._seen.samples.append(
                Sample(
                    now,
                    (came - sent) / lasted,
                    (more - before) / lasted,
                    waiting.bulk,
                    waiting.events,
                    _host_mb(),
                )
            )
            sent, before, at = came, more, now
        await queues.close()

    async def until(self, seen: Callable[[Sample], bool]) -> None:
        """Returns once a look taken from now on saw it."""
        begins = self.now()
        while not (self._seen.samples and self._seen.samples[-1].at_s > begins + SAMPLE_EVERY_S):  # noqa: ASYNC110 - the broker and the hosts tell nobody
            await asyncio.sleep(SAMPLE_EVERY_S / 10)
        while not seen(self._seen.samples[-1]):  # noqa: ASYNC110
            await asyncio.sleep(SAMPLE_EVERY_S / 10)


def _host_mb() -> float:
    """Resident memory of all twin hosts on this machine."""
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"HostActor" in (process / "cmdline").read_bytes():
                pages += int((process / "statm").read_text().split()[1])
        except OSError:  # it has ended
            continue
    return pages * 4_096 / 1e6


def run(amqp_url: str, messages: int, data_dir: Path, home: Path, out: Console) -> dict[str, Any]:
    """Flood twins on SQLite, once. Answers figures and what was seen each second."""
    with local_ray(home), out.status("flooding"):
        seen = asyncio.run(_run(amqp_url, messages, data_dir))
    out.print(
        f"sustained {seen.sustained:,.0f} a second; flooded with {seen.sent:,.0f} scans a second;", end=" "
    )
    out.print(f"{len(seen.reads):,} reads, {seen.refused_reads} of them not answered with 200")
    out.print(seen.table())
    return {"machine": machine(), "versions": versions()} | seen.figures()


async def _run(amqp_url: str, messages: int, data_dir: Path) -> Seen:
    prefix = f"bench-{secrets.token_hex(4)}"
    folder = data_dir / prefix
    folder.mkdir(parents=True)
    try:
        await fill(amqp_url, prefix, ())
        installed = installation(folder, None, amqp_url, prefix)
        async with serve_twins(installed) as address:
            return await overload(installed, amqp_url, address, messages)
    finally:
        await clear_away(amqp_url, Names(prefix))
        shutil.rmtree(folder, ignore_errors=True)
