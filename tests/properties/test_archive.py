"""Archiving, of any twin and at any moment, changes nothing that anybody can ask."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from tests.answers import all_twins, answers, confirm_all
from tests.properties.generated import arbitrary, generated, seeds
from tests.world import DAY
from twins.core.rules import Policy
from twins.ports import Taken
from twins.runtime.host import TwinHost

FILE = "twinsync.sqlite"


class Clock:
    def now(self) -> Any:
        return DAY


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with tables and nothing in them: migrating takes longer than an example."""
    folder = tmp_path_factory.mktemp("empty")

    async def make() -> None:
        store = SqlStore(sqlite_url(folder))
        await store.migrate()
        await store.close()

    asyncio.run(make())
    return folder / FILE


async def outcome(folder: Path, events: Sequence[Event], seed: int, *, archives: bool) -> dict[str, Any]:
    """What is there to ask after *events* came in some batches, and how each of them arrived."""
    random, batches = Random(seed), Random(seed + 1)
    store, left, arrived, moved = SqlStore(sqlite_url(folder)), list(events), list[Any](), 0
    host = TwinHost("host-0", store, Clock(), Policy())
    while left:
        size = batches.randint(1, 4)
        arrived += [taken.arrival for taken in await _taken(host, left[:size])]
        del left[:size]
        if batches.random() < 0.2:
            await confirm_all(store, host)
        if archives and random.random() < 0.5:
            host, many = await _archived(store, host, random)
            moved += many
            await store.find_gaps()
    await confirm_all(store, host)
    found = await answers(store, events)
    await store.close()
    for name in ("told", *found["histories"]):
        told = found["told"] if name == "told" else found["histories"][name]
        told[:] = [one[:3] for one in told]  # when it was recorded is another moment in each run
    found["last"] = {ref: [one[:3] for one in told] for ref, told in found["last"].items()}
    found["lists"] = [[(row.ref, row.status, row.findings) for row in rows] for rows in found["lists"]]
    return found | {"arrived": arrived, "moved": moved}


async def _taken(host: TwinHost, events: Sequence[Event]) -> list[Taken]:
    verdicts = await host.take_events(events)
    assert all(isinstance(one, Taken) for one in verdicts)
    return verdicts  # type: ignore[return-value]


async def _archived(store: SqlStore, host: TwinHost, random: Random) -> tuple[TwinHost, int]:
    """Some twins that never have a checkpoint, by the host itself or by its next incarnation."""
    if random.random() < 0.5:
        host = TwinHost("host-0", store, Clock(), Policy())
        await host.take_events([])
    refs = [ref for ref in await all_twins(store) if ref.kind != "stock" and random.random() < 0.5]
    async with host._turn.mine():
        await host._claim()
        await host._rest()
        return host, (await store.archive(host.name, host._epoch, refs)).events


def test_archiving_changes_nothing_that_anybody_can_ask(empty: Path) -> None:
    moved = 0

    @generated(0.25)
    @given(arbitrary, seeds)
    def check(events: list[Event], seed: int) -> None:
        nonlocal moved
        found = []
        for archives in (False, True):
            with TemporaryDirectory() as folder:
                shutil.copy(empty, Path(folder, FILE))
                found.append(asyncio.run(outcome(Path(folder), events, seed, archives=archives)))
        plain, archived = found
        moved += archived.pop("moved")
        plain.pop("moved")
        assert archived == plain

    check()
    assert moved > 100, "archives had to be read"
