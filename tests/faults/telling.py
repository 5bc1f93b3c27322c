"""Publishers that tell until they are believed, and readers that never stop asking."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from time import monotonic

import httpx

from canonical.envelope import BATCH, Event, batch
from canonical.errors import TransientFailure
from ops.wiring import Installation
from tests.faults.stage import KEY
from twins.ports import Intake, Publication

CHUNK = 10
PUBLISHERS = 4
RETRY_S = 0.3
GIVE_UP_S = 600.0
Send = Callable[[Sequence[Event]], Awaitable[None]]


class NotTaken(Exception):
    """An event that is right was refused: a fault of ours."""


@dataclass
class Log:
    """When each event was first published, and which were acknowledged."""

    published: dict[tuple[str, str], datetime] = field(default_factory=dict)
    acknowledged: int = 0
    repeated: int = 0
    """Times that a chunk had to be told again."""


class Pace:
    """A steady rate; what was held up is not caught up with."""

    def __init__(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._free_at = monotonic()

    async def wait(self, events: int) -> None:
        begins = max(monotonic(), self._free_at)
        self._free_at = begins + events / self._rate_per_s
        await asyncio.sleep(begins - monotonic())


async def tell(events: Sequence[Event], send: Send, rate_per_s: float, log: Log, chunk: int = CHUNK) -> None:
    """Publish at a steady rate from several publishers; returns when all is acknowledged."""
    chunks = iter([events[start : start + chunk] for start in range(0, len(events), chunk)])
    pace = Pace(rate_per_s)
    async with asyncio.TaskGroup() as group:
        for _ in range(PUBLISHERS):
            group.create_task(_tell(chunks, send, pace, log))


async def _tell(chunks: Iterator[Sequence[Event]], send: Send, pace: Pace, log: Log) -> None:
    for chunk in chunks:
        await pace.wait(len(chunk))
        now = datetime.now(UTC)
        for event in chunk:
            log.published.setdefault((event.source, event.id), now)
        await _insist(chunk, send, log)
        log.acknowledged += len(chunk)


async def _insist(chunk: Sequence[Event], send: Send, log: Log) -> None:
    deadline = monotonic() + GIVE_UP_S
    while True:
        try:
            return await send(chunk)
        except TransientFailure:
            if monotonic() > deadline:
                raise
            log.repeated += 1
        await asyncio.sleep(RETRY_S)


def over_http(client: httpx.AsyncClient) -> Send:
    """200 means committed."""

    async def send(chunk: Sequence[Event]) -> None:
        try:
            answer = await client.post("/v1/events", content=batch(chunk), headers={"Content-Type": BATCH})
        except httpx.HTTPError as error:
            raise TransientFailure(repr(error)) from error
        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            raise NotTaken(answer.text)
        if answer.status_code != 200:
            raise TransientFailure(answer.text)

    return send


def over_amqp(installation: Installation, intake: Intake) -> tuple[Send, Callable[[], Awaitable[None]]]:
    """A return means confirmed by the broker. The second function closes it."""
    store = installation.store()
    publisher = installation.publisher(intake, store)

    async def send(chunk: Sequence[Event]) -> None:
        await publisher.publish([Publication(event.structured()) for event in chunk])

    async def close() -> None:
        await publisher.close()
        await store.close()

    return send, close


def client(installation: Installation) -> httpx.AsyncClient:
    settings = installation.settings
    return httpx.AsyncClient(
        base_url=f"http://{settings.http_host}:{settings.http_port}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=httpx.Timeout(30.0),
    )


@dataclass
class Readings:
    answered: int = 0
    failed: int = 0
    slowest_s: float = 0.0


async def read_on(events: Sequence[Event], http: httpx.AsyncClient, found: Readings) -> None:
    """Ask for one order after another, until cancelled."""
    orders = sorted({str(event.subject) for event in events if event.subject.kind == "order"})
    random = Random(0)
    while True:
        started = monotonic()
        try:
            answer = await http.get(f"/v1/twins/{random.choice(orders)}")
            known = answer.status_code in (200, 404)
        except httpx.HTTPError:
            known = False
        found.answered += known
        found.failed += not known
        found.slowest_s = max(found.slowest_s, monotonic() - started)
        await asyncio.sleep(0.05)
