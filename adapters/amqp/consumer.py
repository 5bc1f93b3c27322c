"""Consuming events in batches: taken, committed, and only then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import TypeVar

import structlog
from aio_pika import connect_robust
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection

from adapters.amqp.aside import publication, why_aside
from adapters.amqp.lane import BACKOFF_FIRST_S, LOST, Lane
from adapters.amqp.topology import Names, declare
from canonical.errors import InvariantViolated, Overloaded, TransientFailure
from twins.ports import DeadLetters, Intake, Publication, Rejected

_log = structlog.get_logger()

BACKOFF_MAX_S = 10.0
DEAD_PREFETCH = 4
"""Dead letters may be of any size that the broker takes."""
T = TypeVar("T")


@dataclass(slots=True)
class ConsumerCounts:
    consumed: int = 0
    batches: int = 0
    redelivered: int = 0
    rejected: int = 0


class AmqpConsumer:
    """Feeds an intake from both ingest queues, each by a channel of its own, so that neither waits.

    What the intake refuses is kept among the dead letters; so is what the broker itself has set aside.
    """

    def __init__(
        self,
        url: str,
        intake: Intake,
        dead_letters: DeadLetters,
        *,
        prefix: str = "twinsync",
        prefetch: int = 2_000,
        batch_size_max: int = 500,
    ) -> None:
        self.counts = ConsumerCounts()
        self._url = url
        self._intake = intake
        self._dead_letters = dead_letters
        self._names = Names(prefix)
        self._prefetch = prefetch
        self._batch_size_max = batch_size_max
        self._connection: AbstractRobustConnection | None = None
        self._lanes: list[Lane] = []

    async def start(self) -> None:
        """Connect, declare and consume. Raises: TransientFailure."""
        names = self._names
        try:
            self._connection = await connect_robust(self._url)
            async with self._connection.channel() as channel:
                await declare(channel, names)
            for name in (names.ingest, names.bulk):
                await self._open(name, self._prefetch, self.take, turns_away=True)
            await self._open(names.dead, DEAD_PREFETCH, self.bury, turns_away=False)
        except LOST as error:
            raise TransientFailure(f"broker: {error!r}") from error

    async def stop(self) -> None:
        """Finish what is being taken; the rest stays with the broker."""
        await asyncio.gather(*(lane.stop() for lane in self._lanes))
        if self._connection is not None:
            await self._connection.close()

    async def take(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        """Commit a batch, then acknowledge it. The last message acknowledges all before it on its channel."""
        told = [publication(message) for message in messages]
        verdicts = await _until_done(lambda: self._intake.take(told), len(told))
        refused = [
            (message, verdict)
            for message, verdict in zip(told, verdicts, strict=True)
            if isinstance(verdict, Rejected)
        ]
        if refused:
            await self._keep(refused)
        await messages[-1].ack(multiple=True)
        self.counts.batches += 1
        self.counts.consumed += len(messages)
        self.counts.rejected += len(refused)
        self.counts.redelivered += sum(bool(message.redelivered) for message in messages)

    async def bury(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        """Keep what the broker has set aside, then acknowledge it."""
        await self._keep([(publication(message), why_aside(message)) for message in messages])
        await messages[-1].ack(multiple=True)

    async def _keep(self, letters: list[tuple[Publication, Rejected]]) -> None:
        """A letter that the database will not have is kept without its headers: none may come for ever."""
        try:
            await _until_done(lambda: self._dead_letters.keep(letters), len(letters))
        except InvariantViolated as error:
            _log.error("letters_kept_without_headers", letters=len(letters), reason=str(error))
            bare = [(Publication(message.body), why) for message, why in letters]
            await _until_done(lambda: self._dead_letters.keep(bare), len(bare))

    async def _open(
        self,
        queue: str,
        prefetch: int,
        take: Callable[[Sequence[AbstractIncomingMessage]], Awaitable[None]],
        *,
        turns_away: bool,
    ) -> None:
        assert self._connection is not None
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        lane = Lane(await channel.get_queue(queue), take, self._batch_size_max, turns_away=turns_away)
        await lane.start()
        self._lanes.append(lane)


async def _until_done(work: Callable[[], Awaitable[T]], messages: int) -> T:
    """Try until it is done: what cannot be taken or kept now stays unacknowledged."""
    wait = BACKOFF_FIRST_S
    while True:
        try:
            return await work()
        except (TransientFailure, Overloaded) as failure:
            _log.warning("intake_waits", messages=messages, reason=str(failure), wait_s=wait)
        await asyncio.sleep(wait * (0.5 + random()))
        wait = min(BACKOFF_MAX_S, wait * 2)
