"""Consuming events in batches: taken, committed, and only then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TypeVar

import structlog
from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractChannel as UnderlayChannel

from adapters.amqp.aside import why_aside
from adapters.amqp.content import ReceivingConnection
from adapters.amqp.delivered import Delivery
from adapters.amqp.lane import Destination, Lane, Take
from adapters.amqp.link import LOST, Patience, connected, shut
from adapters.amqp.topology import Names, declare
from canonical.errors import InvariantViolated, Overloaded, TransientFailure
from twins.outage import LONGEST_S, Outage, waits
from twins.ports import DeadLetters, Intake, Publication, Rejected

_log = structlog.get_logger()
T = TypeVar("T")

DEAD_PREFETCH = 4
"""Dead letters may be of any size that the broker takes."""


@dataclass(slots=True)
class ConsumerCounts:
    """Messages since it was made."""

    consumed: int = 0
    redelivered: int = 0


class AmqpConsumer:
    """Feeds an intake from both ingest queues, each by a channel of its own, so that neither waits.

    What it has of the broker ends as one: when the connection or a channel is lost, or the broker cancels a
    consumer, all is opened anew, topology first. What the intake refuses is kept among the dead letters; so
    is what the broker itself has set aside.
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
        patience: Patience | None = None,
    ) -> None:
        self.counts = ConsumerCounts()
        self._url = url
        self._intake = intake
        self._dead_letters = dead_letters
        self._names = Names(prefix)
        self._prefetch = prefetch
        self._batch_size_max = batch_size_max
        self._patience = patience or Patience()
        self._outage = Outage("consumer")
        self._ended: asyncio.Future[str] | None = None
        """Why the connection that is open now came to its end."""
        self._connection: ReceivingConnection | None = None
        self._lanes: list[Lane] = []
        self._keeping: asyncio.Task[None] | None = None

    def figures(self) -> dict[str, float]:
        return asdict(self.counts) | {"held": sum(lane.held for lane in self._lanes)}

    # --- the connection

    async def start(self) -> None:
        """Connect, declare and consume, from now on whenever that is possible. Raises: TransientFailure."""
        await self._open()
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Finish what is being taken; the rest stays with the broker."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await asyncio.gather(*(lane.stop() for lane in self._lanes))
        await self._close()

    async def _keep(self) -> None:
        """Open anew whatever ends; not at once where it ends again and again."""
        pauses, opened_at = waits(), monotonic()
        while True:
            assert self._ended is not None
            self._outage.failed(await self._ended)
            if monotonic() - opened_at > LONGEST_S:
                pauses = waits()
            await self._close()
            while not self._lanes:
                await asyncio.sleep(next(pauses))
                try:
                    await self._open()
                except TransientFailure as failure:
                    self._outage.failed(failure)
                except Exception as error:  # noqa: BLE001 - top of the loop
                    await self._close()
                    self._outage.failed(TransientFailure(f"broker: {error!r}"))
            opened_at = monotonic()
            self._outage.ended()

    async def _open(self) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience.connect_s):
                self._connection = await connected(self._url, self._patience, ReceivingConnection)
                self._connection.close_callbacks.add(self._connection_closed)
                await declare(self._connection, self._names)
                destination = self._intake.destination
                takes = (self._names.ingest, self.take), (self._names.bulk, self.take_patiently)
                for name, take in takes:
                    self._lanes.append(await self._lane(name, self._prefetch, take, destination))
                dead = await self._lane(
                    self._names.dead, DEAD_PREFETCH, self.bury, lambda _: "", turns_away=False
                )
                self._lanes.append(dead)
        except LOST as error:
            await self._close()
            raise TransientFailure(f"broker: {error!r}") from error

    async def _close(self) -> None:
        lanes, self._lanes = self._lanes, []
        await asyncio.gather(*(lane.drop() for lane in lanes))
        connection, self._connection = self._connection, None
        if connection is not None:
            await shut(connection)

    async def _lane(
        self, name: str, prefetch: int, take: Take, destination: Destination, *, turns_away: bool = True
    ) -> Lane:
        channel = await self._channel()
        await channel.set_qos(prefetch_count=prefetch)
        assert self._connection is not None
        lane = Lane(
            await channel.get_underlay_channel(),
            self._connection.deliveries,
            name,
            take,
            self._batch_size_max,
            destination,
            turns_away=turns_away,
        )
        await lane.start()
        return lane

    async def _channel(self) -> AbstractChannel:
        assert self._connection is not None
        channel = await self._connection.channel()
        channel.close_callbacks.add(self._channel_closed)
        underlay: UnderlayChannel = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self._end("the broker cancelled a consumer"))
        return channel

    def _connection_closed(self, _: object, reason: BaseException | None) -> None:
        self._end(f"connection closed: {reason!r}")

    def _channel_closed(self, _: object, reason: BaseException | None) -> None:
        self._end(f"channel closed: {reason!r}")

    def _end(self, reason: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    # --- taking

    async def take_patiently(self, deliveries: Sequence[Delivery], outage: Outage) -> None:
        """The same for what all else goes before."""
        await self.take(deliveries, outage, may_wait=True)

    async def take(self, deliveries: Sequence[Delivery], outage: Outage, *, may_wait: bool = False) -> None:
        """Returns when every message is committed, or among the dead letters; then it may be acknowledged."""
        told = [delivery.told for delivery in deliveries]
        verdicts = await _until_done(lambda: self._intake.take(told, may_wait=may_wait), outage)
        refused = [
            (message, verdict)
            for message, verdict in zip(told, verdicts, strict=True)
            if isinstance(verdict, Rejected)
        ]
        if refused:
            await self._letters(refused, outage)
        self.counts.consumed += len(deliveries)
        self.counts.redelivered += sum(delivery.content.redelivered for delivery in deliveries)

    async def bury(self, deliveries: Sequence[Delivery], outage: Outage) -> None:
        """Returns when what the broker has set aside is among the dead letters."""
        letters = [(delivery.told, why_aside(delivery)) for delivery in deliveries]
        await self._letters(letters, outage)

    async def _letters(self, letters: list[tuple[Publication, Rejected]], outage: Outage) -> None:
        """A letter that the database will not have is kept without its headers: none may come for ever."""
        try:
            await _until_done(lambda: self._dead_letters.keep(letters), outage)
        except InvariantViolated as error:
            _log.error("letters_kept_without_headers", letters=len(letters), reason=str(error))
            bare = [(Publication(message.body), why) for message, why in letters]
            await _until_done(lambda: self._dead_letters.keep(bare), outage)


async def _until_done(work: Callable[[], Awaitable[T]], outage: Outage) -> T:
    """Ask until the world lets it happen; until then nothing is acknowledged, and prefetch is the bound."""
    pauses = waits()
    while True:
        try:
            done = await work()
        except (TransientFailure, Overloaded) as failure:
            outage.failed(failure)
        else:
            outage.ended()
            return done
        await asyncio.sleep(next(pauses))
