"""Changes are told at the broker at least once each, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import TransientFailure
from canonical.identity import Kind, TwinRef
from tests.stories import golden
from tests.world import World
from twins.ports import TwinFilter, TwinRow
from twins.runtime.announcer import Announcer


class Broker:
    """Fails before or after it has taken what it is told, as often as it is to."""

    def __init__(self) -> None:
        self.heard: list[TwinRow] = []
        self.fails_before = self.fails_after = 0

    async def announce(self, changed: Sequence[TwinRow]) -> None:
        if self.fails_before:
            self.fails_before -= 1
            raise TransientFailure("broker: away")
        self.heard += changed
        if self.fails_after:
            self.fails_after -= 1
            raise TransientFailure("broker: no confirm")

    async def close(self) -> None:
        """Nothing is open."""

    def last(self) -> dict[TwinRef, TwinRow]:
        newest: dict[TwinRef, TwinRow] = {}
        for row in self.heard:
            if row.ref not in newest or row.version > newest[row.ref].version:
                newest[row.ref] = row
        return newest


class Clock:
    """Ten seconds ahead of who commits."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=10)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


class Committing:
    def __init__(self, store: SqlStore) -> None:
        self._store, self._world, self._left = store, World(), list(golden())

    async def some(self, many: int) -> None:
        epoch = await self._store.claim("host-0")
        for event in self._left[:many]:
            await self._store.commit("host-0", epoch, self._world.take([event]), ())
        del self._left[:many]


async def listed(store: SqlStore) -> dict[TwinRef, TwinRow]:
    return {row.ref: row for kind in Kind for row in await store.rows(TwinFilter(kind), 1_000)}


async def shown(store: SqlStore, broker: Broker) -> dict[TwinRef, TwinRow]:
    """What was heard of the twins that a list shows."""
    return {ref: broker.last()[ref] for ref in await listed(store)}


async def test_who_listens_ends_where_the_lists_are(store: SqlStore) -> None:
    broker, committing = Broker(), Committing(store)
    announcer = Announcer(store, broker, Clock())
    while not await announcer.look() and committing._left:
        await committing.some(3)
    await announcer.look()
    assert await shown(store, broker) == await listed(store)
    assert len(broker.heard) == len({(row.ref, row.version) for row in broker.heard}), "each of them once"
    assert announcer.figures()["announced"] == len(broker.heard)
    heard = len(broker.heard)
    await announcer.look()
    assert len(broker.heard) == heard


async def test_of_a_twin_that_changed_often_the_last_is_told(store: SqlStore) -> None:
    broker = Broker()
    await Committing(store).some(1_000)
    await Announcer(store, broker, Clock()).look()
    assert len(broker.heard) == len(broker.last())


async def test_it_goes_on_where_the_one_before_it_was(store: SqlStore) -> None:
    broker, committing = Broker(), Committing(store)
    await committing.some(4)
    await Announcer(store, broker, Clock()).look()
    before = len(broker.heard)
    await committing.some(1_000)
    await Announcer(store, broker, Clock()).look()
    assert await shown(store, broker) == await listed(store)
    assert len({(row.ref, row.version) for row in broker.heard}) == len(broker.heard)
    assert len(broker.heard) > before


@pytest.mark.parametrize("fails", ["fails_before", "fails_after"])
async def test_what_was_not_confirmed_is_told_again(store: SqlStore, fails: str) -> None:
    broker, committing = Broker(), Committing(store)
    announcer = Announcer(store, broker, Clock(), every_s=0.001)
    setattr(broker, fails, 1)
    await committing.some(5)
    running = asyncio.create_task(announcer.run())
    await committing.some(1_000)
    async with asyncio.timeout(20):
        while not broker.last().items() >= (await listed(store)).items():
            await asyncio.sleep(0.01)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await shown(store, broker) == await listed(store)


async def test_while_the_broker_is_away_it_says_how_late_it_is(store: SqlStore) -> None:
    broker = Broker()
    announcer = Announcer(store, broker, Clock())
    await announcer.look()
    assert announcer.figures()["announced_late_s"] == 0
    await Committing(store).some(1)
    broker.fails_before = 1
    with pytest.raises(TransientFailure):
        await announcer.look()
    assert announcer.figures()["announced_late_s"] >= 10
    await announcer.look()
    await announcer.look()
    assert announcer.figures()["announced_late_s"] == 0


async def test_it_begins_where_anything_is_left(store: SqlStore) -> None:
    """Not told anything for longer than changes are kept."""
    broker, committing = Broker(), Committing(store)
    announcer = Announcer(store, broker, Clock())
    await committing.some(2)
    await announcer.look()
    await committing.some(6)
    await store.forget_commits(datetime.now(UTC) + timedelta(days=1), 5, up_to=None)
    left = (await store.commits(0, (), 1_000)).found
    again, since = Announcer(store, broker, Clock()), len(broker.heard)
    await again.look()
    assert {row for one in left for row in one.twins} >= set(broker.heard[since:])
    assert await store.announced() == left[-1].number


async def test_what_cannot_be_read_is_late(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    announcer = Announcer(store, Broker(), Clock())
    await announcer.look()

    async def unreadable(*_: object) -> None:
        raise TransientFailure("database: away")

    monkeypatch.setattr(store, "commits", unreadable)
    with pytest.raises(TransientFailure):
        await announcer.look()
    first = announcer.figures()["announced_late_s"]
    await asyncio.sleep(0.05)
    with pytest.raises(TransientFailure):
        await announcer.look()
    assert announcer.figures()["announced_late_s"] > first >= 0
