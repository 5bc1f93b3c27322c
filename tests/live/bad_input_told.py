"""Telling a running twinsync malformed messages, by every way in, and what becomes of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

import httpx
import pika
from aio_pika import DeliveryMode, Message, connect
from pydantic_core import from_json
from sqlalchemy import select

from adapters.amqp.topology import Names
from adapters.sql.store import SqlStore
from adapters.sql.tables import dead_letters
from canonical.envelope import BATCH, STRUCTURED
from tests.live.bad_input import Bad, bad_input, good_event
from tests.unit.test_x12_partner import ORDER_850
from tests.unit.test_x12_partner import message as x12

GOOD_EVERY = 5
"""One good message among so many bad ones."""
MARK = "x-test-number"
TOO_LARGE = 413
WAIT_S = 300


@dataclass(frozen=True)
class Ended:
    kind: str
    way: str
    how: str
    reason: str
    right: bool
    """Refused, by a reason that names the field."""


def goods(count: int, by: str) -> list[dict[str, object]]:
    """Good events to go in among *count* bad ones."""
    return [good_event(f"good-{by}-{number}") for number in range(0, count, GOOD_EVERY)]


# --- HTTP ------------------------------------------------------------------------------------------------


async def by_http(http: httpx.AsyncClient, seed: int, count: int) -> list[Ended]:
    """In turn: structured, binary, in a batch among good ones, and as a webhook."""
    ended: list[Ended] = []
    kept = iter(goods(count, "http"))
    for number, bad in enumerate(bad_input(seed, count)):
        if number % GOOD_EVERY == 0:
            answer = await http.post("/v1/events", content=json.dumps(next(kept)))
            assert answer.status_code < 300, answer.text
        way, path, headers, body = _request(number, bad)
        answer = await http.post(path, content=body, headers=headers)
        ended.append(_answered(bad, way, answer))
    return ended


def _request(number: int, bad: Bad) -> tuple[str, str, dict[str, str], bytes]:
    match number // 2 % 5:
        case 0:
            return "HTTP structured", "/v1/events", {"Content-Type": STRUCTURED}, bad.structured
        case 1:
            coded = {name: quote(value, safe=" /:#@.+") for name, value in bad.headers.items()}
            return "HTTP binary", "/v1/events", {**coded, "Content-Type": "application/json"}, bad.data
        case 2:
            good = json.dumps(good_event(f"never-{number}")).encode()
            batch = b"[" + good + b"," + bad.structured + b"," + good + b"]"
            return "HTTP batch", "/v1/events", {"Content-Type": BATCH}, batch
        case 3:
            return "webhook", "/v1/webhooks/canonical/bad", {"Content-Type": STRUCTURED}, bad.structured
        case _:
            return _partner(number, bad)


def _partner(number: int, bad: Bad) -> tuple[str, str, dict[str, str], bytes]:
    """A partner's webhook, in another partner's format or cut off: no reason is expected of it but some."""
    if number % 2:
        told = x12("850", ORDER_850)
        return "X12 webhook", "/v1/webhooks/x12/bad", {}, told[: Random(number).randrange(1, len(told) - 2)]
    headers = {"X-Shopify-Topic": "orders/create"}
    return "Shopify webhook", "/v1/webhooks/shopify/bad", headers, bad.structured


def _answered(bad: Bad, way: str, answer: httpx.Response) -> Ended:
    told = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    reason, at = str(told.get("detail", answer.text)), str(told.get("field", ""))
    if at.startswith("1.") or at == "1":
        at = at[2:]
    refused = answer.status_code == TOO_LARGE or (answer.status_code == 422 and bool(reason))
    named = way.startswith(("X12", "Shopify")) or answer.status_code == TOO_LARGE or bad.names(at)
    how = f"refused, {answer.status_code}" if 400 <= answer.status_code < 500 else str(answer.status_code)
    return Ended(bad.kind.name, way, how, f"{at}: {reason}" if at else reason, refused and named)


# --- AMQP ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letter:
    """A message on its way, with the mark that its dead letter will be known by."""

    body: bytes
    headers: dict[str, str]
    content_type: str
    routing_key: str


async def by_amqp(url: str, names: Names, store: SqlStore, seed: int, count: int) -> list[Ended]:
    """In turn: structured and binary, by aio-pika and by pika."""
    bads = list(bad_input(seed, count))
    letters = [_letter(number, bad) for number, bad in enumerate(bads)]
    kept = [
        Letter(json.dumps(one).encode(), {}, STRUCTURED, str(one["type"])) for one in goods(count, "amqp")
    ]
    mine = [letter for number, letter in enumerate(letters) if number // 2 % 2 == 0]
    others = [letter for number, letter in enumerate(letters) if number // 2 % 2]
    await asyncio.gather(
        _publish(url, names, [*_interleaved(mine, kept)]), asyncio.to_thread(_by_pika, url, names, others)
    )
    found = await _found(store, count)
    return [_ended(number, bad, found.get(number)) for number, bad in enumerate(bads)]


def _way(number: int) -> str:
    return f"AMQP {'binary' if number % 2 else 'structured'}{', pika' if number // 2 % 2 else ''}"


def _letter(number: int, bad: Bad) -> Letter:
    event_type = str(bad.event.get("type", "none"))
    routing_key = event_type if len(event_type) < 255 else "long"
    if number % 2:
        return Letter(bad.data, {**bad.headers, MARK: str(number)}, "application/json", routing_key)
    return Letter(bad.structured, {MARK: str(number)}, STRUCTURED, routing_key)


def _interleaved(bad: Sequence[Letter], good: Sequence[Letter]) -> Iterable[Letter]:
    rest = iter(good)
    for number, letter in enumerate(bad):
        yield letter
        if number % 2 and (one := next(rest, None)) is not None:
            yield one
    yield from rest


async def _publish(url: str, names: Names, letters: Sequence[Letter]) -> None:
    async with await connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(names.events)
        for one in letters:
            message = Message(
                one.body,
                headers=dict(one.headers),
                content_type=one.content_type,
                delivery_mode=DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, one.routing_key)


def _by_pika(url: str, names: Names, letters: Sequence[Letter]) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for one in letters:
        properties = pika.BasicProperties(
            content_type=one.content_type, headers=dict(one.headers), delivery_mode=2
        )
        channel.basic_publish(names.events, one.routing_key, one.body, properties)
    connection.close()


async def _found(store: SqlStore, count: int) -> dict[int, tuple[str, str]]:
    """Field and reason of each letter, by its mark, once all are there or none has come for long."""
    columns = (dead_letters.c.headers, dead_letters.c.field, dead_letters.c.reason)
    async with asyncio.timeout(WAIT_S):
        while True:
            rows = await store._rows(select(*columns))
            found = {
                int(headers[MARK]): (row["field"], row["reason"])
                for row in rows
                if MARK in (headers := from_json(row["headers"]))
            }
            if len(found) >= count:
                return found
            await asyncio.sleep(0.5)


def _ended(number: int, bad: Bad, letter: tuple[str, str] | None) -> Ended:
    if letter is None:
        return Ended(bad.kind.name, _way(number), "lost", "", False)
    at, reason = letter
    return Ended(
        bad.kind.name,
        _way(number),
        "dead letter",
        f"{at}: {reason}" if at else reason,
        bool(reason) and bad.names(at),
    )


async def stored_at_last(store: SqlStore, expected: int) -> int:
    """How many events are stored, once they are as many as expected, or none has come for long."""
    stored = 0
    for _ in range(WAIT_S):
        stored = sum((await store.arrivals()).values())
        if stored >= expected:
            break
        await asyncio.sleep(1)
    return stored
