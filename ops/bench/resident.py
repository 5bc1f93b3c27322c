"""What small twins, of one fact each, take in the memory of a host in a process of its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import ray

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event, parse_structured
from canonical.facts.base import Fact
from canonical.facts.order import OrderPlaced
from canonical.facts.shipment import ShipmentCreated
from canonical.facts.stock import StockCounted
from canonical.identity import Kind, TwinRef
from twins.core.rules import Policy
from twins.runtime.clock import WallClock
from twins.runtime.host import TwinHost

SMALL: dict[Kind, type[Fact]] = {
    Kind.ORDER: OrderPlaced,
    Kind.SHIPMENT: ShipmentCreated,
    Kind.STOCK: StockCounted,
}
TWINS, AT_ONCE = 10_000, 500


def small_twin(events: Iterable[Event], kind: Kind) -> Event:
    """The first fact of its sort that a day tells: with it alone a twin of that kind exists."""
    return next(event for event in events if isinstance(event.fact, SMALL[kind]))


def copies(event: Event, many: int, first: int = 0) -> list[Event]:
    """The same fact of other twins."""
    return [_of_another(event, number) for number in range(first, first + many)]


def _of_another(event: Event, number: int) -> Event:
    sku, at, location = event.subject.key.partition("@")
    subject = TwinRef(event.subject.kind, f"{sku}-{number:07}{at}{location}")
    return replace(event, id=f"{event.id}-{number:07}", subject=subject)


class Host:
    """A twin host in a process where nothing else grows."""

    async def resident_bytes(self, folder: Path, messages: list[bytes]) -> float:
        """Bytes a twin, once as many as there are *messages*, one each, are in memory."""
        events = [parse_structured(message) for message in messages]
        refs = [event.subject for event in events]
        store = SqlStore(sqlite_url(folder))
        await store.migrate()
        writing = TwinHost("host-0", store, WallClock(), Policy())
        await writing.take_events(events[:1])
        before = _rss_bytes()
        for first in range(0, len(events), AT_ONCE):
            await writing.take_events(events[first : first + AT_ONCE])
        gc.collect()
        grown = _rss_bytes() - before
        await store.close()
        return grown / len(refs)


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
