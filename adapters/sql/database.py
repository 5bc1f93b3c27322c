"""A database as all stores use it: a writer, a reader, and failures told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from adapters.sql.engine import Tuning, engines
from adapters.sql.failures import blamed
from adapters.sql.migrate import migrate
from adapters.sql.rows import moment_text


class Database:
    def __init__(self, url: str, tuning: Tuning | None = None) -> None:
        self._url = url
        self._tuning = tuning or Tuning()
        self._writer, self._reader = engines(url, self._tuning)

    async def migrate(self) -> None:
        async with translated():
            await migrate(self._url, self._tuning)

    async def ping(self) -> None:
        """Returns when the database answers. Raises: TransientFailure."""
        await self._rows(select(1))

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
    except Exception as error:
        failure = blamed(error)
        if failure is None:
            raise
        raise failure from error


def now_text() -> str:
    return moment_text(datetime.now(UTC))
