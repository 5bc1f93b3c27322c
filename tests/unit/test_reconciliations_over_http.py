"""Reconciliations as a client of the API meets them. Twins, SQLite and books are real."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from adapters.http import problems
from adapters.http.reconciliations import Reconciling, routes
from adapters.simulated_erp.models import Copied
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from tests.reconciled import System
from tests.stories import golden


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    store = SqlStore(sqlite_url(tmp_path))
    await store.migrate()
    opened = System(store)
    await opened.tell(golden())
    await opened.settle()
    yield opened
    await store.close()


@pytest.fixture
def service(system: System) -> Reconciling:
    return system.routed()


@pytest.fixture
async def http(service: Reconciling) -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI()
    problems.install(api)

    @api.middleware("http")
    async def known(request: Request, following: Any) -> Any:
        request.state.asked_by = "ann"
        return await following(request)

    api.include_router(routes(service))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://twinsync") as client:
        yield client


async def ran(http: httpx.AsyncClient, service: Reconciling, **asked: Any) -> dict[str, Any]:
    answer = await http.post("/v1/reconciliations", json=asked)
    assert (answer.status_code, answer.json()["state"]) == (202, "running"), answer.text
    await asyncio.gather(*service.running)
    return (await http.get(f"/v1/reconciliations/{answer.json()['id']}")).json()  # type: ignore[no-any-return]


async def test_a_report_is_run_stored_read_and_applied(
    http: httpx.AsyncClient, service: Reconciling, system: System
) -> None:
    document = system.erp.books.documents[0]
    system.erp.books.apply(Copied(document.number))
    told = await ran(http, service)
    (one,) = told["differences"]
    assert (told["state"], told["asked_by"], told["counts"]) == ("done", "ann", {"document-doubled": 1})
    assert (one["kind"], one["subject"], one["applied"]) == ("document-doubled", document.posting_key, None)
    listed = (await http.get("/v1/reconciliations")).json()["reconciliations"]
    assert [brief["id"] for brief in listed] == [told["id"]]

    path = f"/v1/reconciliations/{told['id']}:apply"
    applied = (await http.post(path, json={"differences": [one["id"]]})).json()
    assert applied["differences"][0]["applied"]["outcome"] == "done"
    (noted,) = await system.store.audited(10)
    assert (noted.by, noted.subject) == ("ann", document.posting_key)
    assert (await ran(http, service))["differences"] == []


async def test_a_snapshot_travels_as_it_is(http: httpx.AsyncClient, service: Reconciling) -> None:
    body = b"sku,location,quantity,as_of\nSKU-1,DC-01,91,2026-03-09T00:00:00Z\n"
    told = await ran(http, service, stock=base64.b64encode(body).decode())
    assert told["counts"] == {"stock-differs": 1}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"erps": ["moon"]}, "erps"),
        ({"stock": "not base64"}, "stock"),
        ({"stock": base64.b64encode(b"sku\nA").decode()}, "line 2, location"),
    ],
)
async def test_what_cannot_be_compared_is_refused_by_field(
    http: httpx.AsyncClient, asked: dict[str, Any], field: str
) -> None:
    answer = await http.post("/v1/reconciliations", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (await http.get("/v1/reconciliations")).json()["reconciliations"] == []


async def test_two_at_a_time_are_one_too_many(http: httpx.AsyncClient, service: Reconciling) -> None:
    first = await http.post("/v1/reconciliations", json={})
    assert (await http.post("/v1/reconciliations", json={})).status_code == 409
    await asyncio.gather(*service.running)
    assert (await http.get(f"/v1/reconciliations/{first.json()['id']}")).json()["state"] == "done"


async def test_unknown_reports_and_differences_are_refused(
    http: httpx.AsyncClient, service: Reconciling
) -> None:
    assert (await http.get("/v1/reconciliations/R-0")).status_code == 404
    told = await ran(http, service)
    answer = await http.post(f"/v1/reconciliations/{told['id']}:apply", json={"differences": ["x"]})
    assert (answer.status_code, answer.json()["field"]) == (422, "differences")


async def test_an_erp_that_is_away_fails_the_report_and_says_so(
    http: httpx.AsyncClient, service: Reconciling, system: System
) -> None:
    from canonical.errors import TransientFailure

    async def away() -> Any:
        raise TransientFailure("the ERP did not answer")

    system.erp.balances = away  # type: ignore[method-assign]
    told = await ran(http, service)
    assert (told["state"], told["progress"]) == ("failed", "the ERP did not answer")
