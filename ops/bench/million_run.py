"""The table of a million twins: each round touches a thousand twins, and a million in several ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.sql.engine import sqlite_url
from ops.bench.million import HOT_SHARE, Population, Residents, Touched, resident_mib, zipf
from ops.bench.product import empty_database

SMALL = 500
"""Orders: with their shipments and shelves about a thousand twins."""
EVENTS = 20_000
SAID_EVERY = 10_000


def run(
    database_url: str | None, orders: int, resident: int, rounds: int, folder: Path, out: Console
) -> dict[str, Any]:
    """Answers figures, and ratios to a thousand twins, by database."""
    databases = {"sqlite": None} | ({"postgresql": database_url} if database_url else {})
    return {
        name: asyncio.run(_one(name, url, orders, resident, rounds, folder, out))
        for name, url in databases.items()
    }


async def _one(
    name: str, url: str | None, orders: int, resident: int, rounds: int, folder: Path, out: Console
) -> dict[str, Any]:
    for part in ("many", "few"):
        (folder / name / part).mkdir(parents=True)
    async with empty_database(url) as many_url, empty_database(url) as few_url:
        many = Residents(many_url or sqlite_url(folder / name / "many"), Population(orders), resident)
        few = Residents(few_url or sqlite_url(folder / name / "few"), Population(SMALL), resident)
        with out.status("") as status:
            await few.fill(lambda told: None)
            empty_mib = resident_mib()
            filled = await many.fill(_progress(name, many.population.twins, status.update))
            full_mib = resident_mib()
            touched = await _rounds(few, many, rounds, status.update)
            started_s = await many.first_answer_s()
        ratios = {
            way: median(one.rate / few_.rate for one, few_ in zip(times, touched[FEW], strict=True))
            for way, times in touched.items()
        }
        out.print(
            f"{name}: {many.population.twins:,} twins, filled at {filled:,.0f} a second. {resident:,} stay in"
            f" memory: {full_mib - empty_mib:,.0f} MiB. A new host's first read and event: {started_s:.2f} s"
        )
        out.print(_table(touched, ratios))
        figures = {way: _figures(times) for way, times in touched.items()}
        await few.close()
        await many.close()
    told = {"twins": many.population.twins, "filled_per_s": filled, "resident_mib": full_mib - empty_mib}
    return told | {"first_answer_s": started_s, "touched": figures, "ratios": ratios}


FEW, UNIFORM, ZIPF, HOT = (
    "a thousand twins",
    "a million, uniform",
    "a million, Zipf",
    "a million, Zipf, one hot shelf",
)


async def _rounds(
    few: Residents, many: Residents, rounds: int, say: Callable[[str], None]
) -> dict[str, list[Touched]]:
    touched: dict[str, list[Touched]] = {FEW: [], UNIFORM: [], ZIPF: [], HOT: []}
    for number in range(rounds):
        random = Random(number)
        for way, who, draw, hot in (
            (FEW, few, random.random, 0.0),
            (UNIFORM, many, random.random, 0.0),
            (ZIPF, many, zipf(random), 0.0),
            (HOT, many, zipf(random), HOT_SHARE),
        ):
            say(f"round {number + 1} of {rounds}: {way}")
            touched[way].append(await who.touch(draw, hot, EVENTS, number))
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


def _table(touched: dict[str, list[Touched]], ratios: dict[str, float]) -> Table:
    columns = ("", "events a second", "ratio", "p99 of a batch, ms", "twins read an event")
    table = Table(*columns, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for way, times in touched.items():
        found = _figures(times)
        cells = (f"{found['rate']:,.0f}", f"{ratios[way]:.2f}", f"{found['batch_p99_ms']:.0f}")
        table.add_row(way, *cells, f"{found['activations_an_event']:.2f}")
    return table
