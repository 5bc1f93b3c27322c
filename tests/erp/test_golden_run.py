"""domain.md's golden run, told by a shop and a warehouse, through the whole service, into a real Tryton."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from adapters.tryton.books import TrytonBooks
from adapters.tryton.models import TrytonSettings
from canonical.envelope import Event
from canonical.postings import Account
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.erp.server import TrytonServer
from ops.local import quiet
from ops.settings import Settings
from tests.erp import golden
from tests.erp.golden import TABLE, Row
from tests.erp.line import Fate, Line
from tests.live.installations import broker, publish, running, settings
from twins.core.rules import FreightCharge
from twins.ports import Balance, HeldDocument

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray"), pytest.mark.timeout(600)]


def posting_to(tryton: TrytonSettings, folder: Path, **more: object) -> Settings:
    return settings(
        folder,
        amqp_url=broker(),
        amqp_prefix=f"test-{secrets.token_hex(4)}",
        erp_connector="tryton",
        tryton={"main": tryton},
        sweep_every_s=0.5,
        **{"freight_charge": FreightCharge.FINAL_SHIPMENT} | more,
    )


async def tell_all(chosen: Settings, events: Sequence[Event]) -> dict[str, float]:
    """Until the ERP has answered everything. Answers the counts of hosts and gateway."""
    async with running(chosen) as installation:
        await publish(installation, events)
        return await quiet(installation, len(events))


async def table(books: TrytonBooks) -> tuple[list[tuple[str, ...]], Mapping[Account, Balance]]:
    """The table's rows, summed up from documents; and what Tryton's own accounts say in the end."""
    documents = {one.posting_key: one async for one in books.documents()}
    standing: list[HeldDocument] = []
    rows = []
    for row in TABLE:
        standing += [documents[key] for key in row.documents]  # type: ignore[index]
        rows.append(golden.cells(golden.cumulated(standing)))
    return rows, await books.balances()


async def assert_table(
    books: TrytonBooks, capsys: pytest.CaptureFixture[str], title: str, expected: Sequence[Row] = TABLE
) -> None:
    rows, balances = await table(books)
    in_the_end = golden.cells(balances)
    with capsys.disabled():
        print(f"\n\n{title}\n{golden.printed(expected, [*rows[:-1], in_the_end])}")  # noqa: T201
    assert rows == [row.cells for row in expected]
    assert in_the_end == expected[-1].cells
    held = [one async for one in books.documents()]
    assert all(one.live for one in held), "nothing had to be reversed"
    assert {key for row in TABLE for key in row.documents} | ACCRUED == {one.posting_key for one in held}
    assert await books.stock() == {(golden.SKU, golden.LOCATION): 92}


ACCRUED = {"freight-accrual/SHP-1", "freight-accrual/SHP-2"}


async def test_the_golden_run_in_order_ends_in_the_trial_balance_of_the_table(
    tryton: TrytonSettings, books: TrytonBooks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = golden.day()
    await tell_all(posting_to(tryton, tmp_path), told(day, day.messages))
    await assert_table(books, capsys, "in order")


async def test_freight_that_is_prorated_is_charged_with_each_shipment(
    tryton: TrytonSettings, books: TrytonBooks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = golden.day()
    chosen = posting_to(tryton, tmp_path, freight_charge=FreightCharge.PRORATED)
    await tell_all(chosen, told(day, day.messages))
    await assert_table(books, capsys, "in order, freight prorated", golden.PRORATED)


@pytest.mark.parametrize("seed", [1, 2])
async def test_duplicates_and_late_messages_change_nothing(
    tryton: TrytonSettings,
    books: TrytonBooks,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    day = golden.day()
    events = told(day, disorder(day, seed, duplicated=0.7, late=0.6))
    totals = await tell_all(posting_to(tryton, tmp_path), events)
    assert totals["duplicates"] > 0
    await assert_table(books, capsys, f"{len(events)} messages, with duplicates and late ones (seed {seed})")


@dataclass
class Crashes:
    """Kills Tryton while it carries out the n-th change, and starts it again a second later."""

    server: TrytonServer
    database: str
    at: frozenset[int]
    changes: int = 0
    crashes: list[asyncio.Task[None]] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> Fate:
        self.changes += request.method != "GET"
        if self.changes in self.at and request.method != "GET":
            self.crashes.append(asyncio.create_task(self._crash()))
        return Fate.PASSES

    async def _crash(self) -> None:
        await asyncio.sleep(0.02)
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(self.server.start, self.database)


async def test_the_golden_run_with_tryton_killed_half_way_posts_nothing_twice_and_loses_nothing(
    tryton: TrytonSettings,
    tryton_server: TrytonServer,
    books: TrytonBooks,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target, _, database = tryton.url.rpartition("/")
    day = golden.day()
    events = told(day, disorder(day, 3, duplicated=0.5, late=0.5))
    crashes = Crashes(tryton_server, database, frozenset({5, 14, 24}))
    async with Line(target, judge=crashes).open() as line:
        far = tryton.model_copy(update={"url": f"{line.url}/{database}"})
        totals = await tell_all(posting_to(far, tmp_path), events)
        await asyncio.gather(*crashes.crashes)
    assert len(crashes.crashes) == 3
    assert totals["unanswered"] > 0, "the gateway noticed nothing"
    await assert_table(books, capsys, f"Tryton killed three times, during changes {sorted(crashes.at)}")
