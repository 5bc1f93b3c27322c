"""One queue on its way into a function: messages gather while a batch is being taken, and are the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue, ConsumerTag
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from canonical.envelope import BODY_BYTES_MAX

_log = structlog.get_logger()

BACKOFF_FIRST_S = 0.1
BATCH_BYTES_MAX = 8 * BODY_BYTES_MAX
CANCEL_WITHIN_S = 5.0
"""A broker that is away must not keep a consumer from stopping."""
FINISH_WITHIN_S = 30.0
"""How long a batch in hand may still take when stopping; after that it stays with the broker."""
LOST = (AMQPError, ChannelInvalidStateError, OSError)
"""The connection or channel went away: the broker delivers again whatever was not acknowledged."""


class Lane:
    def __init__(
        self,
        queue: AbstractQueue,
        take: Callable[[Sequence[AbstractIncomingMessage]], Awaitable[None]],
        batch_size_max: int,
        *,
        turns_away: bool,
    ) -> None:
        """*take* acknowledges. *turns_away*: what is too large to be an event is not even held here."""
        self._queue = queue
        self._take_batch = take
        self._batch_size_max = batch_size_max
        self._turns_away = turns_away
        self._waiting: deque[AbstractIncomingMessage] = deque()
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
        """Two thousand messages of ten megabytes would not fit into memory: the broker sets such aside."""
        if self._turns_away and len(message.body) > BODY_BYTES_MAX:
            with contextlib.suppress(*LOST):
                await message.reject(requeue=False)
            return
        self._waiting.append(message)
        self._awake.set()

    async def _run(self) -> None:
        while not self._stopping:
            if not self._waiting:
                self._awake.clear()
                await self._awake.wait()
                continue
            await self._take(self._batch())

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
            await self._take_batch(batch)
        except LOST as error:
            _log.warning("acknowledgement_lost", messages=len(batch), reason=repr(error))
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("batch_refused", messages=len(batch), first=batch[0].message_id)
            await asyncio.sleep(BACKOFF_FIRST_S)
            with contextlib.suppress(*LOST):
                for message in batch:
                    await message.nack(requeue=True)
