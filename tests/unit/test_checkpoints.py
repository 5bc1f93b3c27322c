"""A long history is not read whole to go on with it, and nothing that comes late, twice or anew is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic_core import from_json, to_json
from sqlalchemy import select, update

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from adapters.sql.tables import checkpoints
from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.stock import StockAdjusted, StockCounted
from canonical.identity import twin_ref
from tests.stories import LOCATION, SKU, dispatched, master_data, placed
from tests.unit.test_host import Clock, messages
from tests.world import World, tell
from twins.core.history import Arrival
from twins.core.rules import Policy
from twins.ports import Taken
from twins.runtime.host import Aspect, Residency, TwinHost

STOCK = twin_ref(f"stock/{SKU}@{LOCATION}")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def host(store: SqlStore) -> TwinHost:
    return TwinHost("host-0", store, Clock(), Policy(), residency=Residency(twins_max=2))


def adjusted(number: int, minute: int | None = None, *, id: str | None = None, delta: int = 1) -> Event:
    fact = StockAdjusted(adjustment_id=f"A-{number}", delta=delta)
    at = number if minute is None else minute
    return tell(STOCK, fact, at, id=id or f"a{number}", source="/test/wms")


def long_history(length: int = 300) -> list[Event]:
    counts = [
        tell(STOCK, StockCounted(count_id=f"C-{at}", quantity=90 + at), at, id=f"c{at}", source="/test/wms")
        for at in range(50, length, 75)
    ]
    story = [*master_data(), placed(10), dispatched("SHP-1", 6, 60)]
    return [*story, *(adjusted(number) for number in range(length)), *counts]


async def assert_same(store: SqlStore, events: Sequence[Event]) -> None:
    expected = World().take_each(events)
    one = host(store)
    for ref, twin in expected.twins.items():
        (answer,) = await one.read(Aspect.DOCUMENT, [ref])
        assert answer is not None
        found = from_json(answer[1])
        del found["version"]
        assert found == from_json(to_json(twin.snapshot().document())), ref
    live = await store.live_postings()
    assert {key: record.posting for key, record in live.items()} == expected.live()


async def deliver(store: SqlStore, events: Sequence[Event], size: int = 40) -> None:
    """Every batch to a new incarnation that remembers nothing."""
    for start in range(0, len(events), size):
        await host(store).take(messages(*events[start : start + size]))


async def test_a_long_history_is_resumed_from_its_checkpoint(store: SqlStore) -> None:
    events = long_history()
    await deliver(store, events)
    stored = (await store.load([STOCK]))[STOCK]
    assert not stored.is_whole
    assert stored.checkpoint is not None
    assert stored.checkpoint.count >= 200
    assert len(stored.events) < 110
    assert len((await store.load([STOCK], whole=True))[STOCK].events) == 305
    await assert_same(store, events)


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_and_repetition_with_checkpoints_is_the_same_truth(
    store: SqlStore, seed: int
) -> None:
    random, events = Random(seed), long_history(200)
    again = events + random.sample(events, k=60)
    places = {number: number + random.expovariate(1 / 30) for number in range(len(again))}
    await deliver(store, [again[number] for number in sorted(places, key=places.__getitem__)], 25)
    await assert_same(store, events)


async def test_an_event_before_the_checkpoint_goes_where_it_belongs(store: SqlStore) -> None:
    events, late = long_history(), adjusted(900, 3, delta=7)
    await deliver(store, events)
    await host(store).take(messages(late))
    await assert_same(store, [*events, late])


async def test_an_event_that_the_checkpoint_stands_for_is_known(store: SqlStore) -> None:
    events = long_history()
    await deliver(store, events)
    (verdict,) = await host(store).take(messages(adjusted(5)))
    assert verdict == Taken(Arrival.DUPLICATE)


async def test_a_known_id_with_other_content_after_the_checkpoint_is_a_conflict(store: SqlStore) -> None:
    events, other = long_history(), adjusted(5, 5_000, id="a5", delta=99)
    await deliver(store, events)
    (verdict,) = await host(store).take(messages(other))
    assert verdict == Taken(Arrival.CONFLICT)
    await assert_same(store, [*events, other])
    assert (await store.load([STOCK]))[STOCK].checkpoint is None


async def test_a_retraction_of_what_the_checkpoint_stands_for_takes_it_back(store: SqlStore) -> None:
    events = long_history()
    gone = tell(STOCK, Retracted(source="/test/wms", id="a5"), 6_000, source="/test/wms")
    await deliver(store, events)
    await host(store).take(messages(gone))
    await assert_same(store, [*events, gone])


async def test_a_checkpoint_that_other_code_made_is_not_used_and_is_replaced(store: SqlStore) -> None:
    events = long_history()
    await deliver(store, events)
    async with store._writer.begin() as connection:
        await connection.execute(update(checkpoints).values(code="another", body=b"not a pickle"))
    assert (await store.load([STOCK]))[STOCK].is_whole
    more = adjusted(400)
    await host(store).take(messages(more))
    assert not (await store.load([STOCK]))[STOCK].is_whole
    await assert_same(store, [*events, more])


async def test_a_checkpoint_that_other_code_made_goes_where_none_can_replace_it(store: SqlStore) -> None:
    """Else that code, were it to come back, would go on from a fold that lacks what came since."""
    await deliver(store, long_history())
    async with store._writer.begin() as connection:
        await connection.execute(update(checkpoints).values(code="another"))
    await host(store).take(messages(adjusted(5, 5_000, id="a5", delta=99)))
    async with store._reader.connect() as connection:
        assert (await connection.execute(select(checkpoints))).all() == []
