"""The table of a million twins: each round touches a thousand twins, and a million in several ways."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.sql.engine import sqlite_url
from ops.bench.million import HOT_SHARE, Population, Residents, Touched, resident_mib, zipf
from ops.bench.product import empty_database
from ops.wiring import collect_seldom

SMALL = 500
"""Orders: with their shipments and shelves about a thousand twins."""
EVENTS = 20_000
SAID_EVERY = 10_000
TOLD_A_PROCESS = 1_000
"""Measurements, at most; an event that another has told would be a duplicate."""


def run(
    database_url: str | None, orders: int, bounds: Sequence[int], rounds: int, folder: Path, out: Console
) -> dict[str, Any]:
    """Answers figures, and ratios to a thousand twins, by database and by how many twins stay in memory.

    *bounds*: the most is measured first, in the process that fills the database; others in one of their own,
    whose memory nothing else has grown.
    """
    databases = {"sqlite": None} | ({"postgresql": database_url} if database_url else {})
    return {
        name: asyncio.run(_one(name, url, orders, sorted(bounds, reverse=True), rounds, folder / name, out))
        for name, url in databases.items()
    }


async def _one(
    name: str, url: str | None, orders: int, bounds: Sequence[int], rounds: int, folder: Path, out: Console
) -> dict[str, Any]:
    for part in ("many", "few"):
        (folder / part).mkdir(parents=True)
    told: dict[str, Any] = {"twins": Population(orders).twins, "bounds": {}}
    async with empty_database(url) as many_url, empty_database(url) as few_url:
        urls = many_url or sqlite_url(folder / "many"), few_url or sqlite_url(folder / "few")
        for bound in bounds:
            found = await _in_a_process_of_its_own(
                _measured, name, urls, orders, bound, rounds, bounds.index(bound)
            )
            told |= {key: found.pop(key) for key in ("filled_per_s",) if key in found}
            told["bounds"][bound] = found
            out.print(
                f"{name}: {told['twins']:,} twins, filled at {told['filled_per_s']:,.0f} a second;"
                f" {found['resident']:,} in memory, bound {bound:,}: {found['resident_mib']:,.0f} MiB."
                f" A new host's first read and event: {found['first_answer_s']:.2f} s"
            )
            out.print(_table(found["touched"], found["ratios"]))
    return told


async def _in_a_process_of_its_own(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent) as process:
        return await asyncio.get_running_loop().run_in_executor(process, work, *given)


def _end_with_parent() -> None:
    """One that is killed would leave it measuring, with gigabytes in memory."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _measured(
    name: str, urls: tuple[str, str], orders: int, bound: int, rounds: int, before: int
) -> dict[str, Any]:
    collect_seldom()
    out = Console(stderr=True)
    with out.status("") as status:
        return asyncio.run(_measure(name, urls, orders, bound, rounds, before, status.update))


async def _measure(
    name: str,
    urls: tuple[str, str],
    orders: int,
    bound: int,
    rounds: int,
    before: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """*before*: how many others have measured the same databases; the first fills them."""
    told_before = before * TOLD_A_PROCESS
    many = Residents(urls[0], Population(orders), bound, told_before)
    few = Residents(urls[1], Population(SMALL), bound, told_before)
    told: dict[str, Any] = {}
    await few.fill(lambda told: None)
    empty_mib = resident_mib()
    if not before:
        told["filled_per_s"] = await many.fill(_progress(name, many.population.twins, say))
    touched = await _rounds(few, many, rounds, say)
    told |= {"resident": many.host.resident_twins(), "resident_mib": resident_mib() - empty_mib}
    told["first_answer_s"] = await many.first_answer_s()
    told["ratios"] = {
        way: median(one.rate / few_.rate for one, few_ in zip(times, touched[FEW], strict=True))
        for way, times in touched.items()
    }
    told["touched"] = {way: _figures(times) for way, times in touched.items()}
    await few.close()
    await many.close()
    return told


FEW, UNIFORM, ZIPF, HOT = (
    "a thousand twins",
    "a million, uniform",
    "a million, Zipf",
    "a million, Zipf, one hot shelf",
)


async def _rounds(
    few: Residents, many: Residents, rounds: int, say: Callable[[str], None]
) -> dict[str, list[Touched]]:
    """One more than is counted: the first finds caches empty."""
    touched: dict[str, list[Touched]] = {FEW: [], UNIFORM: [], ZIPF: [], HOT: []}
    for number in range(rounds + 1):
        random = Random(number)
        for way, who, draw, hot in (
            (FEW, few, random.random, 0.0),
            (UNIFORM, many, random.random, 0.0),
            (ZIPF, many, zipf(random), 0.0),
            (HOT, many, zipf(random), HOT_SHARE),
        ):
            say(f"round {number} of {rounds}: {way}")
            found = await who.touch(draw, hot, EVENTS, number)
            if number:
                touched[way].append(found)
    return touched


def _progress(name: str, many: int, say: Callable[[str], None]) -> Callable[[int], None]:
    began = time.perf_counter()

    def told(so_far: int) -> None:
        if so_far % SAID_EVERY == 0:
            rate = so_far / (time.perf_counter() - began)
            left = f"{(many - so_far) / rate / 60:.0f} minutes left"
            say(f"{name}: {so_far:,} of {many:,} twins, {rate:,.0f} a second, {left}")

    return told


def _figures(times: list[Touched]) -> dict[str, Any]:
    return {
        "rate": median(one.rate for one in times),
        "rates": [one.rate for one in times],
        "batch_p99_ms": median(one.batch_p99_ms for one in times),
        "activations_an_event": median(one.activations for one in times),
    }


def _table(touched: dict[str, dict[str, Any]], ratios: dict[str, float]) -> Table:
    columns = ("", "events a second", "ratio", "p99 of a batch, ms", "twins read an event")
    table = Table(*columns, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for way, found in touched.items():
        cells = (f"{found['rate']:,.0f}", f"{ratios[way]:.2f}", f"{found['batch_p99_ms']:.0f}")
        table.add_row(way, *cells, f"{found['activations_an_event']:.2f}")
    return table
