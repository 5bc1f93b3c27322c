"""One queue as it is consumed: each host's messages wait for that host alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import randrange
from time import monotonic
from typing import Any

import structlog
from aio_pika.abc import ConsumerTag
from aiormq.abc import AbstractChannel, DeliveredMessage

from adapters.amqp.acknowledging import Acknowledging
from adapters.amqp.content import Content, Deliveries
from adapters.amqp.delivered import Delivery, publication
from adapters.amqp.link import CLOSE_WITHIN_S, LOST
from canonical.envelope import BODY_BYTES_MAX
from canonical.errors import InvariantViolated
from twins.outage import FIRST_S, Outage
from twins.ports import Publication

_log = structlog.get_logger()

BATCH_BYTES_MAX = 8 * BODY_BYTES_MAX
SUSPECT_AFTER = 3
"""A message that was delivered so often without being taken may be what makes its consumers die."""
SUSPECTS_GATHER_S = 0.25
"""No suspect is taken while others still arrive: the oldest would always be the first, and whatever it ends
would keep all others from being taken."""
FINISH_WITHIN_S = 30.0
"""How long a batch in hand may still take when stopping; after that it stays with the broker."""

Take = Callable[[Sequence[Delivery], Outage], Awaitable[None]]
"""Returns when a batch is committed, however long that takes; notes in the outage that it waits."""
Destination = Callable[[Publication], str]
"""What a message waits for: messages with one destination are taken together, and hold up no others."""


class Lane:
    """Sorts what a queue delivers by where it goes.

    A delivery tag is of use on the channel that it came by alone. A lane ends with its channel, and whatever
    it has in hand then comes again by another. Messages come by `Deliveries`, past the client library.
    """

    def __init__(
        self,
        channel: AbstractChannel,
        deliveries: Deliveries,
        queue: str,
        take: Take,
        batch_size_max: int,
        destination: Destination,
        *,
        turns_away: bool = True,
    ) -> None:
        """*turns_away*: what is too large to be an event is not even held here."""
        self._channel = channel
        self._deliveries = deliveries
        self._queue = queue
        self._take = take
        self._batch_size_max = batch_size_max
        self._destination = destination
        self._turns_away = turns_away
        self._acknowledging = Acknowledging()
        self._bound: dict[str, Bound] = {}
        """Destination → what is on its way there; gone when all has arrived."""
        self._running: set[asyncio.Task[None]] = set()
        self._refusing: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._tag: ConsumerTag | None = None

    @property
    def held(self) -> int:
        """Messages that are in no batch yet."""
        return sum(bound.waiting for bound in self._bound.values())

    async def start(self) -> None:
        self._deliveries.take(self._channel.number, self._received)
        self._tag = (await self._channel.basic_consume(self._queue, _passed_by)).consumer_tag

    async def stop(self) -> None:
        """Finish the batches in hand, but for those that wait for the world."""
        self._stopping = True
        for bound in self._bound.values():
            bound.stop()
        with contextlib.suppress(*LOST):
            if self._tag is not None:
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self._channel.basic_cancel(self._tag)
        lasting = {bound.running for bound in self._bound.values() if bound.outage.lasts}
        if finishing := self._running - lasting:
            await asyncio.wait(finishing, timeout=FINISH_WITHIN_S)
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._acknowledging.all_taken()
        await self.drop()

    async def drop(self) -> None:
        """Give up what is in hand: the broker delivers it again."""
        self._stopping = True
        ending = self._running | self._refusing
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    def _received(self, content: Content) -> None:
        """Two thousand messages of ten megabytes would not fit into memory: the broker sets such aside."""
        delivery = Delivery(self._channel, content, publication(content))
        if self._turns_away and len(content.body) > BODY_BYTES_MAX:
            self._refuse(delivery.set_aside())
            return
        self._acknowledging.delivered(delivery.tag)
        if self._stopping:
            return
        try:
            destination = self._destination(delivery.told)
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("message_refused", message_id=delivery.message_id)
            self._refuse(give_back(self._acknowledging, delivery))
            return
        bound = self._bound.get(destination)
        if bound is None:
            bound = self._bound[destination] = self._opened(destination)
        bound.add(delivery)

    def _refuse(self, refusing: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            with contextlib.suppress(*LOST):
                await refusing

        task = asyncio.create_task(quietly())
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    def _opened(self, destination: str) -> Bound:
        outage = Outage("intake", queue=self._queue, destination=destination)
        bound = Bound(self._take, self._acknowledging, self._batch_size_max, outage)
        bound.running = asyncio.create_task(self._run(destination, bound))
        self._running.add(bound.running)
        bound.running.add_done_callback(self._running.discard)
        return bound

    async def _run(self, destination: str, bound: Bound) -> None:
        await bound.run()
        if not self._stopping:
            del self._bound[destination]


async def _passed_by(message: DeliveredMessage) -> None:
    raise InvariantViolated(f"delivery {message.delivery_tag} came by the client library")


class Bound:
    """Messages on their way to one destination: they gather while a batch is taken, and are the next batch.

    A full batch does not wait so long: a host folds one while it commits another. Suspects are taken alone
    and in any order: so the culprit soon fails alone, not with others.
    """

    running: asyncio.Task[None]

    def __init__(self, take: Take, acknowledging: Acknowledging, batch_size_max: int, outage: Outage) -> None:
        self.outage = outage
        self._take_all = take
        self._acknowledging = acknowledging
        self._batch_size_max = batch_size_max
        self._waiting: deque[Delivery] = deque()
        self._suspects: list[Delivery] = []
        self._suspects_gathered_at = 0.0
        self._stopping = False
        self._group = asyncio.TaskGroup()
        self._catching_up: asyncio.Task[None] | None = None
        self._is_taking = False

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._suspects)

    def add(self, delivery: Delivery) -> None:
        if _is_suspect(delivery):
            self._suspects.append(delivery)
            self._suspects_gathered_at = monotonic() + SUSPECTS_GATHER_S
        else:
            self._waiting.append(delivery)
            if self._is_behind and self._is_taking and self._catching_up is None:
                self._catching_up = self._group.create_task(self._catch_up())

    def stop(self) -> None:
        """Take no further batch."""
        self._stopping = True

    async def run(self) -> None:
        """Until all is taken."""
        async with self._group:
            while self.waiting and not self._stopping:
                if self._waiting:
                    self._is_taking = True
                    await self._take(self._batch())
                    self._is_taking = False
                if self._catching_up is not None and (self._suspects or not self._waiting):
                    await asyncio.wait([self._catching_up])
                if self._suspects and not self._stopping:
                    await self._suspect()

    @property
    def _is_behind(self) -> bool:
        return len(self._waiting) >= self._batch_size_max and not self._suspects and not self._stopping

    async def _catch_up(self) -> None:
        while self._is_behind:
            await self._take(self._batch())
        self._catching_up = None

    async def _suspect(self) -> None:
        gathering_s = self._suspects_gathered_at - monotonic()
        if gathering_s <= 0:
            await self._take([self._suspects.pop(randrange(len(self._suspects)))])
        elif not self._waiting:
            await asyncio.sleep(gathering_s)

    def _batch(self) -> list[Delivery]:
        """The messages that have waited longest, as many as are taken at once; at least one."""
        batch = [self._waiting.popleft()]
        size_bytes = len(batch[0].told.body)
        while self._waiting and len(batch) < self._batch_size_max:
            size_bytes += len(self._waiting[0].told.body)
            if size_bytes > BATCH_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _take(self, batch: list[Delivery]) -> None:
        try:
            await self._take_all(batch, self.outage)
        except Exception:  # noqa: BLE001 - top of the loop
            _log.exception("batch_refused", messages=len(batch), first=batch[0].message_id)
            await self._set_aside(batch)
            return
        try:
            await self._acknowledging.taken(batch, at_once=_is_suspect(batch[0]))
        except LOST as error:
            _log.warning("acknowledgement_lost", messages=len(batch), reason=repr(error))

    async def _set_aside(self, batch: list[Delivery]) -> None:
        """Take each alone; what fails alone goes back, until the broker has enough of it."""
        if len(batch) > 1:
            self._suspects += batch
        else:
            await give_back(self._acknowledging, batch[0])


def _is_suspect(delivery: Delivery) -> bool:
    return delivery.returned >= SUSPECT_AFTER


async def give_back(acknowledging: Acknowledging, delivery: Delivery) -> None:
    """After a while, lest it comes again and again at once."""
    await asyncio.sleep(FIRST_S)
    with contextlib.suppress(*LOST):
        await acknowledging.give_back(delivery)
