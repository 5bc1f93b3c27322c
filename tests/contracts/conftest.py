"""Stores and brokers that the contract suites run against."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from ops.bench.databases import empty_postgres
from tests.services import POSTGRES

LIKE_OTHERS = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-u-ka-shifted'"
"""Many servers order text by a language, and leave out what is no letter or digit, as glibc's locales do."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    async with postgres_of_its_own() as url:
        yield url


@asynccontextmanager
async def postgres_of_its_own() -> AsyncIterator[str]:
    """An empty database; a test that finds no server is skipped."""
    server = os.environ.get(POSTGRES)
    if server is None:
        pytest.skip(f"no PostgreSQL: run through 'make test', or set {POSTGRES}")
    async with empty_postgres(server, LIKE_OTHERS) as url:
        yield url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    opened = SqlStore(database_url)
    await opened.migrate()
    yield opened
    await opened.close()
