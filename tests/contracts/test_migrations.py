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
from canonical.identity import Kind, item, order, shipment, stock, tracking
from twins.ports import TwinFilter

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


async def test_twins_and_registers_come_along_into_trees_of_their_keys(database_url: str) -> None:
    """With what they wait for; and a deadline, a closing and a status can still be looked for."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, "0009")
        twin = text(
            "INSERT INTO twins (twin, kind, status, version, customer_id, due_at, changed_at, closed_at)"
            " VALUES (:twin, 'order', :status, :version, 'C-1', :due, :moment, :closed)"
        )
        for name, status, version, due, closed in (
            ("order/B", "released", 7, MOMENT, None),
            ("order/A", "closed", 9, None, MOMENT),
        ):
            row = {"twin": name, "status": status, "version": version, "due": due, "closed": closed}
            await connection.execute(twin, row | {"moment": MOMENT})
        register = text(
            "INSERT INTO registers (target, source, version) VALUES ('order/B', :source, :version)"
        )
        for source, version in (("shipment/S", 3), ("item/I", 2)):
            await connection.execute(register, {"source": source, "version": version})
    await engine.dispose()
    store = SqlStore(database_url)
    await store.migrate()
    later = datetime(2027, 1, 1, tzinfo=UTC)
    found = await store.load([order("A"), order("B")])
    assert {ref: one.version for ref, one in found.items()} == {order("A"): 9, order("B"): 7}
    words = {(one.source, one.version, one.value) for one in found[order("B")].registers}
    assert words == {(shipment("S"), 3, None), (item("I"), 2, None)}
    assert [one.ref for one in await store.due(later, 10)] == [order("B")]
    assert [one.ref for one in await store.closed(later, None, 10)] == [order("A")]
    listed = await store.rows(TwinFilter(Kind.ORDER, status="released"), 10)
    assert [(one.ref, one.customer_id) for one in listed] == [(order("B"), "C-1")]
    await store.close()


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_commands_come_along_and_no_number_is_given_twice(database_url: str) -> None:
    """A gateway that finishes a command once more must not mean the one that was queued since."""
    engine = create_async_engine(database_url)
    written = text(
        "INSERT INTO commands (erp, twin, key, version, action, posting, sent, attempts, queued_at)"
        " VALUES ('main', 'order/A', :key, 1, 'post', '{}', 1, 2, :moment)"
    )
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, "0011")
        for key in ("payment/1/A", "payment/2/A"):
            await connection.execute(written, {"key": key, "moment": MOMENT})
        mail = text(
            "INSERT INTO mail (target, source, version, host) VALUES ('stock/A@B', 'order/A', 3, 'h')"
        )
        await connection.execute(mail)
    store = SqlStore(database_url)
    await store.migrate()
    (letter,) = await store.mail(10)
    assert (letter.target, letter.source, letter.version) == (stock("A", "B"), order("A"), 3)
    async with engine.begin() as connection:
        told = (await connection.execute(text("SELECT number, key, attempts FROM commands"))).all()
        assert sorted(told) == [(1, "payment/1/A", 2), (2, "payment/2/A", 2)]
        await connection.execute(text("DELETE FROM commands WHERE number = 2"))
        await connection.execute(written, {"key": "payment/3/A", "moment": MOMENT})
        numbers = (await connection.execute(text("SELECT number FROM commands"))).scalars().all()
    assert sorted(numbers) == [1, 3]
    await engine.dispose()
    await store.close()
