"""Dead letters over HTTP, with real twins and SQLite: what a person can do with a refused message."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from adapters.sql.store import SqlStore
from canonical.envelope import parse_structured
from tests.stories import placed
from tests.unit.test_http_api import calls, http, store  # noqa: F401 - fixtures
from tests.world import tell
from twins.ports import Fault, LetterFilter, Publication, Rejected
from twins.runtime.letters import LetterWatch

ANY = LetterFilter(state=None)
GOOD = placed().structured()
BAD = GOOD.replace(b'"quantity":"10"', b'"quantity":"many"')


async def kept(store: SqlStore, body: bytes = BAD, why: str = "expected a number") -> int:
    await store.keep([(Publication(body), Rejected(why, "data.lines.0.quantity"))])
    found = await store.letters(ANY, 1)
    return found[0].number


async def listed(http: httpx.AsyncClient, **wanted: Any) -> list[int]:
    answer = await http.get("/v1/dead-letters", params=wanted)
    assert answer.status_code == 200, answer.text
    return [one["number"] for one in answer.json()["dead_letters"]]


def test_the_bad_message_is_bad() -> None:
    assert BAD != GOOD


async def test_letters_are_listed_by_page_and_filter(http: httpx.AsyncClient, store: SqlStore) -> None:
    numbers = [await kept(store, b"%d" % one, f"reason {one}") for one in range(3)]
    first = (await http.get("/v1/dead-letters", params={"limit": 2})).json()
    assert [one["number"] for one in first["dead_letters"]] == [numbers[2], numbers[1]]
    assert await listed(http, cursor=first["next_cursor"]) == [numbers[0]]
    assert await listed(http, reason="reason 1") == [numbers[1]]
    assert await listed(http, fault="twinsync") == []
    assert await listed(http, state="discarded") == []
    assert len(await listed(http, state="any", field="data.lines.0.quantity")) == 3
    assert (await http.get("/v1/dead-letters", params={"since": "2026-03-02T08:00:00"})).status_code == 422


async def test_a_letter_is_shown_with_its_payload(http: httpx.AsyncClient, store: SqlStore) -> None:
    shown = (await http.get(f"/v1/dead-letters/{await kept(store)}")).json()
    assert '"quantity": "many"' in shown["body"]
    assert (shown["reason"], shown["fault"], shown["subject"]) == (
        "expected a number",
        "sender",
        "order/SO-1",
    )
    binary = (await http.get(f"/v1/dead-letters/{await kept(store, bytes([255]))}")).json()
    assert base64.b64decode(binary["body_base64"]) == b"\xff"
    huge = (await http.get(f"/v1/dead-letters/{await kept(store, b'x' * 2_000_000)}")).json()
    assert (huge["whole"], len(huge["body"]), huge["size_bytes"]) == (False, 4_096, 2_000_000)
    assert (await http.get("/v1/dead-letters/404")).status_code == 404
    assert (await http.get(f"/v1/dead-letters/{10**40}")).status_code == 404


async def test_a_replay_that_is_taken_closes_the_letter(http: httpx.AsyncClient, store: SqlStore) -> None:
    number = await kept(store, GOOD)
    answer = await http.post(f"/v1/dead-letters/{number}:replay")
    assert answer.json() == {"number": number, "became": "taken", "arrival": "new"}
    assert (await http.get("/v1/orders/SO-1")).status_code == 200
    assert await listed(http) == []
    assert await listed(http, state="replayed") == [number]
    (deed,) = (await http.get("/v1/audit", params={"subject": f"dead-letter/{number}"})).json()["audit"]
    assert (deed["by"], deed["action"]) == ("oms", "replay")


async def test_a_replay_that_is_refused_again_tells_the_new_reason(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    number = await kept(store, why="an older reason")
    answer = (await http.post(f"/v1/dead-letters/{number}:replay")).json()
    assert (answer["became"], answer["field"]) == ("refused", "data.lines.0.quantity")
    (letter,) = (await http.get("/v1/dead-letters")).json()["dead_letters"]
    assert letter["reason"] == answer["reason"] != "an older reason"


async def test_an_edited_letter_is_taken_and_linked_to_the_one_it_replaces(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    number = await kept(store)
    answer = (await http.post(f"/v1/dead-letters/{number}:replay", json={"body": GOOD.decode()})).json()
    assert answer["became"] == "taken"
    before = (await http.get(f"/v1/dead-letters/{number}")).json()
    after = (await http.get(f"/v1/dead-letters/{answer['number']}")).json()
    assert (before["state"], before["replaced_by"]) == ("replaced", answer["number"])
    assert (after["state"], after["replaces"]) == ("replayed", number)
    (deed,) = (await http.get("/v1/audit", params={"subject": f"dead-letter/{number}"})).json()["audit"]
    assert '-        "quantity": "many"' in deed["detail"]["diff"]
    history = (await http.get("/v1/orders/SO-1/history")).json()["events"]
    assert [one["id"] for one in history] == [parse_structured(GOOD).id]


async def test_an_edit_that_is_refused_is_an_open_letter_of_its_own(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    number = await kept(store)
    worse = BAD.replace(b"many", b"lots").decode()
    answer = (await http.post(f"/v1/dead-letters/{number}:replay", json={"body": worse})).json()
    assert answer["became"] == "refused"
    assert await listed(http) == [answer["number"]]
    assert await listed(http, state="replaced") == [number]


async def test_headers_can_be_edited_and_bodies_be_binary(http: httpx.AsyncClient, store: SqlStore) -> None:
    headers, body = placed().binary()
    await store.keep([(Publication(body, headers | {"ce-time": "yesterday"}), Rejected("time"))])
    (number,) = await listed(http)
    edit = {"headers": headers, "body_base64": base64.b64encode(body).decode()}
    assert (await http.post(f"/v1/dead-letters/{number}:replay", json=edit)).json()["became"] == "taken"
    wrong = await http.post(f"/v1/dead-letters/{number}:replay", json={"body_base64": "%"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "body_base64")


async def test_all_that_a_filter_finds_are_replayed_and_counted(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    good = [await kept(store, placed(order=f"SO-{one}").structured(), "was down") for one in range(5)]
    bad = await kept(store, why="was down")
    other = await kept(store, b"other", "something else")
    answer = (await http.post("/v1/dead-letters:replay", json={"reason": "down"})).json()
    assert answer["taken"] == len(good)
    assert [one["number"] for one in answer["refused"]] == [bad]
    assert sorted(await listed(http)) == [bad, other]


async def test_a_replay_by_filter_is_bounded_and_goes_on_from_its_cursor(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    numbers = [await kept(store, placed(order=f"SO-{one}").structured()) for one in range(5)]
    first = (await http.post("/v1/dead-letters:replay", json={"limit": 3})).json()
    assert (first["taken"], first["next_cursor"]) == (3, numbers[2])
    rest = (await http.post("/v1/dead-letters:replay", json={"cursor": first["next_cursor"]})).json()
    assert (rest["taken"], rest["next_cursor"]) == (2, None)


async def test_a_discard_needs_a_reason_and_is_final_for_that_very_message(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    number = await kept(store)
    for wrong in ({}, {"why": "  "}):
        assert (await http.post(f"/v1/dead-letters/{number}:discard", json=wrong)).status_code == 422
    assert await listed(http) == [number]
    answer = await http.post(f"/v1/dead-letters/{number}:discard", json={"why": "a test message"})
    assert answer.status_code == 200
    await kept(store)
    assert await listed(http) == []
    assert (await http.post("/v1/dead-letters/404:discard", json={"why": "x"})).status_code == 404
    assert (await http.post("/v1/dead-letters/404:replay")).status_code == 404


async def test_discarding_several_needs_a_filter(http: httpx.AsyncClient, store: SqlStore) -> None:
    await kept(store)
    everything = await http.post("/v1/dead-letters:discard", json={"why": "tidy"})
    assert everything.status_code == 422
    some = await http.post("/v1/dead-letters:discard", json={"why": "tidy", "field": "data.lines.0.quantity"})
    assert some.json() == {"discarded": 1, "next_cursor": None}
    assert await listed(http) == []


@pytest.mark.parametrize("path", ["", "/1"])
async def test_dead_letters_ask_for_a_key(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"/v1/dead-letters{path}", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


async def test_a_number_that_was_refused_is_shown_with_its_gap(
    http: httpx.AsyncClient, store: SqlStore
) -> None:
    numbered = [
        tell(f"order/SO-{one}", placed().fact, source="/oms/eu", sequence=one).structured()
        for one in (1, 2, 3)
    ]
    for body in (numbered[0], numbered[2]):
        await http.post("/v1/events", content=body)
    refused = await kept(store, numbered[1].replace(b'"quantity":"10"', b'"quantity":"many"'))
    (gap,) = (await http.get("/v1/gaps")).json()["gaps"]
    assert (gap["first"], gap["dead_letters"]) == (2, [refused])


async def test_open_letters_and_their_age_are_watched(store: SqlStore) -> None:
    await kept(store)
    (letter,) = await store.letters(ANY, 1)
    assert letter.fault is Fault.SENDER
    watch = LetterWatch()
    await watch.look(store, letter.first_seen.replace(year=letter.first_seen.year + 1))
    assert watch.open == 1
    assert watch.oldest_s >= 365 * 86_400
