"""ERP instances and refusals over HTTP, over real twins, a real gateway and SQLite."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from adapters.sql.store import SqlStore
from canonical.envelope import BATCH, batch
from canonical.errors import TransientFailure
from tests.stories import golden
from tests.unit.gateways import Scripted
from tests.unit.test_host import Clock
from tests.unit.test_http_api import OneHost, calls, http, store, told  # noqa: F401
from twins.ports import Confirmed, Refused
from twins.runtime.gateway import Gateway

BROKEN = "goods-issue/SHP-1"
WHY = {"reason": "month end"}


class Refusing(Scripted):
    def __init__(self) -> None:
        super().__init__(does=lambda one: Refused("no account") if one.key == BROKEN else Confirmed("D"))


@pytest.fixture
def erp() -> Scripted:
    return Refusing()


@pytest.fixture
def gateway(store: SqlStore, calls: OneHost, erp: Scripted) -> Gateway:
    async def reply(events: Any) -> Any:
        return await calls.host.take_events(events)

    return Gateway("main", store, erp, Clock(), reply)


async def settle(gateway: Gateway) -> None:
    for _ in range(4):
        await gateway.work()


async def test_an_instance_is_paused_and_resumed_by_name(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/erps/main:pause", json=WHY)
    assert answer.status_code == 200, answer.text
    _, one = (await http.get("/v1/erps")).json()["erps"]
    assert (one["erp"], one["paused"]["by"], one["paused"]["reason"]) == ("main", "oms", "month end")
    assert (await http.post("/v1/erps/main:resume", json=WHY)).status_code == 200
    _, one = (await http.get("/v1/erps")).json()["erps"]
    assert one["paused"] is None
    assert (await http.post("/v1/erps/main:resume", json=WHY)).status_code == 409
    noted = (await http.get("/v1/audit", params={"subject": "erp/main"})).json()["audit"]
    assert [(one["by"], one["action"]) for one in noted] == [("oms", "resume"), ("oms", "pause")]


async def test_who_pauses_says_why_and_which(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/erps/main:pause", json={})).status_code == 422
    assert (await http.post("/v1/erps/other:pause", json=WHY)).status_code == 404
    assert (
        await http.post("/v1/erps/main:pause", json=WHY, headers={"Authorization": ""})
    ).status_code == 401


async def test_the_queue_of_an_instance_is_shown(told: httpx.AsyncClient) -> None:
    _, one = (await told.get("/v1/erps")).json()["erps"]
    commands = (await told.get("/v1/erps/main/commands")).json()["commands"]
    assert one["queued"] == len(commands) > 0
    assert one["oldest_queued_at"] is not None
    assert {"key", "attempts", "trouble", "priority"} <= commands[0].keys()


async def test_a_refusal_is_listed_resent_and_gone(
    told: httpx.AsyncClient, gateway: Gateway, erp: Scripted
) -> None:
    await settle(gateway)
    (one,) = (await told.get("/v1/rejections")).json()["rejections"]
    assert (one["key"], one["version"], one["reason"], one["twin"]) == (
        BROKEN,
        1,
        "no account",
        "shipment/SHP-1",
    )
    erp.does = None
    for _ in range(2):
        answer = await told.post("/v1/rejections:resend", json={"key": BROKEN, "request": "r"})
        assert answer.status_code == 200, answer.text
    await settle(gateway)
    assert (await told.get("/v1/rejections")).json()["rejections"] == []
    assert [key for key in erp.told if key.startswith(BROKEN)] == [f"{BROKEN}@1", f"{BROKEN}@2"]
    assert "invoice/SHP-1/SO-1@1" in erp.told, "what waited for it goes on"


async def test_all_that_was_refused_for_one_reason_is_resent_together(
    told: httpx.AsyncClient, gateway: Gateway
) -> None:
    await settle(gateway)
    answer = await told.post("/v1/rejections:resend", json={"reason": "no account"})
    assert answer.json() == {"resent": [f"{BROKEN}@1"], "more": False}
    answer = await told.post("/v1/rejections:resend", json={"reason": "other"})
    assert answer.json() == {"resent": [], "more": False}


async def test_nobody_resends_everything_by_mistake(told: httpx.AsyncClient) -> None:
    assert (await told.post("/v1/rejections:resend", json={})).status_code == 422


async def test_an_instance_is_put_in_shadow_reported_on_and_promoted(
    http: httpx.AsyncClient, gateway: Gateway, erp: Scripted
) -> None:
    wanted = {"of": "main", "reason": "new ERP"}
    assert (await http.get("/v1/erps/cloud/report")).status_code == 404
    assert (await http.post("/v1/erps/moon:shadow", json=wanted)).status_code == 404
    assert (await http.post("/v1/erps/cloud:promote", json=WHY)).status_code == 422
    assert (await http.post("/v1/erps/cloud:shadow", json=wanted)).status_code == 200
    assert (await http.post("/v1/erps/cloud:shadow", json=wanted)).status_code == 422
    await http.post("/v1/events", content=batch(golden()), headers={"Content-Type": BATCH})
    await settle(gateway)
    report = (await http.get("/v1/erps/cloud/report")).json()
    assert (report["of"], report["state"], report["different"]) == ("main", "shadow", 0)
    assert report["waiting"] > 0, "nobody runs the shadow's gateway"
    promoted = (await http.post("/v1/erps/cloud:promote", json=WHY)).json()
    assert promoted["taken_back"] + promoted["moved"] == report["waiting"]
    report = (await http.get("/v1/erps/cloud/report", params={"books": True})).json()
    assert (report["state"], len(report["to_clear"])) == ("promoted", promoted["taken_back"])
    noted = (await http.get("/v1/audit", params={"subject": "erp/cloud"})).json()["audit"]
    assert [one["action"] for one in noted] == ["promote", "shadow"]


ENDLESS = {"/v1/changes"}
"""A stream, which reads the database alone."""


async def test_every_question_is_answered_while_the_erp_is_away(
    told: httpx.AsyncClient, gateway: Gateway, erp: Scripted
) -> None:
    """Questions read twins and the database; none of them reaches an ERP."""

    async def unreachable(*_: object, **__: object) -> None:
        raise TransientFailure("nobody is there")

    erp.tell = erp.look_up = unreachable  # type: ignore[assignment]
    await settle(gateway)
    await told.post("/v1/erps/main:shadow", json={"of": "cloud", "reason": "a report to ask for"})
    paths = [
        path
        for path, methods in (await told.get("/openapi.json")).json()["paths"].items()
        if "get" in methods and path not in ENDLESS
    ]
    known = {
        "{order_id}": "SO-1",
        "{shipment_id}": "SHP-1",
        "{sku}": "SKU-1",
        "{location}": "DC-01",
        "{kind}": "order",
        "{key}": "SO-1",
        "{erp}": "main",
    }
    assert len(paths) > 15
    for path in paths:
        for name, value in known.items():
            path = path.replace(name, value)
        if "{" not in path:
            assert (await told.get(path)).status_code == 200, path
    assert (
        await told.post("/v1/twins:simulate", content=batch(golden()), headers={"Content-Type": BATCH})
    ).status_code == 200
