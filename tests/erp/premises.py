"""A Tryton server for a run of tests, and a fresh company for each of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from adapters.tryton.books import TrytonBooks
from adapters.tryton.connector import TrytonConnector
from adapters.tryton.models import TrytonSettings
from ops.erp.installation import TrytonHome
from ops.erp.server import TrytonServer

TRYTON = "TWINSYNC_TEST_TRYTON"
_numbers = count(1)


@pytest.fixture(scope="session")
def tryton_home() -> TrytonHome:
    folder = os.environ.get(TRYTON)
    if folder is None:
        pytest.skip(f"no Tryton: run through 'make test-erp', or set {TRYTON} to the folder of make erp")
    home = TrytonHome(Path(folder))
    assert home.made, "make erp first"
    return home


@pytest.fixture(scope="session")
def tryton_server(
    tryton_home: TrytonHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrytonServer]:
    server = tryton_home.server(tmp_path_factory.mktemp("tryton"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tryton(tryton_home: TrytonHome, tryton_server: TrytonServer) -> Iterator[TrytonSettings]:
    """A company that nothing has been posted to. A test may kill the server: the next one starts it again."""
    if tryton_server.pid is None:
        tryton_server.start()
    database = f"company_{next(_numbers)}"
    opened = tryton_home.open(tryton_server, database)
    tryton_server.load(database)
    yield opened
    for file in tryton_server.databases.glob(f"{database}.sqlite*"):
        file.unlink()


@pytest.fixture
async def connector(tryton: TrytonSettings) -> AsyncIterator[TrytonConnector]:
    made = TrytonConnector(tryton)
    yield made
    await made.close()


@pytest.fixture
async def books(tryton: TrytonSettings) -> AsyncIterator[TrytonBooks]:
    opened = TrytonBooks(tryton)
    yield opened
    await opened.close()
