"""Consuming events in batches: taken, committed, and only then acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import random

import structlog
from aio_pika import DeliveryMode, Message, connect_robust
from aio_pika.abc import (
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
    ConsumerTag,
)
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from adapters.amqp.topology import Names, declare
from canonical.errors import Overloaded, TransientFailure
from twins.ports import Intake, Publication, Rejected, Verdict

_log = structlog.get_logger()

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 10.0
CANCEL_WITHIN_S = 5.0
"""A broker that is away must not keep a consumer from stopping."""
FINISH_WITHIN_S = 30.0
"""How long a batch in hand may still take when stopping; after that it stays with the broker."""
LOST = (AMQPError, ChannelInvalidStateError, OSError)
"""The connection or channel went away: the broker delivers again whatever was not acknowledged."""
REASON, FIELD = "x-twinsync-reason", "x-twinsync-field"
"""Headers of a dead letter."""


@dataclass(slots=True)
class ConsumerCounts:
    consumed: int = 0
    batches: int = 0
    redelivered: int = 0
    rejected: int = 0


class AmqpConsumer:
    """Feeds an intake from both ingest queues, each by a channel of its own, so that neither waits."""

    def __init__(
        self,
        url: str,
        intake: Intake,
        *,
        prefix: str = "twinsync",
        prefetch: int = 2_000,
        batch_size_max: int = 500,
    ) -> None:
        self.counts = ConsumerCounts()
        self._url = url
        self._intake = intake
        self._names = Names(prefix)
        self._prefetch = prefetch
        self._batch_size_max = batch_size_max
        self._connection: AbstractRobustConnection | None = None
        self._dead: AbstractExchange | None = None
        self._lanes: list[_Lane] = []

    async def start(self) -> None:
        """Connect, declare and consume. Raises: TransientFailure."""
        try:
            self._connection = await connect_robust(self._url)
            publishing = await self._connection.channel(publisher_confirms=True)
            await declare(publishing, self._names)
            self._dead = await publishing.get_exchange(self._names.dead)
            for name in (self._names.ingest, self._names.bulk):
                channel = await self._connection.channel()
                await channel.set_qos(prefetch_count=self._prefetch)
                lane = _Lane(await channel.get_queue(name), self)
                await lane.start()
                self._lanes.append(lane)
        except LOST as error:
            raise TransientFailure(f"broker: {error!r}") from error

    async def stop(self) -> None:
        """Finish what is being taken; the rest stays with the broker."""
        await asyncio.gather(*(lane.stop() for lane in self._lanes))
        if self._connection is not None:
            await self._connection.close()

    async def take(self, messages: Sequence[AbstractIncomingMessage]) -> None:
        """Commit a batch, then acknowledge it. The last message acknowledges all before it on its channel."""
        verdicts = await self._taken([_publication(message) for message in messages])
        refused = [
            (message, verdict)
            for message, verdict in zip(messages, verdicts, strict=True)
            if isinstance(verdict, Rejected)
        ]
        await asyncio.gather(*(self._bury(message, verdict) for message, verdict in refused))
        await messages[-1].ack(multiple=True)
        self.counts.batches += 1
        self.counts.consumed += len(messages)
        self.counts.rejected += len(refused)
        self.counts.redelivered += sum(bool(message.redelivered) for message in messages)

    async def _taken(self, messages: list[Publication]) -> list[Verdict]:
        """Ask until the intake answers: what it cannot take now stays unacknowledged."""
        wait = BACKOFF_FIRST_S
        while True:
            try:
                return await self._intake.take(messages)
            except (TransientFailure, Overloaded) as failure:
                _log.warning("intake_waits", messages=len(messages), reason=str(failure), wait_s=wait)
            await asyncio.sleep(wait * (0.5 + random()))
            wait = min(BACKOFF_MAX_S, wait * 2)

    async def _bury(self, message: AbstractIncomingMessage, verdict: Rejected) -> None:
        assert self._dead is not None
        headers = {**message.headers, REASON: verdict.reason, FIELD: verdict.field}
        letter = Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            message_id=message.message_id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        await self._dead.publish(letter, message.routing_key or "")


class _Lane:
    """One queue: messages gather while a batch is being taken, and are the next batch."""

    def __init__(self, queue: AbstractQueue, consumer: AmqpConsumer) -> None:
        self._queue = queue
        self._consumer = consumer
        self._waiting: list[AbstractIncomingMessage] = []
        self._awake = asyncio.Event()
        self._stopping = False
        self._tag: ConsumerTag | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._tag = await self._queue.consume(self._received)
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._stopping = True
        self._awake.set()
        if self._tag is not None:
            with contextlib.suppress(TimeoutError, *LOST):
                await asyncio.wait_for(self._queue.cancel(self._tag), CANCEL_WITHIN_S)
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._running, FINISH_WITHIN_S)

    async def _received(self, message: AbstractIncomingMessage) -> None:
        self._waiting.append(message)
        self._awake.set()

    async def _run(self) -> None:
        while not self._stopping:
            if not self._waiting:
                self._awake.clear()
                await self._awake.wait()
                continue
            size = self._consumer._batch_size_max
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            await self._take(batch)

    async def _take(self, batch: list[AbstractIncomingMessage]) -> None:
        try:
            await self._consumer.take(batch)
        except LOST as error:
            _log.warning("acknowledgement_lost", messages=len(batch), reason=repr(error))
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("batch_refused", messages=len(batch), first=batch[0].message_id)
            await asyncio.sleep(BACKOFF_FIRST_S)
            with contextlib.suppress(*LOST):
                for message in batch:
                    await message.nack(requeue=True)


def _publication(message: AbstractIncomingMessage) -> Publication:
    headers = {name: _text(value) for name, value in message.headers.items()}
    return Publication(message.body, headers, message.content_type)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
