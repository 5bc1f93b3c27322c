"""Twins as Ray actors: where they are placed, and what happens when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.process import start as start_erp
from canonical.errors import TransientFailure
from canonical.identity import Kind, order
from ops.demo.day import in_order, make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told, told_once
from tests.live.installations import all_stored, assert_equal, broker, publish, running, settings
from tests.stories import ORDER, golden
from twins.ports import Publication
from twins.runtime.coalesce import CoalescedReads
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]

# --- placement -------------------------------------------------------------------------------------------


async def test_a_dedicated_twin_is_an_actor_under_its_own_name(tmp_path: Path) -> None:
    import ray

    async with running(settings(tmp_path, dedicated_kinds=(Kind.ORDER,))) as installation:
        await publish(installation, golden())
        names = {known["name"] for known in ray.util.list_named_actors(all_namespaces=True)}
        assert {f"order/{ORDER}", "host-0", "ingest-0"} <= names
        assert not any(name.startswith("stock/") for name in names)
        await assert_equal(installation, golden())


async def test_two_pooled_hosts_share_the_twins_and_agree(tmp_path: Path) -> None:
    day = make_day(4, 12)
    events = told_once(day, in_order(day))
    async with running(settings(tmp_path, pooled_hosts=2, sweep_every_s=0.5)) as installation:
        await publish(installation, events)
        await assert_equal(installation, events)


# --- failures --------------------------------------------------------------------------------------------


async def test_hosts_ingest_and_gateways_that_die_come_back_and_nothing_is_lost_or_posted_twice(
    tmp_path: Path,
) -> None:
    import ray

    day = make_day(6, 25)
    events = told(day, disorder(day, 6, duplicated=0.2, late=0.3))
    prefix = f"test-{secrets.token_hex(4)}"
    with start_erp() as erp:
        chosen = settings(
            tmp_path,
            amqp_url=broker(),
            amqp_prefix=prefix,
            erp_connector="simulated",
            erp_url=erp.url,
            sweep_every_s=0.5,
        )
        async with running(chosen) as installation:
            dying = ("host-0", "ingest-0", "gateway-main", "host-0", "ingest-0")
            for number, name in enumerate(dying):
                flowing = asyncio.create_task(publish(installation, events[number :: len(dying)]))
                await asyncio.sleep(0.1)
                ray.kill(ray.get_actor(name, "twinsync"), no_restart=False)
                await flowing
            await all_stored(installation, events)
            await assert_equal(installation, events)
            connector = SimulatedErpConnector(erp.url)
            held = await connector.live_documents()
            balance = await connector.trial_balance()
            await connector.close()
            store = installation.store()
            live = await store.live_postings()
            await store.close()
            assert held.doubled == {}
            assert balance.in_balance
            assert len(live) > 100


@pytest.mark.parametrize("frozen", ["host-0", "ingest-0"])
async def test_an_actor_that_freezes_is_replaced_and_what_comes_meanwhile_is_not_lost(
    tmp_path: Path, frozen: str
) -> None:
    import ray

    prefix = f"test-{secrets.token_hex(4)}"
    chosen = settings(tmp_path, amqp_url=broker(), amqp_prefix=prefix, lease_s=2.0, sweep_every_s=0.5)
    async with running(chosen) as installation:
        before = await ray.get_actor(frozen, "twinsync").alive.remote()
        await asyncio.sleep(2 * chosen.lease_s)  # the others have seen it alive
        os.kill(before, signal.SIGSTOP)
        try:
            await publish(installation, golden())
            await all_stored(installation, golden())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, signal.SIGCONT)
        assert await ray.get_actor(frozen, "twinsync").alive.remote() != before
        await assert_equal(installation, golden())


async def test_who_waits_for_news_hears_of_it_though_the_host_dies_meanwhile(tmp_path: Path) -> None:
    import ray

    from twins.runtime.cluster import RayCalls

    async with running(settings(tmp_path)) as installation:
        directory = Directory(installation.placement, RayCalls(installation))
        asked = asyncio.create_task(directory.news(Aspect.DOCUMENT, order(ORDER), None, 60.0))
        await asyncio.sleep(0.5)
        ray.kill(ray.get_actor("host-0", "twinsync"), no_restart=False)
        await asyncio.sleep(0.5)
        assert not asked.done()
        await publish(installation, golden())
        assert await asked


async def test_who_waits_for_a_twin_that_will_have_an_actor_of_its_own_hears_of_it(tmp_path: Path) -> None:
    from twins.runtime.cluster import RayCalls

    async with running(settings(tmp_path, dedicated_kinds=(Kind.ORDER,))) as installation:
        reads = CoalescedReads(Directory(installation.placement, RayCalls(installation)))
        asked = asyncio.create_task(reads.news(Aspect.DOCUMENT, order(ORDER), None, 60.0))
        await asyncio.sleep(0.5)
        assert not asked.done()
        await publish(installation, golden())
        assert await asked


async def test_a_host_that_is_busy_is_not_taken_for_frozen(tmp_path: Path) -> None:
    """While its event loop is held up it still says that it is alive."""
    import ray

    from twins.runtime.cluster import RayCalls

    async with running(settings(tmp_path, lease_s=0.5)) as installation:
        host = ray.get_actor("host-0", "twinsync")
        before = await host.alive.remote()
        day = make_day(8, 700)
        one_batch = [Publication(event.structured()) for event in told_once(day, in_order(day))]
        assert len(one_batch) > 10_000
        await Directory(installation.placement, RayCalls(installation)).take(one_batch)
        assert await host.alive.remote() == before


async def test_an_actor_whose_epoch_was_taken_exits_and_its_callers_are_told_to_come_again(
    tmp_path: Path,
) -> None:
    import ray

    from twins.runtime.cluster import RayCalls

    async with running(settings(tmp_path, pooled_hosts=2, sweep_every_s=0.2)) as installation:
        calls, store = RayCalls(installation), installation.store()
        placement = installation.placement
        mine = {placement.host_of(event.subject): event for event in golden()}
        for host in placement.pooled_names():
            await calls.take_events(host, [mine[host]])
            await store.claim(host)
        for host, ask in (
            ("host-0", lambda: calls.metrics("host-0")),
            ("host-1", lambda: calls.take_events("host-1", [mine["host-1"]])),
        ):
            with pytest.raises(TransientFailure):
                await asyncio.wait_for(_forever(ask), 30)
            async with asyncio.timeout(30):  # Ray lists one for a moment after it has told its callers
                while host in {known["name"] for known in ray.util.list_named_actors(all_namespaces=True)}:
                    await asyncio.sleep(0.05)
        await store.close()


async def _forever(ask: Callable[[], Awaitable[object]]) -> None:
    while True:
        await ask()
        await asyncio.sleep(0.1)


def test_a_local_ray_listens_on_the_loopback() -> None:
    import ray

    assert ray.util.get_node_ip_address() == "127.0.0.1"
