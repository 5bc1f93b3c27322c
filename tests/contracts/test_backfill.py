"""A source is asked over RabbitMQ for what it left out."""

from __future__ import annotations

import json
import os

import pytest
from aio_pika import connect

from adapters.amqp.backfill import AmqpBackfill
from tests.services import AMQP
from tests.world import DAY
from twins.core.gaps import Gap


async def test_whoever_listens_for_a_source_hears_what_is_missing() -> None:
    url = os.environ.get(AMQP)
    if url is None:
        pytest.skip(f"no RabbitMQ: run through 'make test', or set {AMQP}")
    backfill = AmqpBackfill(url, prefix=f"twinsync-{os.urandom(4).hex()}")
    gap = Gap("/wms/DC-1", 5, 9, DAY)
    assert not await backfill.ask(gap), "nobody listens yet"
    connection = await connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(backfill._names.backfill, "wms.#")
        assert await backfill.ask(gap)
        message = await queue.get(timeout=10)
        assert message is not None
        told = json.loads(message.body)
        assert (told["source"], told["first"], told["last"]) == ("/wms/DC-1", 5, 9)
        await message.ack()
        await channel.exchange_delete(backfill._names.backfill)
    await backfill.close()
