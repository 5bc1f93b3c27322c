"""One message among many ends its consumers: the others must get past it, however they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from pamqp.commands import Basic
from pamqp.header import ContentHeader

from adapters.amqp.acknowledging import Acknowledging
from adapters.amqp.content import Content
from adapters.amqp.delivered import Delivery
from adapters.amqp.lane import Bound
from twins.outage import Outage
from twins.ports import Publication

CONSUMERS = 20
INNOCENT = 50


def suspected(tag: int) -> Delivery:
    properties = ContentHeader(properties=Basic.Properties(headers={"x-delivery-count": 3})).marshal()[12:]
    content = Content(tag, redelivered=True, routing_key="", properties=properties)
    return Delivery(cast(Any, None), content, Publication(b"%d" % tag))


async def test_the_oldest_suspect_is_not_taken_before_the_others_have_arrived() -> None:
    """Where a broker delivers in pieces it comes first, and each consumer ends having done nothing."""

    async def first_taken() -> int:
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def take(deliveries: Sequence[Delivery], _: Outage) -> None:
            first.set_result(int(deliveries[0].told.body))
            await asyncio.Event().wait()

        bound = Bound(take, Acknowledging(), 500, Outage("intake"))
        bound.add(suspected(0))
        running = asyncio.create_task(bound.run())
        for tag in range(1, INNOCENT + 1):
            await asyncio.sleep(0.001)
            bound.add(suspected(tag))
        taken = await first
        running.cancel()
        return taken

    taken = await asyncio.gather(*(first_taken() for _ in range(CONSUMERS)))
    assert set(taken) != {0}
