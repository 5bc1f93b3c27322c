"""twinsync dead-letters, against the real API in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import ops.asking
from adapters.http.api import build_api
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from tests.stories import placed
from tests.unit.test_cli import Done, twinsync
from tests.unit.test_host import Clock
from tests.unit.test_http_api import KEY, OneHost, service_of
from twins.core.rules import Policy
from twins.ports import LetterFilter, Publication, Rejected
from twins.runtime.host import TwinHost

GOOD = placed().structured()
BAD = GOOD.replace(b'"quantity":"10"', b'"quantity":"many"')


class Loop(httpx.BaseTransport):
    """Asks an ASGI application from code that does not wait."""

    def __init__(self, store: SqlStore) -> None:
        calls = OneHost(TwinHost("host-0", store, Clock(), Policy()))
        self._transport = httpx.ASGITransport(build_api(service_of(store, calls)))
        self.loop = asyncio.new_event_loop()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.loop.run_until_complete(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(
            httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    transport = Loop(opened)
    transport.loop.run_until_complete(opened.migrate())
    asking = ops.asking.Asking
    monkeypatch.setattr(ops.asking, "Asking", lambda url, key: asking(url, key, transport))
    monkeypatch.setenv("TWINSYNC_API_KEY", KEY["Authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("COLUMNS", "200")
    opened.run = transport.loop.run_until_complete  # type: ignore[attr-defined]
    yield opened
    transport.loop.run_until_complete(opened.close())
    transport.loop.close()


def kept(store: Any, body: bytes = BAD, reason: str = "expected a number") -> str:
    store.run(store.keep([(Publication(body), Rejected(reason, "data.lines.0.quantity"))]))
    return str(store.run(store.letters(LetterFilter(state=None), 1))[0].number)


def letters(*arguments: str | Path, stdin: bytes = b"") -> Done:
    return twinsync("dead-letters", *arguments, stdin=stdin)


def test_the_list_says_what_is_wrong_and_where(store: SqlStore) -> None:
    assert b"No dead letters" in letters("list").stdout
    number = kept(store)
    line = letters("list").stdout.decode().splitlines()[1]
    for said in (number, "sender", "data.lines.0.quantity", "expected a number", "order/SO-1"):
        assert said in line
    assert json.loads(letters("list", "--json").stdout)["dead_letters"][0]["state"] == "open"
    assert b"No dead letters" in letters("list", "--state", "discarded").stdout


def test_a_letter_is_shown_with_its_payload(store: SqlStore) -> None:
    said = letters("show", kept(store)).stdout.decode()
    assert '"quantity": "many"' in said
    assert "the sender's fault" in said
    assert letters("show", "404").returncode == 2


def test_a_replay_says_what_became_of_it(store: SqlStore) -> None:
    done = letters("replay", kept(store))
    assert done.returncode == 1
    assert b"refused again: data.lines.0.quantity" in done.stdout
    done = letters("replay", kept(store, GOOD))
    assert (done.returncode, b"taken (new)" in done.stdout) == (0, True)


def test_a_replay_by_filter_counts(store: SqlStore) -> None:
    for number in range(3):
        kept(store, placed(order=f"SO-{number}").structured(), "was down")
    kept(store, reason="was down")
    assert letters("replay").returncode == 2
    done = letters("replay", "--reason", "down")
    assert done.returncode == 1
    assert b"3 taken, 1 refused again" in done.stdout


def test_an_edit_shows_its_difference_and_is_sent_where_somebody_says_yes(
    store: SqlStore, tmp_path: Path
) -> None:
    number, file = kept(store), tmp_path / "mended.json"
    file.write_bytes(GOOD)
    no = letters("edit", number, "--body", file, stdin=b"n\n")
    assert no.returncode == 1
    assert '-        "quantity": "many"' in no.stderr.decode()
    assert b"is open" in letters("show", number).stdout
    done = letters("edit", number, "--body", file, "--yes")
    assert (done.returncode, b"taken" in done.stdout) == (0, True)
    assert b"is replaced, by oms" in letters("show", number).stdout


def test_an_edit_opens_the_editor(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    number = kept(store)
    monkeypatch.setenv("EDITOR", "sed -i s/many/10/")
    done = letters("edit", number, "--yes")
    assert (done.returncode, b"taken" in done.stdout) == (0, True)
    monkeypatch.setenv("EDITOR", "true")
    assert letters("edit", number, "--yes").returncode == 2


def test_a_discard_says_why(store: SqlStore) -> None:
    number = kept(store)
    assert letters("discard", number).returncode == 2
    assert letters("discard", number, "--why", "a test").returncode == 0
    assert b"a test" in letters("show", number).stdout


def test_discarding_several_asks_first(store: SqlStore) -> None:
    kept(store)
    arguments = ("discard", "--why", "tidy", "--field", "data.lines.0.quantity")
    assert letters("discard", "--why", "tidy").returncode == 2
    assert letters(*arguments, stdin=b"n\n").returncode == 1
    done = letters(*arguments, "--yes")
    assert (done.returncode, b"1 discarded" in done.stdout) == (0, True)
