"""What every store of changes must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, insert, select

from adapters.sql.changes import ChangeRows
from adapters.sql.database import now_text
from adapters.sql.store import SqlStore
from adapters.sql.tables import changes
from canonical.identity import Kind
from tests.contracts.conftest import postgres_of_its_own
from tests.stories import golden
from tests.world import World
from twins.changes import newest
from twins.core.following import Following
from twins.ports import Commits, TwinFilter, TwinRow
from twins.runtime.announcer import forget
from twins.runtime.feed import ChangeFeed

ROW = {"twins": "[]"}
FAR_BACK, FAR_AHEAD = -timedelta(days=1), timedelta(days=1)


async def told(store: SqlStore) -> World:
    """A commit for each event."""
    world, epoch = World(), await store.claim("host-0")
    for event in golden():
        await store.commit("host-0", epoch, world.take([event]), ())
    return world


async def listed(store: SqlStore) -> dict[str, TwinRow]:
    rows = [row for kind in Kind for row in await store.rows(TwinFilter(kind), 1_000)]
    return {str(row.ref): row for row in rows}


async def test_after_each_commit_changes_are_what_lists_show(store: SqlStore) -> None:
    world, epoch, with_findings = World(), await store.claim("host-0"), 0
    for event in reversed(golden()):
        await store.commit("host-0", epoch, world.take([event]), ())
        read = await store.commits(0, (), 1_000)
        heard, shown = {str(row.ref): row for row in newest(read.found)}, await listed(store)
        assert {name: heard[name] for name in shown} == shown
        with_findings += any(row.findings for row in shown.values())
    assert len(read.found) == len(golden())
    assert [one.number for one in read.found] == sorted(one.number for one in read.found)
    assert with_findings > 0
    assert not any(row.findings for row in shown.values() if row.ref.kind is Kind.ORDER), "they came and went"


async def test_they_are_read_in_parts(store: SqlStore) -> None:
    await told(store)
    whole = (await store.commits(0, (), 1_000)).found
    first = (await store.commits(0, (), 3)).found
    rest = (await store.commits(first[-1].number, (), 1_000)).found
    assert [*first, *rest] == whole
    assert (await store.commits(whole[-1].number, {whole[1].number}, 10)).found == [whole[1]]
    assert await store.commits_kept() == (whole[0].number, whole[-1].number)


async def test_before_the_first_there_is_none(store: SqlStore) -> None:
    assert (await store.commits(0, (), 10)).found == []
    assert await store.commits_kept() == (1, 0)
    assert await store.announced() is None


async def test_a_commit_that_fails_leaves_no_change(store: SqlStore) -> None:
    old = await store.claim("host-0")
    await store.claim("host-0")
    with pytest.raises(Exception, match="epoch"):
        await store.commit("host-0", old, World().take(golden()), ())
    assert (await store.commits(0, (), 10)).found == []


async def test_what_was_announced_never_goes_back(store: SqlStore) -> None:
    for number, known in ((5, 5), (3, 5), (8, 8)):
        await store.note_announced(number)
        assert await store.announced() == known


async def test_old_changes_are_forgotten_but_for_the_newest(store: SqlStore) -> None:
    await told(store)
    whole = (await store.commits(0, (), 1_000)).found
    now = whole[-1].twins[0].changed_at
    assert await store.forget_commits(now + FAR_BACK, 1_000, up_to=None) == 0
    assert await store.forget_commits(now + FAR_AHEAD, 2, up_to=None) == 2
    assert (await store.commits(0, (), 1_000)).found == whole[2:]
    assert await store.forget_commits(now + FAR_AHEAD, 1_000, up_to=whole[3].number) == 2
    assert await store.forget_commits(now + FAR_AHEAD, 1_000, up_to=None) == len(whole) - 5
    assert (await store.commits(0, (), 1_000)).found == whole[-1:], "who has heard it has missed nothing"


async def test_what_is_not_announced_yet_is_not_forgotten(store: SqlStore) -> None:
    await told(store)
    whole = (await store.commits(0, (), 1_000)).found
    later = whole[-1].twins[0].changed_at + FAR_AHEAD
    await forget(store, later, announced=True)
    assert (await store.commits(0, (), 1_000)).found == whole
    await store.note_announced(whole[1].number)
    await forget(store, later, announced=True)
    assert (await store.commits(0, (), 1_000)).found == whole[2:]
    await forget(store, later, announced=False)
    assert (await store.commits(0, (), 1_000)).found == whole[-1:]


async def test_nothing_is_forgotten_after_what_stays(store: SqlStore) -> None:
    """Hosts have clocks of their own."""
    async with store._writer.begin() as connection:
        for minute in (1, 9, 2):
            at = f"2026-03-02T08:0{minute}:00.000000+00:00"
            await connection.execute(insert(changes).values(committed_at=at, **ROW))
    five = datetime(2026, 3, 2, 8, 5, tzinfo=UTC)
    assert await store.forget_commits(five, 10, up_to=None) == 1
    assert [one.number for one in (await store.commits(0, (), 10)).found] == [2, 3]


async def test_a_page_ends_after_many_changes(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.sql.changes.TWINS_AT_ONCE", 3)
    await told(store)
    numbers: list[int] = []
    more = True
    while more:
        read = await store.commits(numbers[-1] if numbers else 0, (), 1_000)
        assert sum(len(one.twins) for one in read.found[:-1]) <= 3
        numbers += [one.number for one in read.found]
        more = read.more
    assert len(numbers) == len(golden())


async def test_a_list_has_its_kind_and_what_exists(store: SqlStore) -> None:
    """Whatever cursor and status are asked for."""
    await told(store)
    for cursor in ("a", "customer/C", "order/", "stock/SKU-1@DC-01", "~"):
        rows = await store.rows(TwinFilter(Kind.ORDER, after=cursor), 1_000)
        assert {row.ref.kind for row in rows} <= {Kind.ORDER}
        assert bool(rows) == (cursor < "order/SO-1")
    for kind in Kind:
        assert await store.rows(TwinFilter(kind, status="unheard-of"), 1_000) == []


# --- numbers that are seen out of turn --------------------------------------------------------------------


@pytest.fixture
async def postgres() -> AsyncIterator[ChangeRows]:
    async with postgres_of_its_own() as url:
        opened = SqlStore(url)
        await opened.migrate()
        yield opened
        await opened.close()


async def read(store: ChangeRows, following: Following) -> list[int]:
    found: Commits = await store.commits(following.newest, following.missing, 10)
    numbers = [one.number for one in found.found]
    following.take(numbers, found.oldest_running, found.mark)
    return numbers


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_number_that_a_running_transaction_has_taken_is_waited_for(
    postgres: ChangeRows, ends_well: bool
) -> None:
    following = Following(0)
    other, slow, quick = [await postgres._writer.connect() for _ in range(3)]
    await other.execute(select(func.pg_current_xact_id()))
    for connection in (slow, quick):
        await connection.execute(insert(changes).values(committed_at=now_text(), **ROW))
    await quick.commit()
    for _ in range(3):
        await read(postgres, following)
        assert following.newest == 2
        assert following.settled == 0, "the first may still come"
        await other.rollback()
    await (slow.commit() if ends_well else slow.rollback())
    seen = [number for _ in range(2) for number in await read(postgres, following)]
    assert seen == ([1] if ends_well else [])
    assert following.settled == 2
    for connection in (other, slow, quick):
        await connection.close()


@pytest.mark.parametrize("after", [None, 0])
async def test_who_begins_to_follow_while_one_runs_hears_of_it(
    postgres: ChangeRows, after: int | None
) -> None:
    feed = ChangeFeed(postgres, every_s=0.01)
    slow = await postgres._writer.connect()
    twin = '[["order/SO-1", "held", 3, null, null, null, null]]'
    await slow.execute(insert(changes).values(committed_at=now_text(), twins=twin))
    async with postgres._writer.begin() as quick:
        for _ in range(3):
            await quick.execute(insert(changes).values(committed_at=now_text(), **ROW))

    async def end() -> None:
        await asyncio.sleep(0.3)
        await slow.commit()
        await slow.close()

    ending = asyncio.create_task(end())
    heard: list[str] = []
    async with asyncio.timeout(20), aclosing(feed.follow(after, 0.5)) as following:
        begun = await anext(following)
        if after is None:
            assert ending.done(), "what begins after it is in the lists"
            assert begun.settled == 4
        else:
            async for one in following:
                heard += [str(row.ref) for row in one.changed]
                if one.settled == 4:
                    break
            assert heard == ["order/SO-1"]
    await ending
    await feed.close()
