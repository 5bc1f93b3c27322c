"""From publishing to being visible over HTTP, while a load that waits for nobody goes on.

An open loop: each message has its moment, and what is late is counted from then, so that a service which
stalls cannot make the measurement wait with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from adapters.amqp.link import Patience
from adapters.amqp.publisher import AmqpPublisher
from canonical.envelope import Event
from ops.bench.asking import Line, percentile
from twins.ports import Publication

TICK_S = 0.01
PROBE_EVERY_S = 0.05
LOOK_EVERY_S, LOOK_EVERY = 0.01, 0.1
"""Seconds, and share of what has passed: whoever waits long asks less often, or looking would be the load."""
GIVE_UP_S = 30.0
PATIENCE = Patience(publish_s=120.0)
"""Under more load than the machine carries confirms come late, which is to be seen and not to end it."""


@dataclass(frozen=True, slots=True)
class Visible:
    """How long until what was published could be read, in ms; *sent*: messages a second that were sent."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    sent: float
    probes: int


class OpenLoop:
    """Publishes messages at a rate, whatever becomes of those before."""

    async def publish(self, url: str, prefix: str, messages: Sequence[Publication], rate: float) -> float:
        """Seconds from the first to the last confirm."""
        publisher = AmqpPublisher(url, prefix=prefix, patience=PATIENCE)
        began, sent, waiting = time.perf_counter(), 0, set[asyncio.Task[None]]()
        while sent < len(messages):
            due = min(len(messages), int((time.perf_counter() - began) * rate) + 1)
            if due > sent:
                task = asyncio.create_task(publisher.publish(messages[sent:due]))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                sent = due
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*waiting)
        lasted = time.perf_counter() - began
        await publisher.close()
        return lasted


async def measure_latency(
    amqp_url: str,
    prefix: str,
    address: tuple[str, int],
    messages: Sequence[Publication],
    probes: Sequence[Event],
    rate: float,
) -> Visible:
    """Publish *messages* at *rate* a second, and beside them *probes*, orders that nobody has heard of."""
    load = ray.remote(num_cpus=0)(OpenLoop).remote()
    publisher = AmqpPublisher(amqp_url, prefix=prefix, patience=PATIENCE)
    await publisher.publish([])
    try:
        loading = asyncio.ensure_future(_awaited(load.publish.remote(amqp_url, prefix, messages, rate)))
        latencies = await _probe(publisher, address, probes, loading)
        lasted = await loading
    finally:
        await publisher.close()
        ray.kill(load)
    values = [one * 1e3 for one in latencies]
    return Visible(
        percentile(values, 0.5), percentile(values, 0.99), max(values), len(messages) / lasted, len(values)
    )


async def _awaited(answer: Any) -> float:
    return float(await answer)


async def _probe(
    publisher: AmqpPublisher,
    address: tuple[str, int],
    probes: Sequence[Event],
    loading: asyncio.Future[float],
) -> list[float]:
    """Seconds of each probe, from the moment that it was meant to be published."""
    began, asking = time.perf_counter(), []
    for number, probe in enumerate(probes):
        due = began + number * PROBE_EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if loading.done():
            break
        asking.append(asyncio.create_task(until_visible(publisher, address, probe, due)))
    return list(await asyncio.gather(*asking))


async def until_visible(
    publisher: AmqpPublisher, address: tuple[str, int], probe: Event, due: float
) -> float:
    async with Line(*address) as line, asyncio.TaskGroup() as group:
        group.create_task(publisher.publish([Publication(probe.structured())]))
        while (status := await line.ask(f"/v1/twins/{probe.subject}")) != 200:
            if time.perf_counter() - due > GIVE_UP_S:
                raise RuntimeError(f"{probe.subject} is answered with {status} after {GIVE_UP_S:g} s")
            await asyncio.sleep(max(LOOK_EVERY_S, LOOK_EVERY * (time.perf_counter() - due)))
        return time.perf_counter() - due
