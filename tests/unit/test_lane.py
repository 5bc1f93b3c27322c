"""What waits for one destination goes in batches: one at a time, and full ones two at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from adapters.amqp.acknowledging import Acknowledging
from adapters.amqp.content import Content
from adapters.amqp.delivered import Delivery
from adapters.amqp.lane import Bound
from twins.outage import Outage
from twins.ports import Publication

FULL = 10


@dataclass
class Broker:
    """Hears what is acknowledged."""

    acknowledged: set[int] = field(default_factory=set)
    delivered: list[int] = field(default_factory=list)

    def delivery(self, tag: int) -> Delivery:
        self.delivered.append(tag)
        content = Content(tag, redelivered=False, routing_key="", properties=bytes(2))
        return Delivery(cast(Any, self), content, Publication(b"%d" % tag))

    async def basic_ack(self, tag: int, multiple: bool) -> None:
        self.acknowledged |= {one for one in self.delivered if one <= tag} if multiple else {tag}


class Host:
    """Takes a batch when it is told to."""

    def __init__(self) -> None:
        self.under_way: dict[asyncio.Future[None], list[int]] = {}

    async def take(self, deliveries: Sequence[Delivery], _: Outage) -> None:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way[committed] = [int(one.told.body) for one in deliveries]
        try:
            await committed
        finally:
            del self.under_way[committed]

    async def commit(self, *, oldest: bool = True, failure: Exception | None = None) -> None:
        batches = list(self.under_way)
        committed = batches[0] if oldest else batches[-1]
        if failure is None:
            committed.set_result(None)
        else:
            committed.set_exception(failure)
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Way:
    def __init__(self) -> None:
        self.broker, self.host = Broker(), Host()
        self._acknowledging = Acknowledging()
        self.bound = Bound(self.host.take, self._acknowledging, FULL, Outage("intake"))
        self.running: asyncio.Task[None]

    async def deliver(self, tags: Iterable[int]) -> None:
        for tag in tags:
            delivery = self.broker.delivery(tag)
            self._acknowledging.delivered(tag)
            self.bound.add(delivery)
        if not hasattr(self, "running"):
            self.running = asyncio.create_task(self.bound.run())
        await settled()

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.host.under_way.values()]


async def test_a_batch_that_is_not_full_waits_for_the_one_under_way() -> None:
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + FULL - 1))
    assert way.sizes == [1]
    await way.host.commit()
    assert way.sizes == [FULL - 1]
    await way.host.commit()
    await way.running


async def test_a_full_batch_goes_beside_the_one_under_way_and_a_third_does_not() -> None:
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + 3 * FULL))
    assert way.sizes == [1, FULL]
    await way.host.commit()
    assert way.sizes == [FULL, FULL]
    await way.host.commit()
    assert way.sizes == [FULL, FULL]
    while way.host.under_way:
        await way.host.commit()
    await way.running
    assert way.broker.acknowledged == set(range(1, 2 + 3 * FULL))


async def test_what_is_committed_out_of_turn_is_acknowledged_in_the_end() -> None:
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + FULL))
    await way.host.commit(oldest=False)
    assert not way.broker.acknowledged
    assert not way.running.done()
    await way.host.commit()
    await way.running
    assert way.broker.acknowledged == set(range(1, 2 + FULL))


async def test_a_full_batch_that_breaks_after_all_else_is_taken_is_still_tried_one_by_one() -> None:
    """Whoever stops looking once nothing waits leaves it with nobody, unacknowledged for ever."""
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + FULL))
    await way.host.commit()
    await way.host.commit(failure=ValueError("a fault of ours"))
    for _ in range(FULL):
        assert way.sizes == [1]
        await way.host.commit()
    await way.running
    assert way.broker.acknowledged == set(range(1, 2 + FULL))


async def test_no_suspect_is_taken_beside_a_full_batch() -> None:
    way = Way()
    await way.deliver([1, 2])
    await way.deliver(range(3, 3 + FULL))
    await way.host.commit(failure=ValueError("a fault of ours"))
    assert way.sizes == [FULL]
    await way.host.commit()
    assert way.sizes == [1]
    way.running.cancel()


async def test_stopping_finishes_both_batches_under_way_and_takes_no_other() -> None:
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + 3 * FULL))
    way.bound.stop()
    await way.host.commit()
    assert way.sizes == [FULL]
    assert not way.running.done()
    await way.host.commit()
    await way.running
    assert way.broker.acknowledged == set(range(1, 2 + FULL))


async def test_who_gives_up_leaves_no_batch_under_way() -> None:
    way = Way()
    await way.deliver([1])
    await way.deliver(range(2, 2 + FULL))
    way.running.cancel()
    await asyncio.wait([way.running])
    assert not way.host.under_way
