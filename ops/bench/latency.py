"""From publishing to being visible over HTTP, while a load that waits for nobody goes on.

An open loop: each message has its moment, and what is late is counted from then, so that a service which
stalls cannot make the measurement wait with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.amqp.link import Patience
from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import Names
from canonical.envelope import Event
from ops.bench.asking import Line, percentile
from ops.bench.flood import Flood, flooding
from twins.ports import Publication

PROBE_EVERY_S = 0.1
PREFER = "Prefer: wait=5"
"""Who asks again and again is a load, and learns late."""
AGAIN_S = 0.01
GIVE_UP_S = 30.0
PATIENCE = Patience(publish_s=120.0)
"""Under more load than the machine carries confirms come late, which is to be seen and not to end it."""


@dataclass(frozen=True, slots=True)
class Visible:
    """How long until what was published could be read, in ms; *sent*: messages a second that came."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    confirmed_p50_ms: float
    confirmed_p99_ms: float
    """Until the broker had it: nothing can be visible before."""
    sent: float
    probes: int


async def measure_latency(
    amqp_url: str,
    prefix: str,
    address: tuple[str, int],
    messages: Sequence[Publication],
    probes: Sequence[Event],
    rate: float,
) -> Visible:
    """Have *messages* come at *rate* a second, and publish *probes* beside them, orders nobody has heard of.

    Raises: RuntimeError where a probe is not visible after half a minute.
    """
    publisher = AmqpPublisher(amqp_url, prefix=prefix, patience=PATIENCE)
    await publisher.publish([])
    try:
        async with flooding(amqp_url, Names(prefix), messages, rate) as flood:
            loading = asyncio.create_task(flood.run())
            latencies = await _probe(publisher, address, probes, flood)
            lasted = await loading
    finally:
        await publisher.close()
    confirmed, visible = ([seconds * 1e3 for seconds in one] for one in zip(*latencies, strict=True))
    return Visible(
        percentile(visible, 0.5),
        percentile(visible, 0.99),
        max(visible),
        percentile(confirmed, 0.5),
        percentile(confirmed, 0.99),
        len(messages) / lasted,
        len(visible),
    )


async def _probe(
    publisher: AmqpPublisher,
    address: tuple[str, int],
    probes: Sequence[Event],
    flood: Flood,
) -> list[tuple[float, float]]:
    """Seconds of each probe, as of `until_visible`."""
    began, asking = time.perf_counter(), []
    for number, probe in enumerate(probes):
        due = began + number * PROBE_EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if not flood.left:
            break
        asking.append(asyncio.create_task(until_visible(publisher, address, probe, due)))
    return list(await asyncio.gather(*asking))


async def until_visible(
    publisher: AmqpPublisher, address: tuple[str, int], probe: Event, due: float
) -> tuple[float, float]:
    """Seconds from when it was meant to be published until it was confirmed, and until it was visible."""

    async def publish() -> float:
        await publisher.publish([Publication(probe.structured())])
        return time.perf_counter() - due

    async with Line(*address, PREFER) as line, asyncio.TaskGroup() as group:
        publishing = group.create_task(publish())
        while (status := await line.ask(f"/v1/twins/{probe.subject}")) != 200:
            if time.perf_counter() - due > GIVE_UP_S:
                raise RuntimeError(f"{probe.subject} is answered with {status} after {GIVE_UP_S:g} s")
            await asyncio.sleep(AGAIN_S)
        visible = time.perf_counter() - due
    return publishing.result(), visible
