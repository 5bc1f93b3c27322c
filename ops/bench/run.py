"""The benchmark: what the product takes beside what nothing takes faster, in the same rounds."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.amqp.topology import Names, clear_away
from adapters.sql.engine import sqlite_url
from canonical.envelope import Event, parse_structured
from canonical.identity import Kind
from ops.bench.bare_pipe import take_through_bare_pipe
from ops.bench.commits import measure_commits
from ops.bench.latency import PROBE_EVERY_S, measure_latency
from ops.bench.naive_consumer import take_naively
from ops.bench.product import empty_database, installation, serve_twins, take_with_twins, until_taken
from ops.bench.queues import acknowledge_all, events_of_a_day, fill
from ops.bench.reads import read_in_turns
from ops.bench.resident import SMALL, copies, resident_bytes, small_twin
from ops.local import local_ray
from ops.wiring import Installation
from twins.ports import Publication

NAIVE_EVENTS = 1_500
"""So slow that more would only take longer."""
LIBRARIES = ("ray", "aio-pika", "sqlalchemy", "aiosqlite", "asyncpg", "pydantic", "msgspec")
RAW, PIPE, NAIVE, PRODUCT = "raw consumer", "bare pipe", "naive consumer", "product"
ONE_ROW, LETTER = "µs of a transaction of one row", "µs of a letter taken in"
READS, EMPTY_REPLIES = "reads of twins", "empty replies"
SHARES = (0.25, 0.5, 0.75)
"""Of what the product took a second in the same round."""
LOAD_S = 12.0
AMPLE = 1.2
"""A day has about as many messages as were asked for."""
FORTNIGHT_H = 14 * 24
"""Of a single day nearly all orders come first and nearly all scans last; of two weeks every part but the
first two days is like every other."""
FIRST_DAYS = 0.2
"""Of the messages, which are taken before anything is measured."""


@dataclass(frozen=True, slots=True)
class Load:
    amqp_url: str
    databases: dict[str, str | None]
    """Kind → address; none for SQLite."""
    messages: Sequence[Publication]
    events: Sequence[Event]
    """What they tell, each once."""

    @property
    def different(self) -> int:
        return len(self.events)


@dataclass(slots=True)
class Figures:
    """Name → one figure a round, in events a second where the name says nothing else."""

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, figure: float) -> None:
        self.rounds.setdefault(name, []).append(figure)

    def ratio(self, name: str, limit: str) -> float:
        """Median of the rounds' ratios: what was measured together is compared."""
        pairs = zip(self.rounds[name], self.rounds[limit], strict=True)
        return median(figure / other for figure, other in pairs)


def run(
    amqp_url: str,
    database_url: str | None,
    events: int,
    rounds: int,
    data_dir: Path,
    home: Path,
    out: Console,
) -> dict[str, Any]:
    """Measure everything once a round. Answers machine, versions, figures and ratios.

    Ratios are those of SQLite, which needs no server, and by database.
    """
    with out.status("making a day"):
        messages = events_of_a_day(events, seed=1)
        parsed = (parse_structured(message.body) for message in messages)
        events_ = list({event.event_id: event for event in parsed}.values())
    out.print(f"{len(messages):,} messages tell {len(events_):,} different events")
    databases = {"sqlite": None} | ({"postgresql": database_url} if database_url else {})
    load, figures = Load(amqp_url, databases, messages, events_), Figures()
    with local_ray(home):
        for number in range(rounds):
            folder = data_dir / secrets.token_hex(4)
            for name in ("pipe", "naive", "commits", "product"):
                (folder / name).mkdir(parents=True)
            with out.status("") as status:
                say = _told_of_round(number, rounds, status.update)
                asyncio.run(_round(load, folder, figures.add, say))
            shutil.rmtree(folder, ignore_errors=True)
            out.print(_table(figures))
    by_database = {database: ratios(figures, database) for database in databases}
    out.print(_ratio_table(by_database))
    return {
        "machine": machine(),
        "versions": versions(),
        "messages": len(messages),
        "different": load.different,
        "figures": {name: {"median": median(one), "rounds": one} for name, one in figures.rounds.items()},
        "ratios": by_database["sqlite"] | {"by_database": by_database},
    }


def ratios(figures: Figures, database: str) -> dict[str, float]:
    product = f"{PRODUCT}, {database}"
    return {
        "write_vs_raw": figures.ratio(product, RAW),
        "write_vs_pipe": figures.ratio(product, PIPE),
        "write_vs_naive": figures.ratio(product, f"{NAIVE}, {database}"),
        "read_vs_empty": figures.ratio(f"{READS}, {database}", f"{EMPTY_REPLIES}, {database}"),
    }


def _told_of_round(number: int, rounds: int, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda what: say(f"round {number + 1} of {rounds}: {what}")


async def _round(
    load: Load, folder: Path, add: Callable[[str, float], None], say: Callable[[str], None]
) -> None:
    many = len(load.messages)
    say(RAW)
    async with _queues(load, load.messages) as prefix:
        add(RAW, many / await acknowledge_all(load.amqp_url, prefix, many))
    say(PIPE)
    async with _queues(load, load.messages) as prefix:
        add(PIPE, many / await take_through_bare_pipe(load.amqp_url, prefix, many, folder / "pipe"))
    for database, url in load.databases.items():
        say(f"{NAIVE}, {database}")
        few = load.messages[:NAIVE_EVENTS]
        async with (
            _queues(load, few) as prefix,
            empty_database(url) as place,
        ):
            address = place or sqlite_url(folder / "naive")
            seconds = await take_naively(load.amqp_url, address, prefix, len(few))
            add(f"{NAIVE}, {database}", len(few) / seconds)
        say(f"transactions, {database}")
        async with empty_database(url) as place:
            commits = await measure_commits(place or sqlite_url(folder / "commits"))
            add(f"{ONE_ROW}, {database}", commits.one_row_us)
            add(f"{LETTER}, {database}", commits.letter_us)
        say(f"{PRODUCT}, {database}")
        async with (
            _queues(load, load.messages) as prefix,
            empty_database(url) as place,
        ):
            installed = installation(folder / "product", place, load.amqp_url, prefix)
            told = await take_with_twins(installed, many, load.different)
            add(f"{PRODUCT}, {database}", told["rate"])
            add(f"messages a batch, {database}", many / told["batches"])
            add(f"µs of folding an event, {database}", told["fold_s"] / many * 1e6)
            add(f"µs of committing an event, {database}", told["commit_s"] / many * 1e6)
            add(f"bytes on disk a different event, {database}", told["disk_bytes"] / load.different)
        say(f"reads and latency, {database}")
        async with _queues(load, ()) as prefix, empty_database(url) as place:
            installed = installation(folder / "served", place, load.amqp_url, prefix)
            await _served(installed, load, told["rate"], database, add)
    for kind in SMALL:
        say(f"memory of {kind} twins")
        event = small_twin(load.events, kind)
        (folder / kind).mkdir()
        add(f"bytes a resident {kind}", await resident_bytes(folder / kind, event))


async def _served(
    installed: Installation, load: Load, rate: float, database: str, add: Callable[[str, float], None]
) -> None:
    """Fill twins at shares of *rate*, and look how soon they are visible; then only read."""
    probes = copies(small_twin(load.events, Kind.ORDER), int(LOAD_S / PROBE_EVERY_S) * len(SHARES))
    wanted = int(rate * sum(SHARES) * LOAD_S)
    messages = events_of_a_day(int(wanted * (1 + FIRST_DAYS) * AMPLE), seed=2, hours=FORTNIGHT_H)
    async with serve_twins(installed) as address:
        first, orders = int(wanted * FIRST_DAYS), list[str]()
        await fill(load.amqp_url, installed.settings.amqp_prefix, messages[:first])
        await until_taken(installed, first)
        for number, share in enumerate(SHARES):
            some = messages[first : first + int(rate * share * LOAD_S)]
            first += len(some)
            mine = probes[number :: len(SHARES)]
            seen = await measure_latency(
                load.amqp_url, installed.settings.amqp_prefix, address, some, mine, rate * share
            )
            orders += [f"/v1/orders/{probe.subject.key}" for probe in mine[: seen.probes]]
            load_ = f"at {share:.0%} load, {database}"
            add(f"messages a second {load_}", seen.sent)
            add(f"ms until confirmed, p50 {load_}", seen.confirmed_p50_ms)
            add(f"ms until confirmed, p99 {load_}", seen.confirmed_p99_ms)
            add(f"ms until visible, p50 {load_}", seen.p50_ms)
            add(f"ms until visible, p99 {load_}", seen.p99_ms)
        read = await read_in_turns(address, orders)
        add(f"{READS}, {database}", read.twins.rate)
        add(f"{EMPTY_REPLIES}, {database}", read.empty.rate)
        add(f"ms of a read, p99, {database}", read.twins.p99_ms)
        add(f"ms of an empty reply, p99, {database}", read.empty.p99_ms)


@asynccontextmanager
async def _queues(load: Load, messages: Sequence[Publication]) -> AsyncIterator[str]:
    """Queues of their own with these messages, gone afterwards. Yields the prefix of their names."""
    prefix = f"bench-{secrets.token_hex(4)}"
    try:
        await fill(load.amqp_url, prefix, messages)
        yield prefix
    finally:
        await clear_away(load.amqp_url, Names(prefix))


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processor": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _table(figures: Figures) -> Table:
    many = max(len(one) for one in figures.rounds.values())
    table = Table(
        "", *(f"round {number + 1}" for number in range(many)), "median", box=None, header_style="dim"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, rounds in figures.rounds.items():
        table.add_row(name, *(f"{one:,.0f}" for one in rounds), f"[bold]{median(rounds):,.0f}[/]")
    return table


def _ratio_table(by_database: dict[str, dict[str, float]]) -> Table:
    names = next(iter(by_database.values()))
    table = Table("", *by_database, box=None, header_style="dim", title="Medians of the rounds' ratios")
    for name in names:
        table.add_row(name, *(f"{one[name]:.2f}" for one in by_database.values()))
    return table
