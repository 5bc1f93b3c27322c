"""The ERP's HTTP face, in the test's own event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientResponse, ServerDisconnectedError
from aiohttp.test_utils import TestClient, TestServer

from adapters.simulated_erp.books import Books
from adapters.simulated_erp.models import INSTRUCTION, Instruction
from adapters.simulated_erp.server import SimulatedErp
from tests.unit.test_simulated_erp_books import issue, told

Client = TestClient[Any, Any]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(SimulatedErp(Books()).application())) as opened:
        yield opened


async def post(client: Client, instruction: Instruction) -> ClientResponse:
    return await client.post("/documents", data=INSTRUCTION.dump_json(instruction))


async def body(response: ClientResponse) -> Any:
    """Parse it, refusing any float in it."""

    def refuse(digits: str) -> float:
        raise AssertionError(f"{digits} is a float")

    return json.loads(await response.read(), parse_float=refuse)


async def test_a_document_is_created_and_shows_its_amounts_as_strings(client: Client) -> None:
    response = await post(client, told(issue("SHP-1", 6, "48.00")))
    made = await body(response)
    assert (response.status, made["number"]) == (201, "DOC-000001")
    assert made["entries"][0] == {"account": "cost-interim", "debit": "48.00", "credit": "0"}


async def test_a_repeated_key_answers_200_with_the_same_document(client: Client) -> None:
    first = await post(client, told(issue("SHP-1", 6, "48.00")))
    second = await post(client, told(issue("SHP-1", 6, "48.00")))
    assert (first.status, second.status) == (201, 200)
    assert await body(first) == await body(second)


async def test_an_amount_that_is_a_float_is_refused_before_it_is_read(client: Client) -> None:
    text = INSTRUCTION.dump_json(told(issue("SHP-1", 6, "48.10"))).replace(b'"48.10"', b"48.10")
    response = await client.post("/documents", data=text)
    assert response.status == 400
    assert "48.10" in (await body(response))["detail"]
    assert (await body(await client.get("/live-documents")))["total"] == 0


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'{"version": NaN}'])
async def test_what_is_not_json_is_answered_with_a_problem_document(client: Client, text: bytes) -> None:
    response = await client.post("/documents", data=text)
    assert (response.status, response.content_type) == (400, "application/problem+json")


async def test_a_posting_without_currency_is_refused_by_the_name_of_the_field(client: Client) -> None:
    sent = json.loads(INSTRUCTION.dump_json(told(issue("SHP-1", 6, "48.00"))))
    del sent["posting"]["currency"]
    response = await client.post("/documents", json=sent)
    assert (response.status, response.content_type) == (422, "application/problem+json")
    assert "currency" in (await body(response))["detail"]


async def test_a_closed_period_is_a_problem_document(client: Client) -> None:
    await client.post("/periods", json={"closed_through": "2026-03-02"})
    response = await post(client, told(issue("SHP-1", 6, "48.00")))
    problem = await body(response)
    assert (response.status, problem["title"]) == (422, "period-closed")
    assert problem["type"] == "urn:twinsync:simulated-erp:period-closed"
    assert "2026-03-02" in problem["detail"]


async def test_goods_without_cost_are_valued_by_the_standard_costs_that_were_set(client: Client) -> None:
    await client.post("/standard-costs", json={"costs": {"SKU-1": "8.00"}})
    made = await body(await post(client, told(issue("SHP-1", 6))))
    assert Decimal(made["entries"][0]["debit"]) == 48


async def test_a_standard_cost_that_is_a_float_or_negative_is_refused(client: Client) -> None:
    assert (await client.post("/standard-costs", json={"costs": {"SKU-1": 8.1}})).status == 400
    assert (await client.post("/standard-costs", json={"costs": {"SKU-1": "-8"}})).status == 422


async def test_documents_are_listed_by_pages(client: Client) -> None:
    for number in range(3):
        await post(client, told(issue(f"SHP-{number}", 1, "8")))
    first = await body(await client.get("/documents", params={"limit": "2", "live": "true"}))
    rest = await body(await client.get("/documents", params={"limit": "2", "after": first["following"]}))
    keys = [one["posting"]["key"] for one in first["documents"] + rest["documents"]]
    assert keys == ["goods-issue/SHP-0", "goods-issue/SHP-1", "goods-issue/SHP-2"]
    assert rest["following"] is None


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "x"},
        {"after": "12"},
        {"live": "maybe"},
        {"action": "undo"},
        {"colour": "red"},
    ],
    ids=str,
)
async def test_a_query_that_makes_no_sense_is_refused(client: Client, query: dict[str, str]) -> None:
    response = await client.get("/documents", params=query)
    assert (response.status, response.content_type) == (400, "application/problem+json")


async def test_a_failing_erp_posts_nothing_and_one_that_forgets_has_posted(client: Client) -> None:
    await client.post("/faults", json={"fail_rate": 1})
    assert (await post(client, told(issue("SHP-1", 6, "48")))).status == 503
    assert (await body(await client.get("/live-documents")))["total"] == 0
    settings = await client.post("/faults", json={"forget_reply_rate": 1})
    assert settings.status == 200
    assert (await post(client, told(issue("SHP-1", 6, "48")))).status == 500
    assert (await body(await client.get("/live-documents")))["total"] == 1
    report = json.loads(await (await client.get("/faults")).read())
    assert report["dealt"]["forget-reply"] == 1


async def test_a_lost_answer_is_a_connection_that_ends_after_posting(client: Client) -> None:
    await client.post("/faults", json={"timeout_after_posting_rate": 1})
    with pytest.raises(ServerDisconnectedError):
        await post(client, told(issue("SHP-1", 6, "48")))
    assert (await body(await client.get("/live-documents")))["total"] == 1


async def test_a_key_that_is_to_be_refused_is(client: Client) -> None:
    await client.post("/faults", json={"refuse_keys": ["goods-issue/SHP-1"]})
    assert (await post(client, told(issue("SHP-1", 6, "48")))).status == 422
    assert (await post(client, told(issue("SHP-2", 6, "48")))).status == 201


@pytest.mark.parametrize(
    "settings", [{"fail_rate": 2}, {"speed": 1}, {"fail_rate": 0.6, "forget_reply_rate": 0.6}], ids=str
)
async def test_faults_that_make_no_sense_are_refused(client: Client, settings: dict[str, float]) -> None:
    assert (await client.post("/faults", json=settings)).status == 422


async def test_erasing_forgets_documents_costs_periods_and_faults(client: Client) -> None:
    await post(client, told(issue("SHP-1", 6, "48")))
    await client.post("/periods", json={"closed_through": "2026-03-02"})
    await client.post("/faults", json={"fail_rate": 1})
    assert (await client.delete("/")).status == 204
    response = await post(client, told(issue("SHP-2", 6, "48")))
    assert (response.status, (await body(response))["number"]) == (201, "DOC-000001")


async def test_it_says_that_it_is_healthy(client: Client) -> None:
    assert (await client.get("/healthz")).status == 200
