"""The run itself: the day without trouble, the day with it, and what both came to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import ray
from ray import serve
from rich.console import Console
from rich.table import Table

from canonical.envelope import Event
from canonical.errors import TransientFailure
from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.outcome import Outcome, outcome_of
from ops.demo.telling import told
from ops.local import quiet, start_http, start_twins, stop_twins
from ops.wiring import Installation
from tests.faults.judging import Judgement, Stored, judge, pause_s, recovery_s, stored
from tests.faults.plan import Stroke, Trouble, plan
from tests.faults.stage import Nodes, Stage, say, stage, undisturbed
from tests.faults.strokes import Struck, possible, strike
from tests.faults.telling import Log, Readings, client, over_amqp, over_http, read_on, tell
from twins.ports import LetterFilter
from twins.runtime.cluster import NAMESPACE, RayCalls
from twins.runtime.ingest import Directory

EVENTS_AN_ORDER = 21
SETTLE_S = 240.0
"""How long it may take until nothing is on its way any more."""
out = Console(width=170)


def play(seed: int, way: str, events: int, rate: float, folder: Path) -> bool:
    """Answers whether all that must hold held."""
    out.rule(f"seed {seed}, {_WAYS[way]}")
    with Nodes.started() as nodes:
        ray.init(namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        try:
            with stage(nodes, folder, services=way == "services") as stage_:
                return asyncio.run(_play(seed, way, events, rate, stage_, folder))
        finally:
            serve.shutdown()
            ray.shutdown()


_WAYS = {"embedded": "SQLite and embedded delivery over HTTP", "services": "PostgreSQL and RabbitMQ"}


@dataclass
class Run:
    """The disturbed run, as far as it has come."""

    stage: Stage
    strokes: list[Stroke]
    log: Log = field(default_factory=Log)
    struck: list[Struck] = field(default_factory=list)
    readings: Readings = field(default_factory=Readings)


async def _play(seed: int, way: str, events: int, rate: float, stage_: Stage, folder: Path) -> bool:
    day = make_day(seed, max(1, events // EVENTS_AN_ORDER))
    messages = told(day, disorder(day, seed, duplicated=0.1, late=0.2))
    run = Run(stage_, plan(seed, len(messages), possible(stage_)))
    for line in stage_.said:
        say(line)
    say(f"{len(messages)} events, {len(run.strokes)} strokes; first the day without trouble")
    reference = await _undisturbed(folder, messages)
    say(f"undisturbed in {reference.seconds:.0f} s; now the day with trouble")
    started = time.monotonic()
    await start_twins(stage_.installation)
    await asyncio.to_thread(start_http, stage_.installation)
    try:
        await _disturbed(run, messages, rate)
        return await _judged(run, messages, reference, seed, way, time.monotonic() - started)
    finally:
        await stop_twins(stage_.installation)
        await stage_.erp.close()


async def _undisturbed(folder: Path, messages: Sequence[Event]) -> Outcome:
    with undisturbed(folder) as calm:
        started = time.monotonic()
        await start_twins(calm)
        try:
            send, close = over_amqp(calm, _directory(calm))
            await tell(messages, send, 1e9, Log(), chunk=200)
            await close()
            counts = await quiet(calm, 0)
            return await outcome_of(calm, counts, 0, len(messages), time.monotonic() - started)
        finally:
            await stop_twins(calm)


def _directory(installation: Installation) -> Directory:
    return Directory(installation.placement, RayCalls(installation))


async def _disturbed(run: Run, messages: Sequence[Event], rate: float) -> None:
    installation = run.stage.installation
    async with client(installation) as http:
        send, close = over_http(http), _nothing
        if installation.settings.amqp_url is not None:
            send, close = over_amqp(installation, _directory(installation))
        reading = asyncio.create_task(read_on(messages, http, run.readings))
        striking = asyncio.create_task(_strike(run))
        watching = asyncio.create_task(_watch(run, len(messages)))
        try:
            await tell(messages, send, rate, run.log)
            await striking
            await _settled(run, messages)
        finally:
            for task in (reading, striking, watching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await close()


async def _nothing() -> None:
    """Nothing to close."""


async def _strike(run: Run) -> None:
    """Each trouble at its moment; those that are over one after another may overlap in recovery."""
    async with asyncio.TaskGroup() as group:
        for stroke in run.strokes:
            while run.log.acknowledged < stroke.after:
                await asyncio.sleep(0.02)
            group.create_task(_struck(run, stroke))


async def _struck(run: Run, stroke: Stroke) -> None:
    say(f"  after {stroke.after:>6}: {stroke.trouble}")
    run.struck.append(await strike(stroke, run.stage))


async def _watch(run: Run, total: int) -> None:
    while True:
        await asyncio.sleep(15)
        say(f"  {run.log.acknowledged:>6} of {total} acknowledged, {run.log.repeated} chunks told again")


async def _settled(run: Run, messages: Sequence[Event]) -> None:
    """Everything acknowledged is stored, and the ERP has answered everything. Gives up after a while."""
    ids = {(event.source, event.id) for event in messages}
    installation = run.stage.installation
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            while ids - {row.name for row in await stored(installation)}:
                await asyncio.sleep(1.0)
            await _in_peace(lambda: quiet(installation, 0))


async def _in_peace(wait: Callable[[], Awaitable[object]]) -> None:
    """The metrics of an actor that is being started cannot be read yet."""
    while True:
        try:
            await wait()
            return
        except (KeyError, TransientFailure):
            await asyncio.sleep(0.5)


async def _judged(
    run: Run, messages: Sequence[Event], reference: Outcome, seed: int, way: str, seconds: float
) -> bool:
    installation = run.stage.installation
    rows = await stored(installation)
    outcome = await outcome_of(installation, {}, 0, len(messages), seconds)
    store = installation.store()
    letters = len(await store.letters(LetterFilter(), 100))
    await store.close()
    judgement = judge(messages, rows, outcome, reference, letters)
    recovered = {
        struck.stroke.number: recovery_s(struck, rows, run.log, installation) for struck in run.struck
    }
    pauses = {struck.stroke.number: pause_s(struck, rows) for struck in run.struck}
    out.print(_strokes_table(run, recovered, pauses))
    out.print(_verdict_table(run, judgement, messages, rows, outcome))
    hosts = [one for one in run.struck if one.stroke.trouble is Trouble.KILL_HOST]
    verdict = {
        "seed": seed,
        "way": way,
        "ok": judgement.good,
        "events": len(messages),
        "strokes": len(run.struck),
        "repeated": run.log.repeated,
        "reads": asdict(run.readings),
        "host_recovery_s": [recovered[one.stroke.number] for one in hosts],
        "seconds": round(seconds),
        **{name: found for name in judgement.__slots__ if (found := getattr(judgement, name))},
    }
    print(json.dumps(verdict, default=str))  # noqa: T201
    return judgement.good


def _strokes_table(run: Run, recovered: dict[int, float | None], pauses: dict[int, float]) -> Table:
    heads = ("#", "after events", "trouble", "struck", "lasted", "recovered after", "longest pause")
    table = Table(*heads, box=None)
    for one in sorted(run.struck, key=lambda struck: struck.stroke.number):
        seconds = recovered[one.stroke.number]
        lasted = (one.over - one.at).total_seconds() if one.over is not None else 0.0
        table.add_row(
            str(one.stroke.number),
            f"{one.stroke.after:,}",
            one.stroke.trouble.value,
            one.on,
            f"{lasted:.1f} s",
            "none came" if seconds is None else f"{seconds:.2f} s",
            f"{pauses[one.stroke.number]:.2f} s",
        )
    table.caption = (
        "recovered: the first commit that needs what was struck; what lasts, from its end. longest pause: "
        "without any commit, in the 15 s after the stroke"
    )
    return table


def _verdict_table(
    run: Run, judgement: Judgement, messages: Sequence[Event], rows: Sequence[Stored], outcome: Outcome
) -> Table:
    table = Table("what must hold", "counted", "wrong", box=None)
    told = len({(event.source, event.id) for event in messages})
    figures: list[tuple[str, int, list[object]]] = [
        ("acknowledged events are in a history", told, [*judgement.lost]),
        ("each in exactly one, once", told, [*judgement.doubled]),
        ("nothing else is", len(rows), [*judgement.strange]),
        ("twins as in the undisturbed run", len(outcome.documents), [*judgement.states]),
        ("live postings as in the undisturbed run", len(outcome.postings), [*judgement.postings]),
        ("one live document a key in the ERP", len(outcome.postings), [*judgement.erp]),
        ("the ERP's balances as in the undisturbed run", len(outcome.balance.rows), [*judgement.balance]),
        ("no dead letters", judgement.dead_letters, [None] * judgement.dead_letters),
    ]
    for what, many, wrong in figures:
        table.add_row(what, f"{many:,}", f"{len(wrong)} {wrong[:3]}" if wrong else "0")
    table.caption = (
        f"{run.log.repeated} chunks were told again until they were acknowledged; {run.readings.answered} "
        f"reads answered, {run.readings.failed} not, the slowest after {run.readings.slowest_s:.1f} s"
    )
    return table
