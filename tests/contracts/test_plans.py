"""PostgreSQL finds twins by their index, however small the tables were when they were analyzed last."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from adapters.sql.beside import InLoop, finished
from adapters.sql.engine import Tuning
from adapters.sql.named import named
from adapters.sql.store import SqlStore, listed
from adapters.sql.tables import events, postings, registers, twins
from tests.contracts.conftest import postgres_of_its_own
from tests.unit.test_query_plans import LISTS
from twins.ports import TwinFilter

ASKED_TIMES = 8
"""PostgreSQL plans a prepared statement anew for the first five times."""
TABLES = [(twins, "twin"), (events, "twin"), (registers, "target"), (postings, "twin")]
_FILLED = text(
    "INSERT INTO twins (twin, kind, status, version, changed_at)"
    " SELECT 'order/' || n, 'order', 'held', 1, ''"
    " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n"
)


@pytest.fixture
async def reading() -> AsyncIterator[InLoop]:
    async with postgres_of_its_own() as url:
        store = SqlStore(url)
        await store.migrate()
        await store.close()
        opened = InLoop(url, Tuning(), writes=False)
        yield opened
        opened.close()


async def test_what_was_asked_of_small_tables_is_searched_for_when_they_are_large(reading: InLoop) -> None:
    def ask(connection: Connection) -> None:
        for table, by in TABLES:
            for _ in range(ASKED_TIMES):
                named(connection, table, ["order/1"], by, by=by)

    def plans(connection: Connection) -> str:
        connection.execute(_FILLED, {"first": 3, "last": 5_000})
        prepared = (
            "SELECT name FROM pg_prepared_statements WHERE statement ~ 'ANY' AND statement !~ 'prepared'"
        )
        names = connection.execute(text(prepared)).scalars().all()
        assert len(names) == len(TABLES)
        told = [connection.execute(text(f"""EXPLAIN EXECUTE "{name}"('{{order/1}}')""")) for name in names]
        return "\n".join(line for plan in told for line in plan.scalars())

    def make_small(connection: Connection) -> None:
        connection.execute(_FILLED, {"first": 1, "last": 2})
        connection.execute(text("ANALYZE twins, events, registers, postings"))

    await finished(reading, make_small)
    await finished(reading, ask)
    plan = await finished(reading, plans)
    assert "Seq Scan" not in plan, plan
    assert "JIT" not in plan, plan


@pytest.mark.parametrize("wanted", LISTS, ids=str)
async def test_a_page_of_a_list_is_a_range_of_an_index(reading: InLoop, wanted: TwinFilter) -> None:
    def plan(connection: Connection) -> str:
        connection.execute(_FILLED, {"first": 1, "last": 20_000})
        connection.execute(text("ANALYZE twins"))
        compiled = listed(wanted, 51, "postgresql").compile(
            connection, compile_kwargs={"literal_binds": True}
        )
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {compiled}").scalars())

    told = await finished(reading, plan)
    assert "Seq Scan" not in told, told
    assert "twin)::text <" in told, told
