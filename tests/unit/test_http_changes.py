"""Changes over HTTP: what is told, to whom, and from where."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from httpx_sse import EventSource, ServerSentEvent
from pydantic_core import from_json

from adapters.http import changes, problems
from canonical.errors import Overloaded, TransientFailure
from canonical.identity import order, stock
from twins.ports import Expired, Heard, TwinRow

AT = datetime(2026, 3, 2, 8, tzinfo=UTC)
ORDER = TwinRow(order("SO-1"), "shipped", 4, "C-1", None, None, ("dispatch-missing",), AT)
OTHER = TwinRow(order("SO-2"), "released", 2, "C-2", None, None, (), AT)
SHELF = TwinRow(stock("SKU-1", "DC-01"), "in-stock", 9, None, "SKU-1", "DC-01", (), AT)


class Feed:
    """Tells what it was given, and ends."""

    def __init__(self, *told: Heard, refuses: Exception | None = None) -> None:
        self._told = told
        self._refuses = refuses
        self.asked: list[int | None] = []
        self.is_left = False

    async def follow(self, after: int | None, patience_s: float) -> AsyncGenerator[Heard]:
        self.asked.append(after)
        if self._refuses is not None:
            raise self._refuses
        try:
            yield Heard(7, [])
            for one in self._told:
                yield one
        finally:
            self.is_left = True


async def get(feed: Feed, **more: object) -> httpx.Response:
    api = FastAPI()
    problems.install(api)
    api.include_router(changes.routes(feed))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://twinsync") as http:
        return await http.get("/v1/changes", **more)  # type: ignore[arg-type]


async def events(feed: Feed, **more: object) -> list[ServerSentEvent]:
    answer = await get(feed, **more)
    assert answer.status_code == 200, answer.text
    return list(EventSource(answer).iter_sse())


async def test_each_change_is_a_cloudevent() -> None:
    feed = Feed(Heard(8, [ORDER, SHELF]))
    begun, first, second, told = await events(feed)
    assert (begun.event, begun.id, from_json(begun.data)) == ("begin", "7", {"after": 7})
    assert (first.event, first.id) == ("change", "7"), "who is cut here hears the second, and the first again"
    assert from_json(first.data) == {
        "specversion": "1.0",
        "id": "order/SO-1@4",
        "source": "/twinsync",
        "type": "io.twinsync.order.changed.v1",
        "subject": "order/SO-1",
        "time": "2026-03-02T08:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "kind": "order",
            "key": "SO-1",
            "status": "shipped",
            "version": 4,
            "customer_id": "C-1",
            "sku": None,
            "location": None,
            "findings": ["dispatch-missing"],
        },
    }
    assert from_json(second.data)["subject"] == "stock/SKU-1@DC-01"
    assert (told.event, told.data, told.id) == ("message", "", "8"), "browsers note the id, and are not told"
    assert feed.is_left


async def test_the_id_of_all_before_is_told_once_they_are() -> None:
    heard = await events(Feed(Heard(8, [ORDER]), Heard(9, []), Heard(12, [OTHER])))
    assert [one.id for one in heard if one.event == "change"] == ["7", "9"]
    assert heard[-1].id == "12"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, [ORDER, OTHER, SHELF]),
        ({"kind": "order"}, [ORDER, OTHER]),
        ({"kind": "order", "status": "released"}, [OTHER]),
        ({"customer_id": "C-1"}, [ORDER]),
        ({"sku": "SKU-1", "location": "DC-01"}, [SHELF]),
        ({"location": "DC-02"}, []),
        ({"finding": "dispatch-missing"}, [ORDER]),
    ],
)
async def test_only_what_is_asked_for_is_told(wanted: dict[str, str], told: list[TwinRow]) -> None:
    heard = await events(Feed(Heard(8, [ORDER, OTHER, SHELF])), params=wanted)
    assert heard[-1].id == "8"
    assert [from_json(one.data)["subject"] for one in heard if one.event == "change"] == [
        str(row.ref) for row in told
    ]


async def test_it_goes_on_where_it_is_asked_to() -> None:
    feed = Feed()
    await events(feed)
    await events(feed, params={"after": "3"})
    await events(feed, params={"after": "3"}, headers={"Last-Event-ID": "5"})
    assert feed.asked == [None, 3, 5]


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (Expired(12), 410, "changes before 12 are not kept"),
        (Overloaded("64 follow"), 429, "64 follow"),
        (TransientFailure("database: away"), 503, "database: away"),
    ],
)
async def test_who_cannot_be_served_learns_why(failure: Exception, status: int, said: str) -> None:
    answer = await get(Feed(refuses=failure))
    assert answer.status_code == status
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("wrong", [{"kind": "parcel"}, {"after": "-1"}, {"after": "now"}])
async def test_what_cannot_be_asked_is_refused(wrong: dict[str, str]) -> None:
    answer = await get(Feed(), params=wrong)
    assert answer.status_code == 422
    assert answer.json()["field"] == f"query.{next(iter(wrong))}"


async def test_a_stream_that_breaks_leaves_the_feed_at_once() -> None:
    feed = Feed(*[Heard(8, [ORDER])] * 100)
    following = feed.follow(None, 1.0)
    stream = changes._Stream(await anext(following), following, lambda row: True)

    async def receive() -> dict[str, str]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        if isinstance(message, dict) and message.get("body"):
            raise OSError("gone")

    with contextlib.suppress(Exception):
        await stream({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)  # type: ignore[arg-type]
    assert feed.is_left


async def test_a_stream_ends_after_a_while_and_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "STREAM_BYTES_MAX", 1_000)
    heard = await events(Feed(*[Heard(number, [ORDER]) for number in range(8, 20)]))
    assert heard[-1].id in {"9", "10"}
