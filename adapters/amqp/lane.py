"""One queue as it is consumed: messages gather while a batch is being taken, and are the next batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from random import randrange

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, ConsumerTag

from adapters.amqp.delivered import deliveries
from adapters.amqp.link import CLOSE_WITHIN_S, LOST
from canonical.envelope import BODY_BYTES_MAX
from twins.outage import FIRST_S, Outage

_log = structlog.get_logger()

BATCH_BYTES_MAX = 8 * BODY_BYTES_MAX
SUSPECT_AFTER = 3
"""A message that was delivered so often without being taken may be what makes its consumers die."""
FINISH_WITHIN_S = 30.0
"""How long a batch in hand may still take when stopping; after that it stays with the broker."""

Take = Callable[[Sequence[AbstractIncomingMessage], Outage], Awaitable[None]]
"""Returns when a batch is committed, however long that takes; notes in the outage that it waits."""


class Lane:
    """Takes batches, and suspects alone and in any order: so the culprit soon fails alone, not with others.

    A delivery tag is of use on the channel that it came by alone. A lane ends with its channel, and whatever
    it has in hand then comes again by another.
    """

    def __init__(
        self, queue: AbstractQueue, take: Take, batch_size_max: int, *, turns_away: bool = True
    ) -> None:
        """*turns_away*: what is too large to be an event is not even held here."""
        self._queue = queue
        self._take_all = take
        self._batch_size_max = batch_size_max
        self._turns_away = turns_away
        self._waiting: deque[AbstractIncomingMessage] = deque()
        self._suspects: list[AbstractIncomingMessage] = []
        self._awake = asyncio.Event()
        self._outage = Outage("intake", queue=queue.name)
        self._stopping = False
        self._tag: ConsumerTag | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._tag = await self._queue.consume(self._received)
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the batch in hand, unless it waits for the world."""
        self._stopping = True
        self._awake.set()
        if self._tag is not None:
            with contextlib.suppress(*LOST):
                await asyncio.wait_for(self._queue.cancel(self._tag), CLOSE_WITHIN_S)
        if self._running is not None and not self._outage.lasts:
            await asyncio.wait([self._running], timeout=FINISH_WITHIN_S)
        await self.drop()

    async def drop(self) -> None:
        """Give up what is in hand: the broker delivers it again."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _received(self, message: AbstractIncomingMessage) -> None:
        """Two thousand messages of ten megabytes would not fit into memory: the broker sets such aside."""
        if self._turns_away and len(message.body) > BODY_BYTES_MAX:
            with contextlib.suppress(*LOST):
                await message.reject(requeue=False)
            return
        (self._suspects if deliveries(message) >= SUSPECT_AFTER else self._waiting).append(message)
        self._awake.set()

    async def _run(self) -> None:
        while not self._stopping:
            if self._waiting:
                await self._take(self._batch())
            if self._suspects and not self._stopping:
                await self._take([self._suspects.pop(randrange(len(self._suspects)))])
            if not self._waiting and not self._suspects and not self._stopping:
                self._awake.clear()
                await self._awake.wait()

    def _batch(self) -> list[AbstractIncomingMessage]:
        """The messages that have waited longest, as many as are taken at once; at least one."""
        batch = [self._waiting.popleft()]
        size_bytes = len(batch[0].body)
        while self._waiting and len(batch) < self._batch_size_max:
            size_bytes += len(self._waiting[0].body)
            if size_bytes > BATCH_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _take(self, batch: list[AbstractIncomingMessage]) -> None:
        try:
            await self._take_all(batch, self._outage)
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("batch_refused", messages=len(batch), first=batch[0].message_id)
            await self._set_aside(batch)
            return
        try:
            await self._acknowledge(batch)
        except LOST as error:
            _log.warning("acknowledgement_lost", messages=len(batch), reason=repr(error))

    async def _acknowledge(self, batch: list[AbstractIncomingMessage]) -> None:
        """The last message acknowledges all before it on its channel, unless some of those are set aside."""
        if not self._suspects:
            await batch[-1].ack(multiple=True)
            return
        for message in batch:
            await message.ack()

    async def _set_aside(self, batch: list[AbstractIncomingMessage]) -> None:
        """Take each alone; what fails alone goes back, until the broker has enough of it."""
        if len(batch) > 1:
            self._suspects += batch
            return
        await asyncio.sleep(FIRST_S)
        with contextlib.suppress(*LOST):
            await batch[0].nack(requeue=True)
