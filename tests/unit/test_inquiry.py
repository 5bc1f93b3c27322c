"""What was believed when, why a twin is what it is, and what would be: over HTTP, and as people read it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic_core import from_json, to_json
from rich.console import Console, RenderableType

from adapters.sql.store import SqlStore
from canonical.envelope import BATCH, Event, batch
from canonical.facts.base import Retracted
from canonical.facts.order import OrderAllocated
from canonical.facts.shipment import ShipmentVoided
from canonical.facts.stock import StockAdjusted
from ops import asking
from tests.stories import LOCATION, ORDER, SKU, delivered, dispatched, golden, master_data, placed
from tests.unit.test_http_api import calls, http, store, told  # noqa: F401 - fixtures
from tests.world import DAY, World, tell
from twins.core.inquiry import Moment, differences
from twins.core.rules import Policy
from twins.runtime import inquiry
from twins.runtime.inquiry import Inquiry

Http = httpx.AsyncClient


async def send(http: Http, events: Sequence[Event]) -> datetime:
    """Answers a moment after all of it was recorded, and before anything that is sent next."""
    answer = await http.post("/v1/events", content=batch(list(events)), headers={"Content-Type": BATCH})
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(0.002)
    now = datetime.now(UTC)
    await asyncio.sleep(0.002)
    return now


async def get(http: Http, path: str, **wanted: datetime) -> Any:
    answer = await http.get(path, params={name: one.isoformat() for name, one in wanted.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def read(shown: RenderableType) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    return console.export_text()


@pytest.mark.parametrize("minute", [-1, 3, 90, 130, 2050, 4002, 9_000])
async def test_a_twin_as_of_a_moment_is_what_the_facts_until_then_come_to(http: Http, minute: int) -> None:
    await send(http, golden()[::-1])
    moment = DAY + timedelta(minutes=minute)
    then = World().take_each([event for event in golden() if event.time <= moment])
    for twin, path in (
        (f"order/{ORDER}", f"/v1/orders/{ORDER}"),
        (f"stock/{SKU}@{LOCATION}", f"/v1/stock/{SKU}/{LOCATION}"),
    ):
        expected = then.documents_of_twins().get(twin)
        answer = await http.get(path, params={"as_of": moment.isoformat()})
        if expected is None:
            assert answer.status_code == 404
            continue
        found = answer.json()
        assert {name: found[name] for name in expected} == from_json(to_json(expected))


async def test_what_was_believed_on_tuesday_about_monday(http: Http) -> None:
    """On Tuesday nobody had heard that half of it had shipped on Monday."""
    monday_evening = DAY + timedelta(hours=10)
    tuesday = await send(http, [*master_data(), placed(10)])
    await send(http, [dispatched("SHP-1", 6, 60), dispatched("SHP-2", 4, 3_000)])
    then = await get(http, f"/v1/orders/{ORDER}", as_of=monday_evening, known_at=tuesday)
    now = await get(http, f"/v1/orders/{ORDER}", as_of=monday_evening)
    assert (then["status"], then["lines"][0]["shipped"]) == ("placed", "0")
    assert (now["status"], now["lines"][0]["shipped"]) == ("partly-shipped", "6")
    assert (await get(http, f"/v1/orders/{ORDER}"))["status"] == "shipped"
    assert (await get(http, f"/v1/orders/{ORDER}/postings", as_of=monday_evening, known_at=tuesday))[
        "postings"
    ] == []
    found = await get(http, f"/v1/orders/{ORDER}/postings", as_of=monday_evening)
    assert [one["key"] for one in found["postings"]] == [f"invoice/SHP-1/{ORDER}"]
    assert len((await get(http, f"/v1/orders/{ORDER}/history", known_at=tuesday))["events"]) == 1
    assert "as of" in read(asking.twin(then))


async def test_a_retraction_unsays_the_past_from_when_it_was_known(http: Http) -> None:
    wrong = delivered("1Z1", 500)
    before = await send(http, [*master_data(), placed(6), dispatched("SHP-1", 6, 60, tracking="1Z1"), wrong])
    error = Retracted(source=wrong.source, id=wrong.id)
    await send(http, [tell("tracking/ups:1Z1", error, 9_000, source=wrong.source, id="oops")])
    moment = DAY + timedelta(minutes=600)
    assert (await get(http, f"/v1/orders/{ORDER}", as_of=moment, known_at=before))["status"] == "delivered"
    assert (await get(http, f"/v1/orders/{ORDER}", as_of=moment))["status"] == "shipped"


async def test_explain_says_what_a_late_fact_changed_in_state_and_in_postings(http: Http) -> None:
    await send(http, [*master_data(), placed(10), dispatched("SHP-2", 4, 120)])
    late = tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=10), 5)
    await send(http, [delivered("1Z9", 100), late])
    await send(http, [tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=9), 3)])
    earlier = dispatched("SHP-1", 6, 60)
    await send(http, [earlier])
    shipment = await get(http, "/v1/shipments/SHP-2/explain")
    assert shipment["late"] == []
    order = await get(http, f"/v1/orders/{ORDER}/explain")
    assert {"source": "/test/oms", "type": "io.twinsync.order.allocated.v1"}.items() <= order["facts"][
        "last"
    ][-1].items()
    assert order["late"] == []  # what came late, the second allocation, says nothing that the first does not
    stock = f"stock/{SKU}@{LOCATION}"
    await send(http, [tell(stock, StockAdjusted(adjustment_id="A", delta=-3), -590, source="/test/wms")])
    (effect,) = (await get(http, f"/v1/stock/{SKU}/{LOCATION}/explain"))["late"]
    assert effect["event"].endswith("adjusted/-590")
    assert [(one["key"], one["what"]) for one in effect["postings"]] == [
        (f"stock-adjustment/A/{SKU}@{LOCATION}", "posted")
    ]


async def test_a_late_cost_shows_what_it_posted_anew(http: Http) -> None:
    from canonical.facts.reference import ItemUpserted

    await send(http, [*master_data(), placed(6), dispatched("SHP-1", 6, 60)])
    dearer = ItemUpserted(revision=2, title="Widget", unit_cost="9.00", currency="USD")
    newer = ItemUpserted(revision=3, title="Widget", unit_cost="9.50", currency="USD")
    await send(http, [tell(f"item/{SKU}", newer, 500)])
    await send(http, [tell(f"item/{SKU}", dearer, 30)])
    answer = await get(http, f"/v1/orders/{ORDER}/explain")
    (effect,) = answer["late"]
    (posting,) = effect["postings"]
    assert (posting["key"], posting["what"]) == (f"invoice/SHP-1/{ORDER}", "posted anew")
    assert (posting["before"]["lines"][0]["cost"], posting["after"]["lines"][0]["cost"]) == ("48.00", "54.00")
    shown = read(asking.explanation(answer))
    assert "late" in shown
    assert "posted anew" in shown
    assert "io.twinsync.item.upserted.v1 from /test/oms: happened 2026-03-02 08:30" in shown


async def test_explain_says_who_told_what_and_what_is_awaited(http: Http) -> None:
    await send(
        http,
        [tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=1), 5, sequence=7)],
    )
    answer = await get(http, f"/v1/orders/{ORDER}/explain")
    assert answer["waits_for"] == ["the order to be placed"]
    (held,) = answer["held"]
    assert (held["source"], held["waits_for"]) == ("/test/oms", "the order to be placed")
    assert answer["facts"]["told"] == 1
    shown = read(asking.explanation(answer))
    assert "waits for the order to be placed" in shown


async def test_explain_says_what_a_source_left_out(http: Http) -> None:
    fact = OrderAllocated(line_id="1", location=LOCATION, quantity=1)
    await send(http, [tell(f"order/{ORDER}", fact, number, sequence=number) for number in (5, 7)])
    (gap,) = (await get(http, f"/v1/orders/{ORDER}/explain"))["gaps"]
    assert gap.startswith("/test/oms left out 1 of its numbers, 6 to 6")
    assert "/test/oms" in read(asking.gaps(await get(http, "/v1/gaps")))


async def test_what_if_answers_and_stores_nothing(http: Http, store: SqlStore) -> None:
    await send(http, [*master_data(), placed(10), dispatched("SHP-1", 6, 60)])
    tag = (await http.get(f"/v1/orders/{ORDER}")).headers["etag"]
    known = await store.arrivals()
    events = [dispatched("SHP-2", 5, 120), tell("shipment/SHP-1", ShipmentVoided(), 130, source="/test/wms")]
    answer = await http.post("/v1/twins:simulate", content=batch(events), headers={"Content-Type": BATCH})
    assert answer.status_code == 200, answer.text
    found = {one["twin"]: one for one in answer.json()["twins"]}
    assert found["shipment/SHP-1"]["status"] == "voided"
    assert {"path": "lines.1.shipped", "before": "6", "after": "5"} in found[f"order/{ORDER}"]["changes"]
    commands = {(one["action"], one["key"]) for twin in found.values() for one in twin["postings"]}
    assert commands >= {
        ("reverse", "goods-issue/SHP-1"),
        ("reverse", f"invoice/SHP-1/{ORDER}"),
        ("post", "goods-issue/SHP-2"),
        ("post", f"invoice/SHP-2/{ORDER}"),
    }
    assert (await http.get(f"/v1/orders/{ORDER}")).headers["etag"] == tag
    assert await store.arrivals() == known
    assert (await http.get("/v1/shipments/SHP-2")).status_code == 404
    assert "Nothing was stored." in read(asking.outcomes(answer.json()))


async def test_what_if_of_what_is_known_changes_nothing(told: Http) -> None:
    answer = await told.post("/v1/twins:simulate", content=batch(golden()), headers={"Content-Type": BATCH})
    assert answer.json() == {"twins": []}


async def test_what_if_refuses_what_could_not_be_taken(http: Http) -> None:
    event = from_json(placed(1).structured())
    event["data"]["lines"][0]["quantity"] = "many"
    answer = await http.post("/v1/twins:simulate", content=to_json([event]), headers={"Content-Type": BATCH})
    assert (answer.status_code, answer.json()["field"]) == (422, "0.data.lines.0.quantity")


async def test_what_if_of_what_concerns_too_many_is_refused(
    told: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiry, "TWINS_MAX", 2)
    content = batch([placed(1, 500, "SO-9")])
    answer = await told.post("/v1/twins:simulate", content=content, headers={"Content-Type": BATCH})
    assert (answer.status_code, answer.json()["field"]) == (422, "subject")


async def test_a_moment_without_an_offset_is_refused_and_names_the_field(told: Http) -> None:
    answer = await told.get(f"/v1/orders/{ORDER}", params={"as_of": "2026-03-02T18:00:00"})
    assert (answer.status_code, answer.json()["field"]) == (422, "as_of")


async def test_a_shelf_with_too_many_neighbours_is_taken_at_its_word(
    told: Http,
    store: SqlStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An order that was short of goods depends on everybody who wanted them."""
    rest = [placed(200, 1, "SO-2"), placed(200, 2, "SO-3")]
    fact = OrderAllocated(line_id="1", location=LOCATION, quantity=200)
    rest += [tell(f"order/SO-{number}", fact, number, id="short") for number in (2, 3)]
    await send(told, rest)
    whole = await Inquiry(store, store, Policy()).believed(rest[1].subject, Moment(DAY + timedelta(days=9)))
    assert whole is not None
    assert whole["limits"] == []
    assert whole["lines"][0]["backordered"] == 200
    monkeypatch.setattr(inquiry, "TWINS_MAX", 6)
    near = await Inquiry(store, store, Policy()).believed(rest[1].subject, Moment(DAY + timedelta(days=9)))
    assert near is not None
    assert near["limits"] == [f"stock/{SKU}@{LOCATION} has too many neighbours: its word is that of now"]
    assert near["lines"] == whole["lines"]


async def test_more_facts_than_are_folded_for_one_answer_are_refused_or_left_out(
    told: Http,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inquiry, "FACTS_MAX", 5)
    answer = await told.get(f"/v1/orders/{ORDER}", params={"as_of": DAY.isoformat()})
    assert (answer.status_code, answer.json()["field"]) == (422, "as_of")
    brief = await get(told, f"/v1/orders/{ORDER}/explain")
    assert brief["because"]
    assert "what late ones changed is not shown" in brief["limits"][0]


def test_differences_are_told_by_path() -> None:
    before = {"status": "placed", "lines": [{"line_id": "1", "shipped": 0}], "tags": ["a"]}
    after = {"status": "placed", "lines": [{"line_id": "1", "shipped": 2}, {"line_id": "2"}], "tags": ["b"]}
    assert [tuple(change) for change in differences(before, after)] == [
        ("lines.1.shipped", 0, 2),
        ("lines.2", None, {"line_id": "2"}),
        ("tags", ["a"], ["b"]),
    ]
