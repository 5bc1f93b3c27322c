"""A database as all stores use it: a writer, a reader, and failures told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from adapters.sql.engine import CACHE_KB, engines
from adapters.sql.migrate import migrate
from adapters.sql.rows import moment_text
from canonical.errors import InvariantViolated, TransientFailure


class Database:
    def __init__(self, url: str, *, cache_kb: int = CACHE_KB) -> None:
        self._writer, self._reader = engines(url, cache_kb)

    async def migrate(self) -> None:
        async with translated():
            await migrate(self._writer)

    async def close(self) -> None:
        await self._writer.dispose()
        await self._reader.dispose()

    async def _rows(self, statement: Select[*tuple[Any, ...]]) -> list[Any]:
        async with translated(), self._reader.connect() as connection:
            return list((await connection.execute(statement)).mappings())

    def _insert(self, table: Table) -> Any:
        """An insert that can say what to do on a conflict."""
        dialect = sqlite if self._writer.dialect.name == "sqlite" else postgresql
        return dialect.insert(table)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raises: TransientFailure where the database is away, InvariantViolated where we asked for nonsense."""
    try:
        yield
    except (OperationalError, InterfaceError, OSError) as error:
        raise TransientFailure(f"database: {error}") from error
    except DBAPIError as error:
        raise InvariantViolated(f"database: {error}") from error


def now_text() -> str:
    return moment_text(datetime.now(UTC))
