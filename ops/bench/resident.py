"""What small twins, of one fact each, take in the memory of a host in a process of its own.

Messages are parsed as they are taken, since a twin keeps its events; what lines are called differs from twin
to twin. The cache of the database has a size of its own, and is kept small here.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import ray

from adapters.sql.engine import Tuning, sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.order import OrderLine, OrderPlaced
from canonical.facts.shipment import ShipmentCreated, ShipmentLine
from canonical.facts.stock import StockCounted
from canonical.identity import Kind, TwinRef
from twins.core.rules import Policy
from twins.ports import Publication
from twins.runtime.clock import WallClock
from twins.runtime.host import TwinHost

L = TypeVar("L", OrderLine, ShipmentLine)

SMALL: dict[Kind, type[Fact]] = {
    Kind.ORDER: OrderPlaced,
    Kind.SHIPMENT: ShipmentCreated,
    Kind.STOCK: StockCounted,
}
TWINS, AT_ONCE = 10_000, 500
CACHE_KB = 2_048
"""Of SQLite; it would grow with what is stored, up to 64 MiB, as if twins took it."""


def small_twin(events: Iterable[Event], kind: Kind) -> Event:
    """The first fact of its sort that a day tells: with it alone a twin of that kind exists."""
    return next(event for event in events if isinstance(event.fact, SMALL[kind]))


def copies(event: Event, many: int, first: int = 0) -> list[Event]:
    """The same fact of other twins."""
    return [_of_another(event, number) for number in range(first, first + many)]


def _of_another(event: Event, number: int) -> Event:
    sku, at, location = event.subject.key.partition("@")
    subject = TwinRef(event.subject.kind, f"{sku}-{number:07}{at}{location}")
    return replace(event, id=f"{event.id}-{number:07}", subject=subject, fact=_of_its_own(event.fact, number))


def _of_its_own(fact: Fact, number: int) -> Fact:
    """Lines called otherwise: copies must not share texts that twins of their own would not."""
    if isinstance(fact, OrderPlaced):
        return replace(fact, lines=_called_otherwise(fact.lines, number))
    if isinstance(fact, ShipmentCreated):
        return replace(fact, lines=_called_otherwise(fact.lines, number))
    return fact


def _called_otherwise(lines: tuple[L, ...], number: int) -> tuple[L, ...]:
    return tuple(replace(line, line_id=f"{line.line_id}-{number:07}") for line in lines)


class Host:
    """A twin host in a process where nothing else grows."""

    async def resident_bytes(self, folder: Path, messages: list[bytes]) -> float:
        """Bytes a twin, once as many as there are *messages*, one each, are in memory."""
        store = SqlStore(sqlite_url(folder), tuning=Tuning(cache_kb=CACHE_KB))
        await store.migrate()
        writing = TwinHost("host-0", store, WallClock(), Policy())
        await _take(writing, messages[:AT_ONCE])
        before, known = _rss_bytes(), AT_ONCE
        for first in range(known, len(messages), AT_ONCE):
            await _take(writing, messages[first : first + AT_ONCE])
        gc.collect()
        grown = _rss_bytes() - before
        await store.close()
        return grown / (len(messages) - known)


async def _take(host: TwinHost, messages: list[bytes]) -> None:
    await host.take([Publication(message) for message in messages])


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def resident_bytes(folder: Path, event: Event) -> float:
    """Bytes a twin. *folder*: an empty one."""
    host = ray.remote(num_cpus=0)(Host).remote()
    try:
        messages = [one.structured() for one in copies(event, TWINS)]
        return float(await host.resident_bytes.remote(folder, messages))
    finally:
        ray.kill(host)
