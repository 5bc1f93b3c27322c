"""What a source has left out is noticed, asked for, and forgotten when it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.backfill import HttpBackfill
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import TransientFailure
from canonical.facts.stock import StockAdjusted
from tests.unit.test_host import messages
from tests.world import DAY, tell
from twins.core.gaps import ASK_AGAIN_AFTER_MAX, Gap, Watch, gaps, plan_asks
from twins.core.rules import Policy
from twins.runtime.gaps import GapWatch
from twins.runtime.host import TwinHost

NOW = datetime(2026, 3, 3, tzinfo=UTC)
PATIENCE = timedelta(seconds=60)
GAP = Gap("/wms/DC-1", 5, 9, DAY)


@given(st.sets(st.integers(0, 60), min_size=1))
def test_gaps_are_the_numbers_between_the_first_and_the_last_that_were_not_told(told: set[int]) -> None:
    found = list(gaps("s", [(number, NOW) for number in sorted(told)]))
    missing = {number for gap in found for number in range(gap.first, gap.last + 1)}
    assert missing == set(range(min(told), max(told) + 1)) - told
    assert all(gap.first - 1 in told and gap.last + 1 in told for gap in found)


def test_a_gap_is_since_the_event_that_shows_it() -> None:
    later = NOW + timedelta(hours=1)
    assert list(gaps("s", [(1, NOW), (4, later)])) == [Gap("s", 2, 3, later)]


def test_it_is_asked_for_after_some_patience_then_ever_more_rarely() -> None:
    now, watched, asked_at = NOW, {}, []
    for _ in range(20_000):
        asking = plan_asks([GAP], watched, now, PATIENCE)
        watched |= {watch.gap.place: watch for watch in (*asking.keep, *asking.ask)}
        asked_at += [now] * len(asking.ask)
        now += timedelta(seconds=10)
    waits = [later - earlier for earlier, later in zip([NOW, *asked_at], asked_at, strict=False)]
    assert waits[:4] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]
    assert waits[-1] == ASK_AGAIN_AFTER_MAX


def test_a_gap_that_has_closed_is_asked_for_no_more() -> None:
    watch = Watch(GAP, NOW)
    asking = plan_asks([], {GAP.place: watch}, NOW + timedelta(days=1), PATIENCE)
    assert (asking.ask, asking.keep, asking.closed) == ([], [], [watch])


# --- with a database


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class Source:
    """Speaks for /wms/DC-1."""

    asked: list[Gap] = field(default_factory=list)
    is_away: bool = False

    async def ask(self, gap: Gap) -> bool:
        if self.is_away:
            raise TransientFailure("connection refused")
        self.asked.append(gap)
        return gap.source == "/wms/DC-1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def counted(number: int):  # type: ignore[no-untyped-def]
    fact = StockAdjusted(adjustment_id=f"A-{number}", delta=1)
    return tell(
        f"stock/S{number % 3}@DC-1", fact, number, id=f"a{number}", source="/wms/DC-1", sequence=number
    )


async def test_a_missing_number_is_asked_for_until_it_comes(store: SqlStore) -> None:
    clock, source = Clock(), Source()
    host = TwinHost("host-0", store, clock, Policy())
    watch = GapWatch(store, source, clock, PATIENCE)
    await host.take(messages(counted(1), counted(2), counted(6)))
    assert await watch.look() == 0
    assert (watch.missing, source.asked) == (3, [])
    clock.at += PATIENCE
    assert await watch.look() == 1
    assert source.asked == [Gap("/wms/DC-1", 3, 5, DAY + timedelta(minutes=6))]
    await host.take(messages(counted(4)))
    await watch.look()
    clock.at += PATIENCE
    await watch.look()
    assert [(gap.first, gap.last) for gap in source.asked[1:]] == [(3, 3), (5, 5)]
    await host.take(messages(counted(3), counted(5)))
    clock.at += timedelta(days=1)
    assert await watch.look() == 0
    assert (watch.missing, await store.watches()) == (0, [])


async def test_a_source_that_is_away_is_asked_again_and_not_counted_as_asked(store: SqlStore) -> None:
    clock, source = Clock(), Source(is_away=True)
    watch = GapWatch(store, source, clock, PATIENCE)
    await TwinHost("host-0", store, clock, Policy()).take(messages(counted(1), counted(3)))
    await watch.look()
    clock.at += PATIENCE
    assert await watch.look() == 0
    (kept,) = await store.watches()
    assert kept.times == 0
    source.is_away = False
    assert await watch.look() == 1


async def test_a_number_told_to_another_twin_is_no_gap(store: SqlStore) -> None:
    await TwinHost("host-0", store, Clock(), Policy()).take(
        messages(*(counted(number) for number in range(9)))
    )
    assert await store.find_gaps() == []


async def test_a_lower_number_that_comes_late_opens_the_gap_before_the_first(store: SqlStore) -> None:
    host = TwinHost("host-0", store, Clock(), Policy())
    await host.take(messages(counted(5), counted(6)))
    assert await store.find_gaps() == []
    await host.take(messages(counted(2)))
    assert [(gap.first, gap.last) for gap in await store.find_gaps()] == [(3, 4)]


async def test_backfill_over_http_tells_whoever_speaks_for_the_longest_prefix() -> None:
    told: list[tuple[str, bytes]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append((str(request.url), request.content))
        status = 503 if "broken" in str(request.url) else 301 if "moved" in str(request.url) else 202
        return httpx.Response(status, headers={"location": "https://elsewhere/"})

    addresses = {
        "/wms/": "http://wms/gaps",
        "/wms/DC-1": "http://dc1/gaps",
        "/edi": "http://broken/",
        "/tms": "http://moved/",
    }
    backfill = HttpBackfill(addresses, transport=httpx.MockTransport(answer))
    assert await backfill.ask(GAP)
    assert await backfill.ask(replace(GAP, source="/wms/DC-2"))
    assert not await backfill.ask(replace(GAP, source="/oms"))
    assert [url for url, _ in told] == ["http://dc1/gaps", "http://wms/gaps"]
    assert b'"first":5' in told[0][1].replace(b" ", b"")
    for source in ("/edi/856", "/tms"):
        with pytest.raises(TransientFailure):
            await backfill.ask(replace(GAP, source=source))
