"""A flood that nobody publishes while it comes: the broker holds it back, and lets go each message in time.

Who publishes on the machine that is measured takes from it what the flood is meant to exceed. So the messages
wait in a queue of no consumer, each with the time that it may stay there; the broker then hands it on itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aio_pika import ExchangeType, Message, connect
from aio_pika.abc import AbstractChannel, AbstractExchange

from adapters.amqp.topology import Names
from canonical.envelope import STRUCTURED, parse_structured
from twins.ports import Publication

IN_FLIGHT, TRIED = 500, 1_000
SURE = (1.5, 3.0, 6.0, 12.0)
"""How much longer it may take than the first messages make one expect; the next if it took longer still."""


def held_name(names: Names) -> str:
    """Of the queue, and of the exchange before it."""
    return f"{names.prefix}.held"


async def hold(
    url: str, names: Names, messages: Sequence[Publication], rate: float, after_s: float = 2.0
) -> float:
    """Have the broker let go *messages* one after the other, at *rate* a second, *after_s* from now at least.

    Answers the Unix time at which the first is let go: all are there *after_s* before. Raises: RuntimeError.
    """
    name = held_name(names)
    async with await connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(name, ExchangeType.FANOUT)
        queue = await channel.declare_queue(name, arguments={"x-dead-letter-exchange": names.events})
        await queue.bind(exchange)
        began = time.time()
        await _publish(exchange, messages[:TRIED], began + 3_600.0, rate)
        a_message_s = (time.time() - began) / len(messages[:TRIED])
        for sure in SURE:
            await queue.purge()
            begins = time.time() + sure * len(messages) * a_message_s + after_s
            await _publish(exchange, messages, begins, rate)
            if time.time() < begins - after_s:
                return begins
    raise RuntimeError(f"{len(messages)} messages were to be held before the first is let go")


async def _publish(
    exchange: AbstractExchange, messages: Sequence[Publication], begins: float, rate: float
) -> None:
    for first in range(0, len(messages), IN_FLIGHT):
        some, now = enumerate(messages[first : first + IN_FLIGHT], first), time.time()
        await asyncio.gather(
            *(
                exchange.publish(
                    Message(
                        message.body,
                        content_type=STRUCTURED,
                        expiration=max(0.0, begins + number / rate - now),
                    ),
                    parse_structured(message.body).type,
                )
                for number, message in some
            )
        )


async def waiting(channel: AbstractChannel, name: str) -> int:
    """Messages in a queue that no consumer has in hand."""
    queue = await channel.declare_queue(name, passive=True)
    return queue.declaration_result.message_count or 0


async def let_go(url: str, names: Names) -> None:
    """Delete what holds them."""
    async with await connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(held_name(names))
        await channel.exchange_delete(held_name(names))
