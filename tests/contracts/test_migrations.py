"""A database of an earlier version comes to today's schema with what it holds."""

from __future__ import annotations

from datetime import UTC, datetime

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, text
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.sql.migrate import MIGRATIONS
from adapters.sql.store import SqlStore
from adapters.sql.tables import metadata, postings
from canonical.identity import order, shipment, tracking

MOMENT = "2026-03-02T08:00:00.000000+00:00"


async def test_the_tables_are_what_the_migrations_make(store: SqlStore) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with store._writer.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_twins_that_closed_before_there_was_an_archive_wait_for_it(database_url: str) -> None:
    """By the statuses of then; what is open, or not settled with the ERP, does not."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, "0003")
        twin = text(
            "INSERT INTO twins (twin, kind, status, version, findings, changed_at)"
            " VALUES (:twin, :kind, :status, 1, :findings, :moment)"
        )
        for name, status, findings in (
            ("order/A", "closed", None),
            ("order/B", "closed", None),
            ("order/C", "released", None),
            ("shipment/A", "voided", None),
            ("shipment/B", "delivered", ",carrier-bill-mismatch,"),
            ("tracking/ups:1", "delivered", None),
            ("stock/A@B", "closed", None),
        ):
            row = {"kind": name.partition("/")[0], "findings": findings, "moment": MOMENT}
            await connection.execute(twin, {"twin": name, "status": status} | row)
        unsettled = {"twin": "order/B", "status": "reversing", "changed_at": MOMENT}
        empty = {name: "" for name in ("key", "erp", "command", "posting")}
        await connection.execute(insert(postings).values(version=1, **empty, **unsettled))
    await engine.dispose()
    store = SqlStore(database_url)
    await store.migrate()
    found = await store.closed(datetime(2027, 1, 1, tzinfo=UTC), None, 10)
    assert [one.ref for one in found] == [order("A"), shipment("A"), tracking("ups", "1")]
    await store.close()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
