"""Twins that share a host beside twins that are an actor each: memory, starts and events, on one machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from canonical.envelope import Event
from canonical.facts.order import PaymentCaptured
from canonical.identity import Kind, TwinRef
from ops.bench.resident import copies, small_twin
from ops.demo.day import ANY_CLOCK_S, in_order, make_day
from ops.demo.telling import told_once
from ops.local import local_ray, start_twins, stop_twins
from ops.settings import Settings
from ops.wiring import Installation
from twins.core.placement import FIRST_HOST, UNPLACED
from twins.runtime.cluster import NAMESPACE, RayCalls
from twins.runtime.ingest import Directory

AT_ONCE = 500
POOLED, DEDICATED = "one host", "an actor each"


def run(twins: int, actors: int, events: int, rounds: int, folder: Path, home: Path, console: Console) -> Any:
    """Figures by way of placement. *folder*: for the database."""
    settings = Settings(data_dir=folder, ahead_max_s=ANY_CLOCK_S, sweep_every_s=60.0)
    with local_ray(home):
        found = asyncio.run(_measure(Installation(settings), twins, actors, events, rounds))
    console.print(_table(found))
    return found


async def _measure(installation: Installation, twins: int, actors: int, events: int, rounds: int) -> Any:
    await start_twins(installation)
    store = installation.store()
    directory = Directory(UNPLACED, RayCalls(installation))
    try:
        day = make_day(1, 1)
        first = small_twin(told_once(day, in_order(day)), Kind.ORDER)
        crowd, hot = copies(first, twins + 1), copies(first, actors, first=twins + 1)
        await directory.take_events(crowd[-1:])
        before = await _memory_bytes([FIRST_HOST])
        pooled_s = await _told(directory, crowd[:-1])
        pooled_bytes = (await _memory_bytes([FIRST_HOST]) - before) / twins
        now = await store.place(lambda now: replace(now, pinned=frozenset(one.subject for one in hot)))
        await directory.look(now.version)
        dedicated_s = await _told(directory, hot)
        dedicated_bytes = await _memory_bytes([str(one.subject) for one in hot]) / actors
        speeds = await _speeds(
            directory, [one.subject for one in crowd], [one.subject for one in hot], events, rounds
        )
        return {
            POOLED: _figures(pooled_bytes, twins / pooled_s, speeds[POOLED]),
            DEDICATED: _figures(dedicated_bytes, actors / dedicated_s, speeds[DEDICATED]),
        }
    finally:
        await store.close()
        await stop_twins(installation)


async def _speeds(
    directory: Directory, crowd: Sequence[TwinRef], hot: Sequence[TwinRef], events: int, rounds: int
) -> dict[str, list[float]]:
    """Events a second, of both ways in turns."""
    speeds: dict[str, list[float]] = {POOLED: [], DEDICATED: []}
    numbers = count()
    for _ in range(rounds):
        for way, refs in ((POOLED, crowd), (DEDICATED, hot)):
            told = [_more(refs[number % len(refs)], next(numbers)) for number in range(events)]
            speeds[way].append(events / await _told(directory, told))
    return speeds


async def _told(directory: Directory, events: Sequence[Event]) -> float:
    """Seconds until all are committed; two batches are on their way at a time, as ingest has them."""
    began = time.perf_counter()
    batches = iter([events[start : start + AT_ONCE] for start in range(0, len(events), AT_ONCE)])

    async def take() -> None:
        for batch in batches:
            await directory.take_events(batch)

    await asyncio.gather(take(), take())
    return time.perf_counter() - began


def _more(ref: TwinRef, number: int) -> Event:
    fact = PaymentCaptured(payment_id=f"P-{number}", amount=Decimal("0.01"), currency="USD")
    return Event("/bench", f"P-{number}", ref, datetime.fromisoformat("2026-03-02T09:00:00Z"), fact)


async def _memory_bytes(hosts: Sequence[str]) -> int:
    """Of these processes together; what they share with others counts in part."""
    pids = await asyncio.gather(*(ray.get_actor(name, NAMESPACE).alive.remote() for name in hosts))
    return sum(map(_pss_bytes, pids))


def _pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _figures(twin_bytes: float, starts: float, speeds: Sequence[float]) -> dict[str, float]:
    return {
        "twin_bytes": twin_bytes,
        "twins_per_gb": 1e9 / twin_bytes,
        "starts_per_s": starts,
        "events_per_s": median(speeds),
    }


def _table(found: dict[str, dict[str, float]]) -> Table:
    table = Table("", "kB a twin", "twins a GB", "starts a second", "events a second")
    for way, one in found.items():
        kb, *others = one["twin_bytes"] / 1e3, one["twins_per_gb"], one["starts_per_s"], one["events_per_s"]
        table.add_row(
            way, f"{kb:,.1f}", *(f"{figure:,.1f}" if figure < 10 else f"{figure:,.0f}" for figure in others)
        )
    return table
