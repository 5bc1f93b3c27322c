"""Any number of followers hear of each change, from where they left off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Overloaded, TransientFailure
from canonical.identity import Kind, TwinRef
from tests.stories import golden
from tests.world import World
from twins.ports import Commits, Expired, Heard, TwinFilter
from twins.runtime import feed as feeds
from twins.runtime.feed import ChangeFeed

SOON_S, LONG_S = 0.02, 30.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def feed(store: SqlStore) -> AsyncIterator[ChangeFeed]:
    opened = ChangeFeed(store, every_s=0.001)
    yield opened
    await opened.close()


class Committing:
    def __init__(self, store: SqlStore) -> None:
        self._store, self._world, self._left = store, World(), list(golden())

    async def some(self, many: int = 1_000) -> list[Event]:
        epoch = await self._store.claim("host-0")
        told, self._left = self._left[:many], self._left[many:]
        for event in told:
            await self._store.commit("host-0", epoch, self._world.take([event]), ())
        return told


async def versions(store: SqlStore) -> dict[TwinRef, int]:
    return {row.ref: row.version for kind in Kind for row in await store.rows(TwinFilter(kind), 1_000)}


async def until(following: AsyncGenerator[Heard], wanted: dict[TwinRef, int]) -> Heard:
    """Listen until all of it was heard. Answers the last."""
    heard: dict[TwinRef, int] = {}
    async with asyncio.timeout(20):
        async for one in following:
            for row in one.changed:
                heard[row.ref] = max(row.version, heard.get(row.ref, 0))
            if wanted.items() <= heard.items():
                return one
    raise AssertionError(f"ended with {heard}")


async def test_what_changes_from_now_on(store: SqlStore, feed: ChangeFeed) -> None:
    committing = Committing(store)
    await committing.some(2)
    async with aclosing(feed.follow(None, LONG_S)) as following:
        first = await anext(following)
        assert first == Heard(2, [])
        await committing.some()
        await until(following, await versions(store))


async def test_what_has_changed_before_and_from_then_on(store: SqlStore, feed: ChangeFeed) -> None:
    committing = Committing(store)
    await committing.some(3)
    async with aclosing(feed.follow(0, LONG_S)) as following:
        assert await anext(following) == Heard(0, [])
        await until(following, await versions(store))
        await committing.some()
        await until(
            following, {ref: v for ref, v in (await versions(store)).items() if ref.kind is Kind.ORDER}
        )


async def test_who_was_cut_goes_on_where_he_was(store: SqlStore, feed: ChangeFeed) -> None:
    """While others follow, and while nobody does."""
    committing = Committing(store)
    async with aclosing(feed.follow(0, LONG_S)) as stays:
        for other_follows in (True, False):
            async with aclosing(feed.follow(None, LONG_S)) as following:
                begun = await anext(following)
            known = await versions(store)
            await committing.some(4)
            changed = {ref: v for ref, v in (await versions(store)).items() if known.get(ref) != v}
            if not other_follows:
                await until(stays, await versions(store))
                await stays.aclose()
            async with aclosing(feed.follow(begun.settled, LONG_S)) as following:
                await until(following, changed)


async def test_one_look_at_the_store_serves_all(store: SqlStore) -> None:
    counted = Counted(store)
    feed = ChangeFeed(counted, every_s=0.01)  # type: ignore[arg-type]
    following = [feed.follow(None, LONG_S) for _ in range(40)]
    for one in following:
        await anext(one)
    before = counted.looks
    await Committing(store).some()
    wanted = await versions(store)
    took = asyncio.get_running_loop().time()
    await asyncio.gather(*(until(one, {ref: v for ref, v in wanted.items()}) for one in following))
    took = asyncio.get_running_loop().time() - took
    assert counted.looks - before < 5 + 2 * len(golden()) + took / 0.005
    for one in following:
        await one.aclose()
    await feed.close()


class Counted:
    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.looks = 0
        self.is_away = False
        self.commits_kept = store.commits_kept

    async def commits(self, after: int, missing: Collection[int], limit: int) -> Commits:
        self.looks += 1
        if self.is_away:
            raise TransientFailure("database: away")
        return await self._store.commits(after, missing, limit)


async def test_a_database_that_was_away_cuts_nobody(store: SqlStore) -> None:
    counted = Counted(store)
    feed = ChangeFeed(counted, every_s=0.001)  # type: ignore[arg-type]
    async with aclosing(feed.follow(None, SOON_S)) as following:
        await anext(following)
        counted.is_away = True
        await Committing(store).some()
        for _ in range(3):
            assert (await anext(following)).changed == []
        ended = [one async for one in feed.follow(0, LONG_S)]
        assert ended == [Heard(0, [])], "who comes while it is away is to come again"
        counted.is_away = False
        await until(following, await versions(store))
    await feed.close()


async def test_while_nothing_changes_it_says_that_it_is_there(feed: ChangeFeed) -> None:
    async with aclosing(feed.follow(None, SOON_S)) as following:
        for _ in range(3):
            assert await anext(following) == Heard(0, [])


async def test_what_is_forgotten_is_said_to_be(store: SqlStore, feed: ChangeFeed) -> None:
    await Committing(store).some()
    newest = (await store.commits_kept())[1]
    await store.forget_commits(datetime.now(UTC) + timedelta(days=1), 3, up_to=None)
    for after in (0, 2, newest + 1):
        with pytest.raises(Expired) as expired:
            await anext(feed.follow(after, LONG_S))
        assert expired.value.oldest == 4
    for after in (3, newest):
        async with aclosing(feed.follow(after, SOON_S)) as following:
            assert (await anext(following)).settled == after


async def test_there_is_room_for_so_many_and_for_others_once_they_are_gone(
    feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "FOLLOWERS_MAX", 2)
    following = [feed.follow(None, SOON_S) for _ in range(2)]
    for one in following:
        await anext(one)
    with pytest.raises(Overloaded):
        await anext(feed.follow(None, SOON_S))
    await following[0].aclose()
    async with aclosing(feed.follow(None, SOON_S)) as another:
        await anext(another)
    await following[1].aclose()


async def test_who_does_not_keep_up_is_given_up_and_the_others_are_not(
    store: SqlStore, feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BEHIND_MAX", 2)
    committing = Committing(store)
    async with aclosing(feed.follow(None, LONG_S)) as quick, aclosing(feed.follow(None, LONG_S)) as slow:
        begun = await anext(quick)
        await anext(slow)
        heard: dict[TwinRef, int] = {}
        while await committing.some(1):
            heard |= {row.ref: row.version for row in (await anext(quick)).changed}
        left = [one async for one in slow]
        assert len(left) == 2, "it ends, and its caller goes on from there"
        assert heard.items() >= (await versions(store)).items()
    async with aclosing(feed.follow(left[-1].settled, LONG_S)) as again:
        await anext(again)
        assert left[-1].settled > begun.settled
        assert (await anext(again)).changed


async def test_who_reads_up_and_is_overtaken_by_what_is_forgotten_ends(
    store: SqlStore, feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "COMMITS_AT_ONCE", 2)
    await Committing(store).some()
    newest = (await store.commits_kept())[1]
    async with aclosing(feed.follow(0, LONG_S)) as following:
        assert (await anext(following)).settled == 0
        assert (await anext(following)).settled == 2
        await store.forget_commits(datetime.now(UTC) + timedelta(days=1), newest - 2, up_to=None)
        assert [one async for one in following] == [], "its caller comes again, and learns that"
        with pytest.raises(Expired):
            await anext(feed.follow(2, LONG_S))
