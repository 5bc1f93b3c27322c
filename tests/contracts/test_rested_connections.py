"""PostgreSQL: a connection is asked whether it still is one where it has rested, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import make_url

from adapters.sql import engine
from adapters.sql.store import SqlStore
from canonical.identity import order
from tests.contracts.conftest import postgres_of_its_own
from tests.stories import golden, placed
from tests.world import World


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with postgres_of_its_own() as own:
        yield own


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    opened = SqlStore(url)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Connections that were asked."""
    found, ask = list[object](), PGDialect_asyncpg.do_ping

    def noted(self: PGDialect_asyncpg, connection: object) -> bool:
        found.append(connection)
        return bool(ask(self, connection))

    monkeypatch.setattr(PGDialect_asyncpg, "do_ping", noted)
    return found


async def take_some(store: SqlStore) -> None:
    """Each event looked up and committed by itself."""
    world, epoch = World(), await store.claim("host-0")
    for event in golden():
        await store.load([event.subject])
        await store.commit("host-0", epoch, world.take([event]), ())


async def let_go(url: str) -> int:
    """The server forgets all connections but this. Answers how many."""
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(False))
    ended = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'twinsync'"
    )
    await connection.close()
    return len(ended)


async def test_who_is_busy_is_not_asked(store: SqlStore, asked: list[object]) -> None:
    await take_some(store)
    assert asked == []


async def test_who_has_rested_is_asked(
    store: SqlStore, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    await take_some(store)
    monkeypatch.setattr(engine, "RESTED_S", 0.0)
    await store.load([order("SO-1")])
    assert len(asked) == 1


async def test_a_connection_that_the_server_has_forgotten_is_replaced(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take_some(store)
    monkeypatch.setattr(engine, "RESTED_S", 0.0)
    assert await let_go(url) > 1
    epoch = await store.claim("host-0")
    await store.commit("host-0", epoch, World().take([placed(order="SO-9")]), ())
    assert (await store.load([order("SO-9")]))[order("SO-9")].version


async def test_one_that_the_server_has_ended_is_replaced_before_it_has_rested(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RESTED_S", 1e9)
    await take_some(store)
    epoch = await store.claim("host-0")
    assert await let_go(url) > 1
    await asyncio.sleep(0.2)
    await store.load([order("SO-9")])
    await store.commit("host-0", epoch, World().take([placed(order="SO-9")]), ())
