"""What no request may be, over the real API: too large, dated ahead, with a NUL in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from adapters.http.limits import Limits
from adapters.sql.rows import event_row, moment_text, read_event
from adapters.sql.store import SqlStore
from canonical.envelope import BATCH, BATCH_BYTES_MAX, BATCH_LENGTH_MAX, STRUCTURED
from canonical.facts.order import OrderAllocated, OrderValidated
from tests.stories import placed
from tests.unit.test_host import Clock
from tests.unit.test_http_api import calls, http, store  # noqa: F401 - fixtures
from tests.world import DAY, tell
from twins.core.history import Arrival
from twins.core.rules import Policy
from twins.ports import Publication, Rejected
from twins.runtime.host import TwinHost

AHEAD = tell("order/SO-1", OrderValidated(), minute=10 * 366 * 24 * 60)


async def parts(size_bytes: int) -> AsyncIterator[bytes]:
    """A body that does not announce its length."""
    for _ in range(size_bytes // 65_536 + 1):
        yield b" " * 65_536


@pytest.mark.parametrize("path", ["/v1/events", "/v1/webhooks/canonical/a", "/v1/dead-letters:replay"])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_by_a_reason_that_tells_the_limit(
    http: httpx.AsyncClient, path: str, announced: bool
) -> None:
    size_bytes = BATCH_BYTES_MAX + 1
    body = b" " * size_bytes if announced else parts(size_bytes)
    answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["body_bytes_max"] == BATCH_BYTES_MAX


async def test_no_more_is_read_of_a_body_than_its_limit() -> None:
    read = 0

    async def receive() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    async def greedy(scope: object, receive: object, send: object) -> None:
        while True:
            await receive()  # type: ignore[operator]

    limits = Limits(greedy, body_bytes_max=100)  # type: ignore[arg-type]
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": []}
    with pytest.raises(Exception, match="at most 100 bytes"):
        await limits(scope, receive, receive)  # type: ignore[arg-type]
    assert read == 11


async def test_a_batch_has_a_length_limit(http: httpx.AsyncClient) -> None:
    body = b"[" + b",".join([b"{}"] * (BATCH_LENGTH_MAX + 1)) + b"]"
    answer = await http.post("/v1/events", content=body, headers={"Content-Type": BATCH})
    assert answer.status_code == 422
    assert "at most 10000 in a batch" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["orders/a%00b", "stock/a%00/b", "orders?status=%00", "audit?subject=%00"])
async def test_a_nul_is_in_no_name(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(f"/v1/{path}")).status_code == 422


@pytest.mark.parametrize("path", ["orders/%20", "orders/a%0Ab", "stock/a/%20", "orders/" + "x" * 258])
async def test_what_can_be_no_twins_name_is_refused(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["field"]) == (422, "subject")


async def test_headers_in_binary_form_are_percent_encoded(http: httpx.AsyncClient) -> None:
    headers, body = placed(order="SO 100%ä").binary()
    coded = {name: value.replace("%", "%25").replace("ä", "%C3%A4") for name, value in headers.items()}
    answer = await http.post("/v1/events", content=body, headers=coded)
    assert answer.status_code == 200, answer.text
    assert (await http.get("/v1/orders/SO 100%25ä")).status_code == 200
    wrong = await http.post(
        "/v1/events", content=body, headers=headers | {"ce-id": "%FF", "ce-subject": "order/1"}
    )
    assert (wrong.status_code, wrong.json()["field"]) == (422, "id")


async def test_what_is_dated_ahead_is_refused_over_http_and_nothing_of_its_batch_is_stored(
    http: httpx.AsyncClient,
) -> None:
    body = b"[" + placed().structured() + b"," + AHEAD.structured() + b"]"
    answer = await http.post("/v1/events", content=body, headers={"Content-Type": BATCH})
    assert (answer.status_code, answer.json()["field"]) == (422, "time")
    assert "ahead of our clock" in answer.json()["detail"]
    assert (await http.get("/v1/orders/SO-1")).status_code == 404


async def test_what_is_dated_ahead_is_refused_by_the_host_until_its_time_has_come(store: SqlStore) -> None:
    clock = Clock()
    host = TwinHost("host-0", store, clock, Policy(), ahead_max=timedelta(days=1))
    message = Publication(AHEAD.structured(), {}, STRUCTURED)
    (refused,) = await host.take([message])
    assert isinstance(refused, Rejected)
    assert refused.field == "time"
    clock.moment = AHEAD.time - timedelta(days=1)
    (taken,) = await host.take([message])
    assert not isinstance(taken, Rejected)
    assert AHEAD.time > DAY + timedelta(days=365)


ASTRAY = tell("order/SO-1", OrderAllocated(line_id="1", location="DC@1", quantity=1))


async def test_a_location_with_an_at_is_refused_over_http(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/events", content=ASTRAY.structured(), headers={"Content-Type": STRUCTURED})
    assert (answer.status_code, answer.json()["field"]) == (422, "data.location")


async def test_a_location_with_an_at_is_refused_by_the_host_and_read_where_it_was_taken(
    store: SqlStore,
) -> None:
    """Earlier versions took such: their twins must still be read."""
    host = TwinHost("host-0", store, Clock(), Policy())
    (refused,) = await host.take([Publication(ASTRAY.structured(), {}, STRUCTURED)])
    assert isinstance(refused, Rejected)
    assert refused.field == "data.location"
    assert read_event(event_row(ASTRAY, Arrival.NEW, moment_text(DAY))) == ASTRAY


@pytest.mark.parametrize(
    "path", ["/v1/audit?cursor={}", "/v1/dead-letters?cursor={}", "/v1/rejections?cursor=invoice/S/O@{}"]
)
async def test_a_cursor_beyond_all_numbers_is_refused(http: httpx.AsyncClient, path: str) -> None:
    for number in (10**20, -(10**20), -1) if "rejections" not in path else (10**20, 10**10):
        answer = await http.get(path.format(number))
        assert answer.status_code == 422, answer.text


async def test_a_file_that_is_no_base64_is_refused_by_its_name(http: httpx.AsyncClient) -> None:
    for told in ("!", "\u00e9"):
        answer = await http.post("/v1/reconciliations", json={"stock": told})
        assert answer.status_code == 422, answer.text
