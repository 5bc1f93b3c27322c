"""Where twins live, seen and changed over HTTP."""

from __future__ import annotations

import httpx

from tests.unit.test_http_api import calls, http, store  # noqa: F401

WHY = {"reason": "sales day"}


async def test_hosts_are_shown_and_their_number_is_changed(http: httpx.AsyncClient) -> None:
    found = (await http.get("/v1/hosts")).json()
    assert [one["host"] for one in found.pop("hosts")] == ["host-0"]
    assert found == {"version": 0, "pooled_hosts": 1, "dedicated": [], "pinned": []}
    answer = await http.post("/v1/hosts:resize", json={"count": 3, **WHY})
    assert answer.status_code == 200, answer.text
    found = (await http.get("/v1/hosts")).json()
    assert [one["host"] for one in found["hosts"]] == ["host-0", "host-1", "host-2"]
    (noted,) = (await http.get("/v1/audit", params={"subject": "hosts"})).json()["audit"]
    assert (noted["by"], noted["action"], noted["detail"]) == ("oms", "resize", {"count": 3, **WHY})


async def test_a_twin_is_pinned_and_unpinned_by_name(http: httpx.AsyncClient) -> None:
    hot = "stock/SKU-1@DC-01"
    assert (await http.post("/v1/hosts:pin", json={"twin": hot, **WHY})).json()["pinned"] == [hot]
    assert (await http.post("/v1/hosts:unpin", json={"twin": hot, **WHY})).json()["pinned"] == []
    noted = (await http.get("/v1/audit", params={"subject": hot})).json()["audit"]
    assert [(one["by"], one["action"]) for one in noted] == [("oms", "unpin"), ("oms", "pin")]


async def test_hosts_are_levelled_one_at_a_time_and_each_move_is_kept(http: httpx.AsyncClient) -> None:
    answers = [(await http.post("/v1/hosts:rebalance", json=WHY)).json() for _ in range(3)]
    assert [([move["host"] for move in one["moves"]], one["left"]) for one in answers] == [
        (["host-1"], 1),
        (["host-2"], 0),
        ([], 0),
    ]
    noted = (await http.get("/v1/audit", params={"subject": "hosts"})).json()["audit"]
    assert [(one["by"], one["action"], one["detail"]["host"]) for one in noted] == [
        ("oms", "rebalance", "host-2"),
        ("oms", "rebalance", "host-1"),
    ]
    assert noted[0]["detail"].items() >= WHY.items()


async def test_what_can_be_no_host_or_twin_is_refused(http: httpx.AsyncClient) -> None:
    for path, word in (
        ("resize", {"count": 0, **WHY}),
        ("resize", {"count": 257, **WHY}),
        ("resize", {"count": 2}),
        ("rebalance", {}),
        ("pin", {"twin": "no-such-kind/1", **WHY}),
        ("pin", {"twin": "stock/nowhere", **WHY}),
    ):
        assert (await http.post(f"/v1/hosts:{path}", json=word)).status_code == 422, (path, word)
    assert (await http.get("/v1/hosts")).json()["version"] == 0


async def test_only_so_many_twins_are_pinned(http: httpx.AsyncClient) -> None:
    for number in range(64):
        answer = await http.post("/v1/hosts:pin", json={"twin": f"order/SO-{number}", **WHY})
        assert answer.status_code == 200
    assert (await http.post("/v1/hosts:pin", json={"twin": "order/SO-64", **WHY})).status_code == 409
    assert (await http.post("/v1/hosts:pin", json={"twin": "order/SO-63", **WHY})).status_code == 200


async def test_it_asks_for_a_key(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", "hosts"), ("POST", "hosts:resize"), ("POST", "hosts:rebalance")):
        answer = await http.request(method, f"/v1/{path}", headers={"Authorization": ""})
        assert answer.status_code == 401
