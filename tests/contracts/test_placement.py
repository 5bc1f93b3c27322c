"""Where twins live changes while hosts run: whoever commits owns what it touches; on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from adapters.sql.placements import assert_placed
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Elsewhere, Fenced
from canonical.facts.order import OrderValidated
from canonical.identity import Kind, TwinRef, order
from tests.stories import placed
from tests.unit.test_host import Clock, document
from tests.world import tell
from twins.core.batch import Effects
from twins.core.contributions import Contribution, Interest
from twins.core.history import Arrival
from twins.core.placement import Placement
from twins.core.rules import Policy
from twins.ports import Taken
from twins.runtime.host import Aspect, TwinHost

HOT, COLD = order("SO-HOT"), order("SO-COLD")


def about(ref: TwinRef) -> Event:
    return placed(order=ref.key)


def more(ref: TwinRef, number: int) -> Event:
    return tell(str(ref), OrderValidated(), number)


def pinned(now: Placement) -> Placement:
    return replace(now, pinned=now.pinned | {HOT})


def unpinned(now: Placement) -> Placement:
    return replace(now, pinned=now.pinned - {HOT})


def host(store: SqlStore, name: str = "host-0") -> TwinHost:
    return TwinHost(name, store, Clock(), Policy())


async def version(one: TwinHost) -> int:
    (answer,) = await one.read(Aspect.DOCUMENT, [HOT])
    assert answer is not None
    return answer[0]


@pytest.fixture
async def crowd(store: SqlStore) -> TwinHost:
    """A host that has both in memory."""
    one = host(store)
    await one.take_events([about(HOT), about(COLD)])
    return one


async def test_a_host_that_has_not_heard_of_a_change_commits_what_is_still_its_own(
    store: SqlStore, crowd: TwinHost
) -> None:
    await store.place(pinned)
    assert await crowd.take_events([more(COLD, 1)]) == [Taken(Arrival.NEW)]


async def test_a_host_that_has_not_heard_of_a_change_commits_nothing_that_has_moved(
    store: SqlStore, crowd: TwinHost
) -> None:
    await store.place(pinned)
    with pytest.raises(Elsewhere) as refused:
        await crowd.take_events([more(COLD, 1), more(HOT, 1)])
    assert refused.value.placement.host_of(HOT) == str(HOT)
    assert len(await store.history(HOT)) == len(await store.history(COLD)) == 1
    assert await host(store, str(HOT)).take_events([more(HOT, 1)]) == [Taken(Arrival.NEW)]
    assert await crowd.take_events([more(COLD, 1)]) == [Taken(Arrival.NEW)], "and it forgot that it knew"


async def test_it_forgets_what_has_moved_and_nothing_else(store: SqlStore, crowd: TwinHost) -> None:
    before = crowd.resident_twins()
    await store.place(pinned)
    await crowd.look()
    assert crowd.resident_twins() == before - 1
    loaded = crowd.counts.activations
    await crowd.take_events([more(COLD, 1)])
    assert crowd.counts.activations == loaded


async def test_a_batch_that_was_refused_costs_its_own_twins_alone(store: SqlStore, crowd: TwinHost) -> None:
    others = [about(order(f"SO-{number}")) for number in range(5)]
    await crowd.take_events(others)
    await store.place(pinned)
    with pytest.raises(Elsewhere):
        await crowd.take_events([more(HOT, 1), more(COLD, 1)])
    loaded = crowd.counts.activations
    await crowd.take_events([more(event.subject, 2) for event in others])
    assert crowd.counts.activations == loaded


async def test_a_twin_that_went_and_came_back_is_not_what_its_host_remembers(
    store: SqlStore, crowd: TwinHost
) -> None:
    """Even where the host had no occasion to hear that it was gone."""
    await store.place(pinned)
    away = host(store, str(HOT))
    await away.take_events([more(HOT, 1)])
    before = await version(away)
    await store.place(unpinned)
    assert await crowd.take_events([more(HOT, 2)]) == [Taken(Arrival.NEW)]
    assert await crowd.take_events([more(HOT, 1)]) == [Taken(Arrival.DUPLICATE)]
    with pytest.raises(Elsewhere):
        await away.take_events([more(HOT, 3)])
    assert await version(crowd) > before


@pytest.mark.parametrize("heard", ["of each change", "of the last alone"])
async def test_a_twin_that_comes_back_is_read_anew(store: SqlStore, crowd: TwinHost, heard: str) -> None:
    await store.place(pinned)
    if heard == "of each change":
        await crowd.look()
    away = host(store, str(HOT))
    await away.take_events([more(HOT, 1)])
    before = await version(away)
    await store.place(unpinned)
    await crowd.look()
    await crowd.take_events([more(HOT, 2)])
    assert await version(crowd) > before


async def test_what_follows_upon_a_batch_that_was_refused_is_folded_anew(
    store: SqlStore, crowd: TwinHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was folded on top. Nothing of the first stays in memory."""
    gate, commit = asyncio.Event(), store.commit

    async def slow(*batch: object) -> None:
        await gate.wait()
        await commit(*batch)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "commit", slow)
    await store.place(pinned)
    first = asyncio.create_task(crowd.take_events([more(HOT, 1)]))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(crowd.take_events([more(COLD, 1)]))
    await asyncio.sleep(0.05)
    gate.set()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(answers[0], Elsewhere)
    assert answers[1] == [Taken(Arrival.NEW)]
    stored = await store.load([HOT, COLD])
    kept = {event.event_id for one in stored.values() for event in one.events}
    assert more(COLD, 1).event_id in kept
    assert more(HOT, 1).event_id not in kept
    assert HOT not in crowd._twins


async def test_events_of_other_hosts_are_refused_before_they_are_folded(store: SqlStore) -> None:
    await store.place(pinned)
    one = host(store)
    with pytest.raises(Elsewhere):
        await one.take_events([about(HOT)])
    with pytest.raises(Elsewhere):
        await document(one, HOT)
    assert one.resident_twins() == 0
    assert await store.history(HOT) == []


async def test_mail_for_a_twin_that_has_moved_waits_for_its_host(store: SqlStore, crowd: TwinHost) -> None:
    letter = Contribution(order("SO-ELSEWHERE"), HOT, 1, Interest())
    sender = await store.claim("host-9")
    await store.commit("host-9", sender, Effects(mail={(letter.target, letter.source): letter}), ())
    await store.place(pinned)
    with pytest.raises(Elsewhere):
        await crowd.absorb([letter])
    with pytest.raises(Elsewhere):
        await crowd.absorb([letter])
    await crowd.take_events([more(COLD, 1)])
    assert await store.mail(5) == [letter]
    await host(store, str(HOT)).absorb([letter])
    assert await store.mail(5) == []


async def test_a_twin_that_has_moved_is_not_archived_by_its_old_host(store: SqlStore) -> None:
    known = await store.placement()
    epoch = await store.claim("host-0")
    await store.place(pinned)
    with pytest.raises(Elsewhere):
        await store.archive("host-0", epoch, [HOT], known)
    await store.archive("host-0", epoch, [COLD], known)
    await store.claim("host-0")
    with pytest.raises(Fenced):
        await store.archive("host-0", epoch, [COLD], known)


@pytest.fixture
async def second(database_url: str, store: SqlStore) -> AsyncIterator[SqlStore]:
    opened = SqlStore(database_url)
    yield opened
    await opened.close()


async def test_a_change_waits_for_the_commit_under_way(store: SqlStore, second: SqlStore) -> None:
    known = await store.placement()
    epoch = await store.claim("host-0")
    async with store._writer.begin() as connection:
        await connection.run_sync(assert_placed, "host-0", epoch, known, [HOT])
        placing = asyncio.create_task(second.place(pinned))
        await asyncio.sleep(0.3)
        assert not placing.done()
    assert (await placing).version == known.version + 1


async def test_a_host_that_starts_during_a_change_is_held_to_it(store: SqlStore, second: SqlStore) -> None:
    """Its row is not among those that the change has locked."""
    from adapters.sql.placements import _place

    async with store._writer.begin() as connection:
        now = await connection.run_sync(_place, pinned)
        claiming = asyncio.create_task(second.claim("host-0"))
        await asyncio.sleep(0.3)
        assert not claiming.done()
    assert await second.assert_epoch("host-0", await claiming) == now.version


async def test_changes_at_the_same_time_are_all_made(store: SqlStore, second: SqlStore) -> None:
    def also(number: int) -> Callable[[Placement], Placement]:
        return lambda now: replace(now, pinned=now.pinned | {order(f"SO-{number}")})

    stores = [store, second]
    await asyncio.gather(*(stores[number % 2].place(also(number)) for number in range(6)))
    now = await store.placement()
    assert (len(now.pinned), now.version) == (6, 6)


async def test_what_was_said_last_holds_settings_or_operator(store: SqlStore) -> None:
    two, three = Placement(2, frozenset({Kind.ERP})), Placement(3)
    assert (await store.configure(two)).pooled_hosts == 2
    await store.place(lambda now: replace(now, pooled_hosts=5, pinned=frozenset({HOT})))
    again = await store.configure(two)
    assert (again.pooled_hosts, again.version) == (5, 2), "another start, the same settings"
    now = await store.configure(three)
    assert now == Placement(3, frozenset(), frozenset({HOT}), 3)
    assert await store.placement() == now


async def test_a_host_with_timers_goes_by_a_change_by_itself(store: SqlStore, crowd: TwinHost) -> None:
    before = crowd.resident_twins()
    await store.place(pinned)
    timers = asyncio.create_task(crowd.run_timers(timedelta(milliseconds=10)))
    async with asyncio.timeout(20):
        while crowd.resident_twins() == before:
            await asyncio.sleep(0.01)
    timers.cancel()
