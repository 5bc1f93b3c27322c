"""HTTP as the OMS meets it: through HAProxy, to twins on Ray, with a real database file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import httpx
import pytest
from pydantic_core import from_json, to_json

from canonical.envelope import BATCH, STRUCTURED, batch
from canonical.identity import Kind, twin_ref
from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.local import start_http, start_twins, stop_twins
from ops.wiring import Installation
from tests.live.installations import HEADERS, publish, settings
from tests.stories import ORDER, golden, placed

pytestmark = [pytest.mark.live]


@pytest.fixture(scope="module")
def served(on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One service for all tests that read: Serve opens its port once."""
    installation = Installation(settings(tmp_path_factory.mktemp("served")))
    asyncio.run(start_twins(installation))
    start_http(installation)
    yield installation
    asyncio.run(stop_twins(installation))


def client(installation: Installation) -> httpx.AsyncClient:
    address = f"http://127.0.0.1:{installation.settings.http_port}"
    return httpx.AsyncClient(base_url=address, headers=HEADERS)


async def test_the_oms_reads_twins_and_bad_input_is_refused_with_reasons(served: Installation) -> None:
    async with client(served) as http:
        body = batch(golden())
        answer = await http.post("/v1/events", content=body, headers={"Content-Type": BATCH})
        assert answer.status_code == 200, answer.text
        order = (await http.get(f"/v1/orders/{ORDER}")).json()
        assert order["status"] == "delivered"
        assert (await http.get("/v1/stock/SKU-1/DC-01")).json()["on_hand"]["sellable"] == "92"
        assert (await http.get("/v1/shipments/SHP-1")).json()["status"] == "delivered"

        unknown = await http.get("/v1/orders/SO-404")
        assert unknown.status_code == 404
        assert unknown.headers["content-type"] == "application/problem+json"

        malformed = from_json(placed(order="SO-BAD").structured())
        malformed["data"]["lines"][0]["quantity"] = "many"
        refused = await http.post(
            "/v1/events", content=to_json(malformed), headers={"Content-Type": STRUCTURED}
        )
        assert refused.status_code == 422
        assert refused.json()["field"] == "data.lines.0.quantity"
        assert (await http.get("/v1/orders/SO-BAD")).status_code == 404
        assert await _stored_events(served, "order/SO-BAD") == 0

        for wrong in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
            assert (await http.get(f"/v1/orders/{ORDER}", headers=wrong)).status_code == 401
        assert (await http.get("/healthz", headers={"Authorization": ""})).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        metrics = (await http.get("/metrics")).text
        assert f'twinsync_events_total{{actor="host-0"}} {len(golden())}.0' in metrics
        assert (await http.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def _stored_events(installation: Installation, twin: str) -> int:
    store = installation.store()
    try:
        return len(await store.history(twin_ref(twin)))
    finally:
        await store.close()


async def test_a_twin_read_while_messages_flow_is_never_ahead_of_the_database(served: Installation) -> None:
    """Each answer's version is already committed when it is read, and one version is always one state."""
    day = make_day(11, 30)
    events = told(day, disorder(day, 11, duplicated=0.2, late=0.3))
    async with client(served) as http:
        flowing = asyncio.create_task(publish(served, events))
        database = sqlite3.connect(f"file:{served.settings.data_dir / 'twinsync.sqlite'}?mode=ro", uri=True)
        orders = sorted({event.subject.key for event in events if event.subject.kind is Kind.ORDER})
        states: dict[tuple[str, int], bytes] = {}
        read = 0
        while not flowing.done():
            for key in orders:
                answer = await http.get(f"/v1/orders/{key}")
                if answer.status_code == 404:
                    continue
                version = int(answer.json()["version"])
                committed = database.execute(
                    "SELECT version FROM twins WHERE twin = ?", (f"order/{key}",)
                ).fetchone()
                assert committed is not None
                assert committed[0] >= version
                assert states.setdefault((key, version), answer.content) == answer.content
                read += 1
        await flowing
        database.close()
        assert read
