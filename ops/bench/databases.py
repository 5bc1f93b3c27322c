"""A PostgreSQL database for one measurement, or one test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


@asynccontextmanager
async def empty_postgres(server: str, options: str = "") -> AsyncIterator[str]:
    """The address of a new database beside the one that *server* names; it is gone afterwards.

    *options*: of CREATE DATABASE.
    """
    name = f"twinsync_{secrets.token_hex(6)}"
    admin = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name} {options}"))
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        async with admin.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        await admin.dispose()
