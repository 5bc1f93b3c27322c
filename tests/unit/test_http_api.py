"""The HTTP API over real twins and SQLite, in one process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.embedded.delivery import EmbeddedPublisher
from adapters.http.api import Service, build_api
from adapters.http.erps import ErpDesk
from adapters.http.hosts import HostDesk
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import BATCH, STRUCTURED, batch
from canonical.facts.order import OrderValidated
from canonical.identity import Kind
from canonical.translation import Connection
from ops.translators import REFUSALS, SIGNATURES, TRANSLATORS
from tests.reconciled import System
from tests.stories import delivered, golden, placed
from tests.unit.test_host import Clock
from tests.unit.test_x12_partner import message
from tests.world import DAY, tell
from twins.core.placement import Placement
from twins.core.rules import Policy
from twins.ports import TwinFilter
from twins.runtime.coalesce import CoalescedReads
from twins.runtime.cutover import report
from twins.runtime.feed import ChangeFeed
from twins.runtime.host import TwinHost
from twins.runtime.ingest import Directory
from twins.runtime.inquiry import Inquiry
from twins.runtime.letters import LetterDesk

FIGURES = ("node", "twins", "events", "placement")
KEY = {"Authorization": "Bearer right"}


class OneHost:
    """HostCalls to a host in this process."""

    def __init__(self, host: TwinHost) -> None:
        self.host = host
        self.reads = 0

    async def placement(self) -> Placement:
        return await self.host.look()

    async def take(self, host: str, messages: Any, *, may_wait: bool) -> Any:
        return await self.host.take(messages, may_wait=may_wait)

    async def take_events(self, host: str, events: Any) -> Any:
        return await self.host.take_events(events)

    async def absorb(self, host: str, contributions: Any) -> None:
        await self.host.absorb(contributions)

    async def read(self, host: str, aspect: Any, refs: Any) -> Any:
        self.reads += 1
        return await self.host.read(aspect, refs)

    async def news(self, host: str, aspect: Any, ref: Any, known: Any, patience_s: float) -> Any:
        return await self.host.news(aspect, ref, known, patience_s)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def calls(store: SqlStore) -> OneHost:
    return OneHost(TwinHost("host-0", store, Clock(), Policy()))


class Levelling:
    """Two hosts that another node is to have."""

    def __init__(self) -> None:
        self._left = ["host-2", "host-1"]

    async def __call__(self) -> tuple[list[dict[str, str]], int]:
        moved = [self._left.pop()] if self._left else []
        return [{"host": host, "origin": "a" * 56, "target": "b" * 56} for host in moved], len(self._left)


def host_desk(store: SqlStore) -> HostDesk:
    """Over the store alone: no actor is started or ended."""

    async def seen(placement: Placement) -> list[dict[str, object]]:
        named = placement.pooled_names()
        return [dict.fromkeys(FIGURES) | {"host": name, "named": True} for name in named]

    return HostDesk(
        store.placement,
        seen,
        lambda count: store.place(lambda now: replace(now, pooled_hosts=count)),
        lambda ref: store.place(lambda now: replace(now, pinned=now.pinned | {ref})),
        lambda ref: store.place(lambda now: replace(now, pinned=now.pinned - {ref})),
        Levelling(),
        store,
    )


def service_of(store: SqlStore, calls: OneHost) -> Service:
    directory = Directory(Placement(), calls)

    publisher = EmbeddedPublisher(directory, store)

    async def metrics() -> tuple[bytes, str]:
        return b"", "text/plain"

    async def no_figures() -> dict[str, dict[str, float]]:
        return {}

    return Service(
        intake=directory,
        publisher=publisher,
        publishes_later=False,
        reads=CoalescedReads(directory),
        store=store,
        gaps=store,
        inquiry=Inquiry(store, store, Policy()),
        translators=TRANSLATORS,
        signatures=SIGNATURES,
        refusals=REFUSALS,
        connection=lambda adapter, name: Connection(adapter, name),
        audit=store,
        reconciling=System(store, host=calls.host).routed(),
        dead_letters=store,
        letter_desk=LetterDesk(store, directory),
        api_keys={"right": "oms"},
        webhook_secrets={"shopify/signed": "secret"},
        metrics=metrics,
        erps=ErpDesk(
            ["main", "cloud"],
            store,
            store,
            publisher,
            no_figures,
            store,
            partial(report, store, lambda erp: None),
        ),
        hosts=host_desk(store),
        feed=ChangeFeed(store),
        latest=lambda: DAY + timedelta(days=365),
        checks={"database": store.ping},
    )


@pytest.fixture
async def http(store: SqlStore, calls: OneHost) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_api(service_of(store, calls)))
    async with httpx.AsyncClient(transport=transport, base_url="http://twinsync", headers=KEY) as client:
        yield client


@pytest.fixture
async def told(http: httpx.AsyncClient) -> httpx.AsyncClient:
    answer = await http.post("/v1/events", content=batch(golden()), headers={"Content-Type": BATCH})
    assert answer.status_code == 200, answer.text
    return http


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"X-API-Key": "no"}]
)
async def test_a_wrong_or_missing_key_is_refused(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/v1/orders/SO-1"), ("GET", "/v1/orders"), ("POST", "/v1/events")):
        answer = await http.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Bearer" in answer.headers["www-authenticate"]


async def test_a_key_may_come_in_its_own_header(told: httpx.AsyncClient) -> None:
    answer = await told.get("/v1/orders/SO-1", headers={"Authorization": "", "X-API-Key": "right"})
    assert answer.status_code == 200


async def test_an_unknown_twin_is_a_404_problem(http: httpx.AsyncClient) -> None:
    for path in ("orders/SO-404", "orders/SO-404/explain", "shipments/S/history", "stock/A/B/postings"):
        answer = await http.get(f"/v1/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "No such twin"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("quantity", "many"), "data.lines.0.quantity"),
        (("quantity", "-1"), "data.lines.0.quantity"),
        (("quantity", "NaN"), "data.lines.0.quantity"),
        (("colour", "red"), "data.lines.0.colour"),
    ],
)
async def test_a_malformed_event_is_a_422_that_names_the_field(
    http: httpx.AsyncClient, change: tuple[str, str], field: str
) -> None:
    event = json.loads(placed().structured())
    event["data"]["lines"][0][change[0]] = change[1]
    answer = await http.post("/v1/events", content=json.dumps(event), headers={"Content-Type": STRUCTURED})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert (await http.get("/v1/orders/SO-1")).status_code == 404, "nothing is stored"


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("specversion", "2.0"),
        ("type", "x"),
        ("subject", "ship/1"),
        ("time", "noon"),
        ("id", ""),
        ("source", 7),
    ],
)
async def test_a_malformed_envelope_names_its_attribute(
    http: httpx.AsyncClient, attribute: str, value: object
) -> None:
    event = json.loads(placed().structured()) | {attribute: value}
    answer = await http.post("/v1/events", content=json.dumps(event))
    assert (answer.status_code, answer.json()["field"]) == (422, attribute)


async def test_a_batch_with_one_wrong_member_stores_nothing(http: httpx.AsyncClient) -> None:
    members = [json.loads(event.structured()) for event in golden()]
    members[3]["data"]["currency"] = "DOUBLOON"
    answer = await http.post("/v1/events", content=json.dumps(members), headers={"Content-Type": BATCH})
    assert (answer.status_code, answer.json()["field"]) == (422, "3.data.currency")
    assert (await http.get("/v1/orders")).json()["twins"] == []


async def test_an_event_may_come_in_binary_form(http: httpx.AsyncClient) -> None:
    headers, body = placed().binary()
    answer = await http.post(
        "/v1/events", content=body, headers=headers | {"Content-Type": "application/json"}
    )
    assert answer.json()["arrivals"] == ["new"]
    assert (await http.get("/v1/orders/SO-1")).status_code == 200


async def test_a_repeated_event_says_so(told: httpx.AsyncClient) -> None:
    answer = await told.post("/v1/events", content=placed().structured())
    assert answer.json() == {"accepted": 1, "arrivals": ["duplicate"]}


async def test_the_three_twins_can_be_read(told: httpx.AsyncClient) -> None:
    order = (await told.get("/v1/orders/SO-1")).json()
    assert (order["status"], order["lines"][0]["shipped"]) == ("delivered", "10")
    stock = (await told.get("/v1/stock/SKU-1/DC-01")).json()
    assert stock["on_hand"]["sellable"] == "92"
    shipment = (await told.get("/v1/shipments/SHP-1")).json()
    assert shipment["status"] == "delivered"


async def test_history_explain_and_postings(told: httpx.AsyncClient) -> None:
    history = (await told.get("/v1/orders/SO-1/history")).json()["events"]
    assert history[0]["type"] == "io.twinsync.order.placed.v1"
    assert {"arrival", "recorded_at", "data"} <= history[0].keys()
    explained = (await told.get("/v1/orders/SO-1/explain")).json()
    assert any("took 6 × SKU-1" in line for line in explained["because"])
    postings = (await told.get("/v1/shipments/SHP-1/postings")).json()["postings"]
    assert {one["key"] for one in postings} == {"goods-issue/SHP-1", "freight-accrual/SHP-1"}


async def test_an_unchanged_twin_is_not_sent_again(told: httpx.AsyncClient) -> None:
    first = await told.get("/v1/orders/SO-1")
    again = await told.get("/v1/orders/SO-1", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_lists_filter_and_page(told: httpx.AsyncClient) -> None:
    page = (await told.get("/v1/shipments", params={"status": "delivered", "limit": 1})).json()
    assert [row["twin"] for row in page["twins"]] == ["shipment/SHP-1"]
    page = (await told.get("/v1/shipments", params={"cursor": page["next_cursor"], "limit": 1})).json()
    assert ([row["twin"] for row in page["twins"]], page["next_cursor"]) == (["shipment/SHP-2"], None)
    assert (await told.get("/v1/orders", params={"customer_id": "nobody"})).json()["twins"] == []
    assert (await told.get("/v1/orders", params={"limit": 0})).status_code == 422


async def test_exceptions_list_what_a_person_should_see(http: httpx.AsyncClient) -> None:
    await http.post("/v1/events", content=placed().structured())
    found = (await http.get("/v1/exceptions")).json()["twins"]
    assert "order/SO-1" in {row["twin"] for row in found}
    assert (await http.get("/v1/exceptions", params={"finding": "oversold"})).json()["twins"] == []


async def test_exceptions_of_every_kind_can_be_reached(http: httpx.AsyncClient) -> None:
    """Many orders with findings hide no parcel that nobody dispatched."""
    for number in range(3):
        await http.post("/v1/events", content=placed(order=f"SO-{number}").structured())
    await http.post("/v1/events", content=delivered("1Z9", 30).structured())

    async def pages(**wanted: str | int) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await http.get("/v1/exceptions", params={"limit": 2, **wanted, **cursor})).json()
            found += [row["twin"] for row in page["twins"]]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    every = await pages()
    assert every[:3] == ["order/SO-0", "order/SO-1", "order/SO-2"]
    assert "tracking/ups:1Z9" in every
    assert len(set(every)) == len(every)
    assert await pages(kind="tracking") == ["tracking/ups:1Z9"]
    assert await pages(kind="tracking", limit=1) == ["tracking/ups:1Z9"]
    assert (await http.get("/v1/exceptions", params={"kind": "ship"})).status_code == 422
    assert (await http.get("/v1/exceptions", params={"cursor": "ship"})).status_code == 422


async def test_readers_who_wait_together_share_a_call(told: httpx.AsyncClient, calls: OneHost) -> None:
    import asyncio

    before = calls.reads
    answers = await asyncio.gather(*(told.get("/v1/orders/SO-1") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert calls.reads - before < 20


SHOPIFY_ORDER = json.dumps(
    {
        "id": 5001,
        "name": "#5001",
        "currency": "USD",
        "created_at": "2026-03-02T09:00:00Z",
        "updated_at": "2026-03-02T09:00:00Z",
        "line_items": [{"id": 1, "sku": "SKU-1", "quantity": 2, "price": "20.00"}],
    }
).encode()


async def test_a_webhook_is_translated(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/webhooks/shopify/acme", content=SHOPIFY_ORDER, headers={"X-Shopify-Topic": "orders/create"}
    )
    assert answer.status_code == 200, answer.text
    assert (await http.get("/v1/orders/5001")).json()["reference"] == "#5001"


async def test_a_signed_webhook_needs_no_key_but_the_right_signature(http: httpx.AsyncClient) -> None:
    signature = base64.b64encode(hmac.digest(b"secret", SHOPIFY_ORDER, hashlib.sha256)).decode()
    for told, status in ((signature, 200), ("x" + signature[1:], 401), ("", 401)):
        answer = await http.post(
            "/v1/webhooks/shopify/signed",
            content=SHOPIFY_ORDER,
            headers={"Authorization": "", "X-Shopify-Topic": "orders/create", "X-Shopify-Hmac-Sha256": told},
        )
        assert answer.status_code == status


async def test_an_unsigned_webhook_needs_a_key(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/webhooks/shopify/acme", content=SHOPIFY_ORDER, headers={"Authorization": "Bearer wrong"}
    )
    assert answer.status_code == 401


async def test_an_unknown_adapter_is_a_404_that_lists_the_known(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/webhooks/fax/acme", content=b"{}")
    assert answer.status_code == 404
    assert "shopify" in answer.json()["detail"]


async def test_health_and_readiness_need_no_key(http: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await http.get(path, headers={"Authorization": ""})).status_code == 200


async def test_an_interchange_is_answered_with_its_997(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/webhooks/x12/acme", content=message("940"), headers=KEY)
    assert answer.status_code == 200, answer.text
    (reply,) = answer.json()["acknowledgements"]
    assert "AK9*A*1*1*1" in reply


async def test_a_refused_interchange_is_answered_with_the_997_that_says_why(http: httpx.AsyncClient) -> None:
    broken = message("940").replace(b"SE*", b"SE*9")
    answer = await http.post("/v1/webhooks/x12/acme", content=broken, headers=KEY)
    assert answer.status_code == 422
    told = answer.json()
    assert told["field"] == "SE01"
    assert "AK5*R" in told["acknowledgements"][0]


async def test_what_sources_left_out_is_listed(http: httpx.AsyncClient) -> None:
    events = [
        tell("order/SO-7", OrderValidated(), number, id=f"n{number}", source="/oms", sequence=number)
        for number in (1, 2, 5)
    ]
    await http.post("/v1/events", content=batch(events), headers={"Content-Type": BATCH})
    (gap,) = (await http.get("/v1/gaps")).json()["gaps"]
    assert (gap["source"], gap["first"], gap["last"], gap["missing"]) == ("/oms", 3, 4, 2)
    assert gap["times_asked"] == 0


async def test_the_audit_trail_is_read_with_a_cursor(http: httpx.AsyncClient, store: SqlStore) -> None:
    for number in range(3):
        await store.note("oms", "pause", "erp/main", {"reason": f"no. {number}"})
    first = (await http.get("/v1/audit", params={"limit": 2})).json()
    rest = (await http.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    told = [one["detail"]["reason"] for one in first["audit"] + rest["audit"]]
    assert told == ["no. 2", "no. 1", "no. 0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "path", ["orders/SO-1", "shipments/SHP-1", "stock/{stock}", "twins/order/SO-1", "twins/stock/{named}"]
)
async def test_the_short_way_to_a_twin_answers_as_the_long_one(
    told: httpx.AsyncClient, store: SqlStore, path: str
) -> None:
    """A query string, even one that says nothing, goes the long way."""
    (shelf, *_) = await store.rows(TwinFilter(Kind.STOCK), 1)
    path = "/v1/" + path.format(stock=shelf.ref.key.replace("@", "/"), named=shelf.ref.key)
    short, long = await told.get(path), await told.get(path, params={"long": "way"})
    assert short.status_code == long.status_code == 200
    assert short.content == long.content
    assert {**short.headers} == {**long.headers}
    known = {"If-None-Match": short.headers["etag"]}
    short, long = await told.get(path, headers=known), await told.get(path, params={"l": "w"}, headers=known)
    assert short.status_code == long.status_code == 304
    assert short.content == long.content == b""
    assert {**short.headers} == {**long.headers}


@pytest.mark.parametrize(
    "path", ["/v2/orders/SO-1", "/x/v1/orders/SO-1", "/v1/orders/SO-1/", "/v1/twins/order"]
)
async def test_what_only_looks_like_the_short_way_is_not_found(told: httpx.AsyncClient, path: str) -> None:
    assert (await told.get(path)).status_code in {404, 307}


# --- waiting for news

AS_EVENT = {"Content-Type": STRUCTURED}


async def waiting(http: httpx.AsyncClient, path: str, **headers: str) -> asyncio.Task[httpx.Response]:
    """A request that has been on its way for a while, without an answer."""
    asked = asyncio.create_task(http.get(path, headers={"Prefer": "wait=4", **headers}))
    await asyncio.sleep(0.1)
    assert not asked.done()
    return asked


async def ended(asked: list[asyncio.Task[httpx.Response]]) -> None:
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)


async def test_who_prefers_to_wait_hears_of_a_twin_once_it_is_told_of(http: httpx.AsyncClient) -> None:
    asked = await waiting(http, "/v1/orders/SO-1")
    await http.post("/v1/events", content=placed().structured(), headers=AS_EVENT)
    answer = await asked
    assert (answer.status_code, answer.json()["status"]) == (200, "held")


async def test_who_knows_a_version_waits_for_another(http: httpx.AsyncClient) -> None:
    await http.post("/v1/events", content=placed().structured(), headers=AS_EVENT)
    first = await http.get("/v1/orders/SO-1", headers={"Prefer": "wait=4"})
    known = {"If-None-Match": first.headers["etag"]}
    asked = await waiting(http, "/v1/orders/SO-1", **known)
    for event in golden():
        await http.post("/v1/events", content=event.structured(), headers=AS_EVENT)
    answer = await asked
    assert answer.status_code == 200
    assert answer.headers["etag"] != first.headers["etag"]


async def test_patience_ends_with_what_was_known(
    told: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.live.WAIT_MAX_S", 0.2)
    known = {"If-None-Match": (await told.get("/v1/orders/SO-1")).headers["etag"], "Prefer": "wait=9999"}
    assert (await told.get("/v1/orders/SO-1", headers=known)).status_code == 304
    assert (await told.get("/v1/orders/SO-404", headers={"Prefer": "wait=3600"})).status_code == 404


@pytest.mark.parametrize("prefer", ["return=minimal", "wait", "wait=soon", "wait=-1", "await=4", "wait=0"])
async def test_what_asks_for_no_time_is_answered_at_once(http: httpx.AsyncClient, prefer: str) -> None:
    async with asyncio.timeout(1):
        assert (await http.get("/v1/orders/SO-1", headers={"Prefer": prefer})).status_code == 404


async def test_so_many_may_wait_that_others_are_answered(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.live.WAITING_MAX", 2)
    asked = [await waiting(http, f"/v1/orders/SO-{number}") for number in range(2)]
    async with asyncio.timeout(1):
        assert (await http.get("/v1/orders/SO-3", headers={"Prefer": "wait=4"})).status_code == 404
    await ended(asked)
    await ended([await waiting(http, "/v1/orders/SO-4")])


async def test_a_history_comes_in_pages(told: httpx.AsyncClient) -> None:
    path = "/v1/orders/SO-1/history"
    whole = (await told.get(path)).json()
    assert whole["next_cursor"] is None
    for more in ({}, {"known_at": "2999-01-01T00:00:00Z"}):
        read, cursor = [], 0
        while cursor is not None:
            page = (await told.get(path, params={"limit": 2, "cursor": cursor, **more})).json()
            assert len(page["events"]) <= 2
            read += page["events"]
            cursor = page["next_cursor"]
        assert read == whole["events"]
    beyond = (await told.get(path, params={"cursor": 2**62})).json()
    assert (beyond["events"], beyond["next_cursor"]) == ([], None)
    for wrong in ({"limit": 0}, {"limit": 5_001}, {"cursor": -1}, {"cursor": 2**63}):
        assert (await told.get(path, params=wrong)).status_code == 422
