"""What HTTP says while database and broker are away, and that it takes it back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import httpx
import pytest

from adapters.amqp.link import Patience
from adapters.amqp.publisher import AmqpPublisher
from adapters.http.api import build_api
from adapters.sql.engine import Tuning
from adapters.sql.store import SqlStore
from canonical.envelope import BATCH, batch
from tests import services
from tests.live.servers import frozen, kill, own, rabbitmqctl
from tests.services import Server
from tests.stories import ORDER, golden, placed
from tests.unit.test_host import host
from tests.unit.test_http_api import KEY, OneHost, service_of

pytestmark = pytest.mark.live

TUNING = Tuning(connect_s=1, statement_s=1, pool_wait_s=1)
PATIENCE = Patience(connect_s=3, publish_s=2, heartbeat_s=2)

Trouble = Callable[[Server], AbstractContextManager[None]]


@contextmanager
def killed(server: Server) -> Iterator[None]:
    kill(server)
    try:
        yield
    finally:
        server.start()


@contextmanager
def full(server: Server) -> Iterator[None]:
    rabbitmqctl(server, "set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        rabbitmqctl(server, "set_vm_memory_high_watermark", "0.6")


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    with own(services.postgres) as started:
        yield started


@pytest.fixture(scope="module")
def broker() -> Iterator[Server]:
    with own(services.rabbitmq) as started:
        yield started


@pytest.fixture
async def store(database: Server) -> AsyncIterator[SqlStore]:
    opened = SqlStore(database.url, tuning=TUNING)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def publisher(broker: Server) -> AsyncIterator[AmqpPublisher]:
    opened = AmqpPublisher(broker.url, patience=PATIENCE)
    yield opened
    await opened.close()


def client(store: SqlStore, publisher: AmqpPublisher, *, later: bool) -> httpx.AsyncClient:
    """The API over one host; *later*: what is posted goes by the broker."""
    checks = {"database": store.ping, "broker": publisher.check}
    service = replace(
        service_of(store, OneHost(host(store))), publisher=publisher, publishes_later=later, checks=checks
    )
    transport = httpx.ASGITransport(build_api(service))
    return httpx.AsyncClient(transport=transport, base_url="http://twinsync", headers=KEY)


async def until_ready(http: httpx.AsyncClient, *, failing: str | None) -> None:
    """Each answer comes in time, whatever it says; *failing*: the check that is to fail, and no other."""
    async with asyncio.timeout(60):
        while True:
            answer = await asyncio.wait_for(http.get("/readyz"), 5)
            assert answer.status_code in (200, 503)
            if set(answer.json().get("failing", {})) == ({failing} if failing else set()):
                return
            await asyncio.sleep(0.1)


def again(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("trouble", [killed, frozen], ids=["killed", "frozen"])
async def test_while_the_database_is_away_nothing_is_taken_and_what_is_in_memory_is_read(
    trouble: Trouble, database: Server, store: SqlStore, publisher: AmqpPublisher
) -> None:
    async with client(store, publisher, later=False) as http:
        posted = await http.post("/v1/events", content=batch(golden()), headers={"Content-Type": BATCH})
        assert posted.status_code == 200
        await until_ready(http, failing=None)
        with trouble(database):
            await until_ready(http, failing="database")
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get(f"/v1/orders/{ORDER}")).status_code == 200
            assert again(await http.get("/v1/orders/SO-404"))
            assert again(await http.get("/v1/orders"))
            assert again(await http.post("/v1/events", content=placed(order="SO-2").structured()))
        await until_ready(http, failing=None)
        assert (await http.get("/v1/orders/SO-404")).status_code == 404
        assert (await http.post("/v1/events", content=placed(order="SO-2").structured())).status_code == 200


@pytest.mark.parametrize("trouble", [killed, frozen, full], ids=["killed", "frozen", "full"])
async def test_while_the_broker_is_away_nothing_is_accepted(
    trouble: Trouble, broker: Server, store: SqlStore, publisher: AmqpPublisher
) -> None:
    async with client(store, publisher, later=True) as http:
        await until_ready(http, failing=None)
        with trouble(broker):
            if trouble is not full:  # which the broker says only to those who publish
                await until_ready(http, failing="broker")
            assert again(await http.post("/v1/events", content=placed().structured()))
            await until_ready(http, failing="broker")
            assert (await http.get("/healthz")).status_code == 200
        await until_ready(http, failing=None)
        assert (await http.post("/v1/events", content=placed().structured())).status_code == 202
