"""PostgreSQL that is killed, frozen and restarted under a host: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from random import Random

import pytest
from pydantic_core import from_json, to_json
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.sql.database import translated
from adapters.sql.engine import Tuning
from adapters.sql.store import SqlStore
from adapters.sql.tables import commands, events
from canonical.envelope import Event
from canonical.errors import TransientFailure
from ops.demo.day import in_order, make_day
from ops.demo.telling import told_once
from tests import services
from tests.live.servers import frozen, kill, own
from tests.services import Server
from tests.unit.test_host import Clock
from tests.world import World
from twins.core.rules import Policy
from twins.ports import Publication
from twins.runtime.host import Aspect, TwinHost

pytestmark = pytest.mark.live

HASTY = Tuning(connect_s=1, statement_s=1, lock_s=0.5, idle_in_transaction_s=1, pool_wait_s=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own(services.postgres) as started:
        yield started


@pytest.fixture
async def store(server: Server) -> AsyncIterator[SqlStore]:
    """A database of its own for each test."""
    admin = create_async_engine(server.url, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text("DROP DATABASE IF EXISTS trouble WITH (FORCE)"))
        await connection.execute(text("CREATE DATABASE trouble"))
    await admin.dispose()
    opened = SqlStore(f"{server.url.rpartition('/')[0]}/trouble", tuning=HASTY)
    await opened.migrate()
    yield opened
    await opened.close()


def day(seed: int, orders: int) -> list[Event]:
    made = make_day(seed, orders)
    return told_once(made, in_order(made))


def batches(told: Sequence[Event], size: int) -> list[list[Publication]]:
    each = [Publication(one.structured()) for one in told]
    return [each[start : start + size] for start in range(0, len(each), size)]


async def take_until_taken(host: TwinHost, batch: list[Publication]) -> int:
    """As a consumer does. Answers how often it failed."""
    failures = 0
    while True:
        try:
            await host.take(batch)
        except TransientFailure:
            failures += 1
            await asyncio.sleep(0.02)
        else:
            return failures


async def assert_as_told(store: SqlStore, host: TwinHost, told: Sequence[Event]) -> None:
    """Every event once, every command once, and the twins that the pure core makes of them."""
    expected = World().take_each(told)
    refs = sorted(expected.twins)
    for ref, answer in zip(refs, await host.read(Aspect.DOCUMENT, refs), strict=True):
        assert answer is not None, ref
        found = from_json(answer[1])
        del found["version"]
        assert found == from_json(to_json(expected.twins[ref].snapshot().document())), ref
    (row,) = await store._rows(select(func.count().label("many")).select_from(events))
    assert row["many"] == len(told)
    keyed = select(commands.c.key, commands.c.version, commands.c.action)
    rows = [tuple(row.values()) for row in await store._rows(keyed)]
    assert len(rows) == len(set(rows))
    live = {key: record.posting for key, record in (await store.live_postings()).items()}
    assert live == expected.live()


async def test_a_server_killed_between_and_during_commits_loses_and_doubles_nothing(
    server: Server, store: SqlStore
) -> None:
    """Whether a commit that was cut off stands, only the database knows: the host asks it anew."""
    told, random = day(3, 40), Random(3)
    host = TwinHost("host-0", store, Clock(), Policy())

    async def flow() -> int:
        return sum([await take_until_taken(host, batch) for batch in batches(told, 9)])

    flowing, kills = asyncio.create_task(flow()), 0
    while not flowing.done() and kills < 5:
        await asyncio.sleep(random.uniform(0.05, 0.4))
        await asyncio.to_thread(kill, server)
        kills += 1
        await asyncio.to_thread(server.start)
    failures = await flowing
    assert failures >= 3, "the kills are meant to hit it"
    await assert_as_told(store, host, told)


async def test_a_server_that_ends_every_session_is_come_back_to(store: SqlStore) -> None:
    told = day(5, 15)
    host = TwinHost("host-0", store, Clock(), Policy())
    for number, batch in enumerate(batches(told, 40)):
        await take_until_taken(host, batch)
        if number % 2:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            async with store._reader.connect() as connection:
                await connection.execute(text(others + " AND datname = current_database()"))
    await assert_as_told(store, host, told)


async def test_a_frozen_server_is_given_up_and_come_back_to(server: Server, store: SqlStore) -> None:
    told = day(7, 4)
    host = TwinHost("host-0", store, Clock(), Policy())
    first, *rest = batches(told, 30)
    await host.take(first)
    with frozen(server):
        for work in (host.take(rest[0]), host.take(rest[0]), store.ping(), store.claim("host-1")):
            with pytest.raises(TransientFailure):
                await asyncio.wait_for(work, 30)
    for batch in rest:
        await take_until_taken(host, batch)
    await assert_as_told(store, host, told)


async def test_a_statement_that_takes_too_long_is_given_up(store: SqlStore) -> None:
    with pytest.raises(TransientFailure, match="statement timeout"):
        await store._rows(select(func.pg_sleep(30)))
    await store.ping()


async def test_a_lock_that_is_not_let_go_is_given_up(store: SqlStore) -> None:
    await store.claim("host-0")
    async with store._writer.connect() as holder:
        await holder.execute(text("SELECT * FROM hosts FOR UPDATE"))
        with pytest.raises(TransientFailure, match="lock timeout"):
            await store.claim("host-0")


async def test_one_who_says_nothing_in_a_transaction_loses_its_locks(store: SqlStore) -> None:
    epoch = await store.claim("host-0")
    async with store._writer.connect() as holder:
        await holder.execute(text("SELECT * FROM hosts FOR UPDATE"))
        await asyncio.sleep(1.2)
        assert await store.claim("host-0") == epoch + 1
        await holder.invalidate()


async def test_two_who_wait_for_each_other_are_the_worlds_fault(store: SqlStore) -> None:
    await store.claim("a")
    await store.claim("b")
    met = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> None:
        async with translated(), store._writer.begin() as connection:
            await connection.execute(text("SET LOCAL deadlock_timeout = 100"))
            for name in (first, second):
                await connection.execute(
                    text("SELECT * FROM hosts WHERE host = :name FOR UPDATE"), {"name": name}
                )
                if name == first:
                    await met.wait()

    ends = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)
    (loser,) = (end for end in ends if end is not None)
    assert isinstance(loser, TransientFailure)
    assert "deadlock" in str(loser)


async def test_a_server_with_no_room_for_another_connection_is_the_worlds_fault(
    server: Server, store: SqlStore
) -> None:
    async with store._writer.begin() as connection:
        await connection.execute(text("DROP ROLE IF EXISTS guest"))
        await connection.execute(text("CREATE ROLE guest LOGIN CONNECTION LIMIT 0"))
    crowded = SqlStore(
        f"{server.url.rpartition('/')[0]}/trouble".replace("twinsync@", "guest@"), tuning=HASTY
    )
    with pytest.raises(TransientFailure, match="too many connections"):
        await crowded.ping()
    await crowded.close()


async def test_readers_that_wait_for_each_other_leave_the_writer_alone(store: SqlStore) -> None:
    many = HASTY.pool_size + HASTY.pool_overflow
    slow = [asyncio.create_task(store._rows(select(func.pg_sleep(0.9)))) for _ in range(3 * many)]
    await asyncio.sleep(0.2)
    assert await store.claim("host-0") == 1
    assert not all(task.done() for task in slow)
    ends = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(end) for end in ends if isinstance(end, BaseException)} <= {TransientFailure}
