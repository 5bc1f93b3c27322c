"""Ingest actors come and go with what waits in RabbitMQ, and any of them may die."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest

from canonical.envelope import Event
from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.local import quiet
from ops.wiring import Installation
from tests.live.installations import all_stored, assert_equal, broker, publish, running, settings
from twins.runtime.ingests import ingest_names

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]

LEISURELY = {"batch_size_max": 1, "prefetch": 50}
"""One message at a time, so that much waits on any machine."""
HASTY = {"ingest_deep": 300, "ingest_grow_after_s": 0.5, "ingest_shrink_after_s": 2.0, "sweep_every_s": 0.25}


def a_day(orders: int) -> list[Event]:
    day = make_day(9, orders)
    return told(day, disorder(day, 9, duplicated=0.1, late=0.2))


def chosen(folder: Path, **more: Any) -> Any:
    return settings(folder, amqp_url=broker(), amqp_prefix=f"test-{secrets.token_hex(4)}", **more)


async def figures(installation: Installation) -> dict[str, float]:
    from twins.runtime import cluster

    return (await cluster.metrics(installation)).get(("host", "host-0"), {})


async def consumed(installation: Installation) -> float:
    """By the ingests that run."""
    from twins.runtime import cluster

    figures = await cluster.metrics(installation)
    return sum(one["consumed"] for (role, _), one in figures.items() if role == "ingest")


def ingests() -> list[str]:
    import ray

    return ingest_names([one["name"] for one in ray.util.list_named_actors(all_namespaces=True)])


async def test_while_much_waits_a_second_ingest_comes_and_then_it_goes_and_each_message_was_taken_once(
    tmp_path: Path,
) -> None:
    """All of it waits before anybody consumes."""
    events, to = a_day(70), chosen(tmp_path, ingest_max=2, **LEISURELY, **HASTY)
    await publish(Installation(to), events)
    async with running(to) as installation:
        seen: list[dict[str, float]] = []
        async with asyncio.timeout(60):
            while ingests() != ["ingest-0", "ingest-1"]:
                await asyncio.sleep(0.1)
                seen.append(await figures(installation))
        totals = await quiet(installation, len(events))
        assert max(one.get("queue_events", 0) + one.get("queue_bulk", 0) for one in seen) > 300
        async with asyncio.timeout(30):
            while ingests() != ["ingest-0"]:
                await asyncio.sleep(0.1)
        assert (await figures(installation))["ingest_actors"] == 1
        assert totals["events"] + totals["duplicates"] == len(events)
        assert totals["events"] == len({event.event_id for event in events})
        before = await consumed(installation)
        await publish(installation, events[:10])
        async with asyncio.timeout(30):
            while await consumed(installation) != before + 10:
                await asyncio.sleep(0.1)
        await assert_equal(installation, events)
    assert ingests() == []


async def test_one_of_two_ingests_is_killed_while_events_come_and_nothing_is_lost(tmp_path: Path) -> None:
    import ray

    events = a_day(40)
    async with running(chosen(tmp_path, ingest_min=2, pooled_hosts=2, sweep_every_s=0.5)) as installation:
        assert ingests() == ["ingest-0", "ingest-1"]
        before = await ray.get_actor("ingest-1", "twinsync").alive.remote()
        telling = asyncio.create_task(publish(installation, events))
        await asyncio.sleep(0.1)
        os.kill(before, signal.SIGKILL)
        await telling
        await _until_another("ingest-1", before)
        await all_stored(installation, events)
        await assert_equal(installation, events)
        assert ingests() == ["ingest-0", "ingest-1"]


async def _until_another(name: str, before: int) -> None:
    """Until an actor of that name answers from another process."""
    import ray
    from ray.exceptions import RayActorError

    async with asyncio.timeout(90):
        while True:
            try:
                if await ray.get_actor(name, "twinsync").alive.remote() != before:
                    return
            except RayActorError:
                await asyncio.sleep(0.1)
