"""The number of hosts changes, and a hot twin gets an actor and loses it, while a day of events comes."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from adapters.sql.store import SqlStore
from canonical.envelope import Event
from ops.demo.day import in_order, make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told, told_once
from ops.wiring import Installation
from tests.live.installations import assert_equal, broker, publish, running, settings
from tests.stories import golden
from twins.core.placement import Placement
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]

AT_ONCE, KEPT = 20, 40


@pytest.mark.parametrize("way", ["embedded", "rabbitmq"])
async def test_hosts_and_hot_twins_change_while_events_come_and_nothing_is_lost_or_told_twice(
    tmp_path: Path, way: str
) -> None:
    from twins.runtime import placing
    from twins.runtime.cluster import running_hosts

    day = make_day(9, 40)
    events = told(day, disorder(day, 9, duplicated=0.2, late=0.3))
    more = {} if way == "embedded" else {"amqp_url": broker(), "amqp_prefix": f"test-{secrets.token_hex(4)}"}
    chosen = settings(tmp_path, pooled_hosts=2, sweep_every_s=0.5, **more)
    hot = Counter(event.subject for event in events).most_common(1)[0][0]
    async with running(chosen) as installation:
        store = installation.store()
        changed = asyncio.Event()
        telling = asyncio.create_task(_tell(installation, events, changed))
        await _taken(store, 40)

        async def change(made: Awaitable[Placement], hosts: set[str]) -> None:
            before = sum((await store.arrivals()).values())
            await made
            await _until(lambda: set(running_hosts()) == hosts)
            assert not telling.done(), "events must come all the while"
            await _taken(store, before + 40)

        pooled = {"host-0", "host-1", "host-2"}
        await change(placing.resize(installation, store, 3), pooled)
        await change(placing.pin(installation, store, hot), {*pooled, str(hot)})
        await change(placing.resize(installation, store, 1), {"host-0", str(hot)})
        await change(placing.unpin(installation, store, hot), {"host-0"})
        changed.set()
        await telling
        await _until_stored(store, len({event.event_id for event in events}))
        distinct = {event.event_id: event for event in reversed(events)}.values()
        await assert_equal(installation, list(distinct)[::-1])
        await store.close()


async def _tell(installation: Installation, events: list[Event], changed: asyncio.Event) -> None:
    """Some at a time until all changes are made, then the rest at once; some are kept for then."""
    left = list(events)
    while len(left) > KEPT and not changed.is_set():
        await publish(installation, left[:AT_ONCE])
        del left[:AT_ONCE]
        await asyncio.sleep(0.1)
    await changed.wait()
    await publish(installation, left)


async def _taken(store: SqlStore, many: int) -> None:
    async with asyncio.timeout(60):
        while sum((await store.arrivals()).values()) < many:
            await asyncio.sleep(0.1)


async def _until_stored(store: SqlStore, many: int) -> None:
    await _taken(store, many)
    assert sum((await store.arrivals()).values()) == many


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not holds():
            await asyncio.sleep(0.1)


async def test_settings_that_were_changed_hold_at_the_next_start_and_else_what_somebody_said_since(
    tmp_path: Path,
) -> None:
    from twins.runtime import placing
    from twins.runtime.cluster import running_hosts

    day = make_day(4, 12)
    events = told_once(day, in_order(day))
    async with running(settings(tmp_path, pooled_hosts=2, sweep_every_s=0.5)) as installation:
        store = installation.store()
        await placing.resize(installation, store, 3)
        await publish(installation, events[: len(events) // 2])
        await store.close()
    for hosts, found in ((2, 3), (1, 1)):
        async with running(settings(tmp_path, pooled_hosts=hosts, sweep_every_s=0.5)) as installation:
            assert len(running_hosts()) == found
            await publish(installation, events)
            await assert_equal(installation, events)


async def test_a_twin_that_was_unpinned_behind_its_actors_back_leaves_no_actor(tmp_path: Path) -> None:
    """Whoever unpinned it died before ending the actor. Who has not heard of it starts it again, in vain."""
    from twins.runtime import cluster, placing
    from twins.runtime.cluster import RayCalls, running_hosts

    subject = golden()[0].subject
    async with running(settings(tmp_path, sweep_every_s=0.2)) as installation:
        store = installation.store()
        pinned = await placing.pin(installation, store, subject)
        await publish(installation, golden())
        assert (await cluster.metrics(installation))["host", str(subject)]["events"] > 0
        await store.place(lambda now: Placement(now.pooled_hosts))
        await _until(lambda: running_hosts() == ["host-0"])
        stale = Directory(pinned, RayCalls(installation))
        await stale.take_events(golden())
        assert (await stale.read(Aspect.DOCUMENT, [subject]))[0] is not None
        assert stale.placement == await store.placement()
        await placing.unpin(installation, store, subject)
        await _until(lambda: running_hosts() == ["host-0"])
        await assert_equal(installation, golden())
        await store.close()
