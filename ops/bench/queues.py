"""Queues full of a day's events, and a consumer that does nothing but acknowledge them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aio_pika import connect

from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import Names
from ops.demo.day import OPEN_HOURS, make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from twins.ports import Publication

PREFETCH, ACK_EVERY = 2_000, 500
AT_ONCE = 2_000
"""Messages in one call: a broker has ten seconds to confirm all of them."""
DUPLICATED, LATE = 0.1, 0.2
EVENTS_AN_ORDER = 33
"""Told, duplicates included."""


def events_of_a_day(events: int, seed: int, hours: int = OPEN_HOURS) -> list[Publication]:
    """About as many events as asked for, of the demo's orders; 10 % of the messages come twice, 20 % late.

    Orders are placed for *hours*.
    """
    day = make_day(seed, max(1, events // EVENTS_AN_ORDER), hours)
    disordered = told(day, disorder(day, seed, duplicated=DUPLICATED, late=LATE))
    return [Publication(event.structured()) for event in disordered]


async def fill(url: str, prefix: str, messages: Sequence[Publication]) -> float:
    """Seconds that it took to publish all, confirmed."""
    publisher = AmqpPublisher(url, prefix=prefix)
    started = time.perf_counter()
    for first in range(0, len(messages), AT_ONCE):
        await publisher.publish(messages[first : first + AT_ONCE])
    await publisher.close()
    return time.perf_counter() - started


async def acknowledge_all(url: str, prefix: str, many: int) -> float:
    """Seconds that it takes to consume and acknowledge, many at once: no pipe is faster."""
    done, taken = asyncio.Event(), 0
    async with await connect(url) as connection:
        started = time.perf_counter()
        for name in (Names(prefix).ingest, Names(prefix).bulk):
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.get_queue(name)
            left = queue.declaration_result.message_count or 0

            async def received(message: Any, left: list[int] = [left]) -> None:  # noqa: B006
                nonlocal taken
                taken += 1
                left[0] -= 1
                if left[0] % ACK_EVERY == 0:
                    await message.ack(multiple=True)
                if taken == many:
                    done.set()

            await queue.consume(received)
        await done.wait()
        return time.perf_counter() - started
