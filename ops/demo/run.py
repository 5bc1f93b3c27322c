"""The demo: one day, run in order and in disorder, and what both come to."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import from_json, to_json
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from adapters.simulated_erp.process import start as start_erp
from canonical.identity import TwinRef, twin_ref
from ops.asking import explanation
from ops.demo.day import ANY_CLOCK_S, Day, Message, in_order, make_day
from ops.demo.disorder import disorder
from ops.demo.outcome import Outcome, differences, outcome_of
from ops.demo.telling import told
from ops.local import free_port, local_ray, quiet, start_http, start_twins, stop_twins
from ops.settings import Settings
from ops.wiring import Installation
from twins.ports import Publication
from twins.runtime.cluster import RayCalls
from twins.runtime.ingest import Directory
from twins.runtime.inquiry import Inquiry

MESSAGES_AT_ONCE = 40
TWINS_AT_ONCE = 500
DUPLICATED, LATE = 0.20, 0.30
ORDER_STATES = [
    "placed",
    "validated",
    "held",
    "allocated",
    "released",
    "partly-shipped",
    "shipped",
    "partly-delivered",
    "delivered",
    "closed",
    "cancelled",
]


def run_demo(
    orders: int,
    seed: int,
    broker: str | None,
    port: int,
    leave: bool,
    data_dir: Path,
    home: Path,
    out: Console,
) -> int:
    """Answers the exit status: 0 where both runs end in the same truth and the books balance."""
    started = time.monotonic()
    day = make_day(seed, orders)
    cases = ", ".join(f"{many} {name}" for name, many in sorted(day.cases.items(), key=lambda one: -one[1]))
    out.print(f"A day of {orders} orders in {len(day.messages)} messages (seed {seed}): {cases}.\n")
    ordered_folder, disordered_folder = data_dir / "in-order", data_dir / "disordered"
    for folder in (ordered_folder, disordered_folder):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        with out.status("starting Ray and two simulated ERPs"):
            stack.enter_context(local_ray(home))
            erps = [stack.enter_context(start_erp()) for _ in range(2)]
        key = secrets.token_urlsafe(18)
        ordered = _installation(ordered_folder, erps[0].url, broker, key, 0)
        reference = asyncio.run(_run(ordered, day, in_order(day), "in order, once each", out))
        asyncio.run(stop_twins(ordered))
        _clear_away(ordered)
        disordered = _installation(disordered_folder, erps[1].url, broker, key, port or free_port())
        messages = disorder(day, seed, duplicated=DUPLICATED, late=LATE)
        outcome = asyncio.run(_run(disordered, day, messages, "late, swapped, duplicated", out, serve=True))
        _report(reference, outcome, out)
        story = asyncio.run(_story(disordered, outcome))
        out.print(Panel(story[1], title=f"why {story[0]} is what it is", title_align="left"))
        good = _verdict(reference, outcome, time.monotonic() - started, out)
        if not leave:
            _try_it(disordered, story[0], key, out)
        asyncio.run(stop_twins(disordered))
        _clear_away(disordered)
    return 0 if good else 1


def _clear_away(installation: Installation) -> None:
    """The demo's queues are its own; nobody misses them."""
    settings = installation.settings
    if settings.amqp_url is not None:
        from adapters.amqp.topology import Names, clear_away

        asyncio.run(clear_away(settings.amqp_url, Names(settings.amqp_prefix)))


def _installation(folder: Path, erp: str, broker: str | None, key: str, port: int) -> Installation:
    return Installation(
        Settings(
            data_dir=folder,
            database_url=None,
            amqp_url=broker,
            amqp_prefix=f"twinsync.demo-{secrets.token_hex(4)}",
            erp_connector="simulated",
            erp_url=erp,
            api_keys=(SecretStr(key),),
            http_port=port,
            ahead_max_s=ANY_CLOCK_S,
        )
    )


# --- running ---------------------------------------------------------------------------------------------


async def _run(
    installation: Installation,
    day: Day,
    messages: Sequence[Message],
    name: str,
    out: Console,
    *,
    serve: bool = False,
) -> Outcome:
    with out.status(f"starting twins: {name}"):
        await start_twins(installation)
        if serve:
            await asyncio.to_thread(start_http, installation)
    started = time.monotonic()
    events = await _send(installation, day, messages, name, out)
    with out.status("waiting for the last postings"):
        counts = await quiet(installation, events)
    return await outcome_of(installation, counts, len(messages), events, time.monotonic() - started)


async def _send(
    installation: Installation, day: Day, messages: Sequence[Message], name: str, out: Console
) -> int:
    """Publish through the adapters, as partners do. Answers how many events the messages told."""
    store = installation.store()
    publisher = installation.publisher(_directory(installation), store)
    columns = (TextColumn(f"{name:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    events = 0
    try:
        with Progress(*columns, console=out) as progress:
            task = progress.add_task(name, total=len(messages))
            for start in range(0, len(messages), MESSAGES_AT_ONCE):
                some = messages[start : start + MESSAGES_AT_ONCE]
                published = [Publication(event.structured()) for event in told(day, some)]
                await publisher.publish(published)
                events += len(published)
                progress.advance(task, len(some))
    finally:
        await publisher.close()
        await store.close()
    return events


def _directory(installation: Installation) -> Directory:
    return Directory(installation.placement, RayCalls(installation))


async def _story(installation: Installation, outcome: Outcome) -> tuple[TwinRef, RenderableType]:
    """The explanation of the order with most to tell: posted anew, brought back, in many parcels."""
    posted: Counter[str] = Counter()
    for key, version in outcome.versions.items():
        if key.startswith("invoice/"):
            posted[key.rpartition("/")[2]] += version
    name = max(
        (twin for twin in outcome.documents if twin.startswith("order/")),
        key=lambda twin: (
            posted[twin.removeprefix("order/")],
            bool(outcome.documents[twin]["returns"]),
            len(outcome.documents[twin]["shipments"]),
            twin,
        ),
    )
    ref = twin_ref(name)
    store = installation.store()
    try:
        why = await Inquiry(store, store, installation.policy).explain(ref)
    finally:
        await store.close()
    assert why is not None
    return ref, explanation(from_json(to_json(why)))


# --- reporting -------------------------------------------------------------------------------------------


def _report(reference: Outcome, outcome: Outcome, out: Console) -> None:
    out.print(_states(reference, outcome))
    out.print(_postings(outcome))
    out.print(_balance(outcome))
    out.print(_lateness(reference, outcome))


def _lateness(reference: Outcome, outcome: Outcome) -> Table:
    table = Table("", "in disorder", "in order", title="What came, and what it cost", title_justify="left")
    figures: list[tuple[str, float, float]] = [
        ("messages", outcome.messages, reference.messages),
        ("events they told", outcome.events, reference.events),
    ]
    for name, label in {
        "duplicates": "events known already",
        "late": "late events, folded in where they belong",
        "reversals": "postings reversed",
        "annulled": "postings annulled before they were sent",
    }.items():
        figures.append((label, outcome.counts[name], reference.counts[name]))
    for column in table.columns[1:]:
        column.justify = "right"
    for label, one, other in figures:
        table.add_row(label, f"{one:,.0f}", f"{other:,.0f}")
    more = outcome.counts["reversals"] - reference.counts["reversals"]
    table.caption = (
        f"The day itself takes back some postings (voided shipments); disorder caused {more:+.0f} reversals."
    )
    return table


def _states(reference: Outcome, outcome: Outcome) -> Table:
    table = Table("order state", "orders", "in order", title="Orders by state", title_justify="left")
    many = Counter(one["status"] for one in outcome.documents.values() if one["kind"] == "order")
    ordered = Counter(one["status"] for one in reference.documents.values() if one["kind"] == "order")
    for status in sorted(many | ordered, key=_place):
        table.add_row(status, str(many[status]), str(ordered[status]))
    return table


def _place(status: str) -> tuple[int, str]:
    return (ORDER_STATES.index(status) if status in ORDER_STATES else -1, status)


def _postings(outcome: Outcome) -> Table:
    table = Table("posting", "live documents", title="Postings by kind", title_justify="left")
    for command, many in sorted(Counter(one.command for one in outcome.postings.values()).items()):
        table.add_row(command, str(many))
    return table


def _balance(outcome: Outcome) -> Table:
    table = Table("account", "debit", "credit", title="Trial balance of the ERP", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in outcome.balance.rows:
        table.add_row(row.account, f"{row.debit:,.2f}", f"{row.credit:,.2f}")
    table.add_section()
    debit, credit = (sum(getattr(row, side) for row in outcome.balance.rows) for side in ("debit", "credit"))
    table.add_row("total", f"{debit:,.2f}", f"{credit:,.2f}")
    return table


def _verdict(reference: Outcome, outcome: Outcome, seconds: float, out: Console) -> bool:
    """Say whether both runs end in the same truth and the books balance, and answer it."""
    states = differences(reference.documents, outcome.documents)
    live = differences(reference.postings, outcome.postings)
    for name in [*states, *live][:10]:
        out.print(f"  differs: {name}", style="red")
    good = not states and not live and outcome.sound and reference.sound
    verdict = "[bold green]equal[/]" if good else "[bold red]NOT EQUAL[/]"
    out.print(
        f"Verdict: {verdict}. {len(outcome.documents)} twins and {len(outcome.postings)} live postings, in "
        f"order and in disorder; {len(states)} twins and {len(live)} postings differ; trial balance "
        f"{'in balance' if outcome.balance.in_balance else 'OUT OF BALANCE'}; "
        f"{len(outcome.erp_faults)} keys without exactly one live document. {seconds:.0f} s in all."
    )
    return good


def _try_it(installation: Installation, order: TwinRef, key: str, out: Console) -> None:
    from ops.cli import end_by_signal

    ended = end_by_signal()
    address = f"http://127.0.0.1:{installation.settings.http_port}"
    header = f"-H 'Authorization: Bearer {key}'"
    out.print("\nThe service stays up. Try:", style="bold")
    for path in (f"/v1/orders/{order.key}", f"/v1/orders/{order.key}/explain", "/v1/orders?status=held"):
        out.print(f"  curl -s {header} '{address}{path}'", soft_wrap=True, highlight=False)
    out.print("\nCtrl-C ends it.")
    ended.wait()
