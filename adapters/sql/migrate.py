"""Bring a database to the newest schema."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from adapters.sql.engine import Tuning, writer

MIGRATIONS = Path(__file__).parent / "migrations"
STATEMENT_S, LOCK_S = 3_600.0, 300.0
"""A new index on a large table takes its time, and whoever migrates first is waited for."""
LOCK = text("SELECT pg_advisory_xact_lock(hashtext('twinsync-migrate'))")
"""Processes that start together migrate one after the other; SQLite's writers do so anyway."""


async def migrate(url: str, tuning: Tuning) -> None:
    """Apply what is missing; nothing happens where nothing is."""
    patient = replace(tuning, statement_s=STATEMENT_S, lock_s=LOCK_S, idle_in_transaction_s=STATEMENT_S)
    engine = writer(url, patient)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(LOCK)
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
