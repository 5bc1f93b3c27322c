"""RabbitMQ that is killed, frozen, full, or ends what it served: nothing is lost, and all of it resumes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from aio_pika import Message, connect
from structlog.testing import capture_logs

from adapters.amqp.consumer import AmqpConsumer
from adapters.amqp.link import Patience
from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import DELIVERY_LIMIT, Names, clear_away
from canonical.errors import TransientFailure
from canonical.facts.order import OrderCancelRequested
from canonical.facts.tracking import Milestone, TrackingScanned
from tests import services
from tests.contracts.test_delivery import Intake, Letters, crash, depth
from tests.live.servers import frozen, kill, own, rabbitmqctl
from tests.services import Server
from tests.stories import placed
from tests.world import tell
from twins.ports import Fault, Publication, Rejected, Verdict

pytestmark = pytest.mark.live

HASTY = Patience(connect_s=3, publish_s=2, heartbeat_s=2)
BOUNDED_S = 60.0
"""Far more than anything here may take, and far less than forever."""


@pytest.fixture(scope="module")
def broker() -> Iterator[Server]:
    with own(services.rabbitmq) as started:
        yield started


@dataclass
class Way:
    """Publisher, consumer and intake, with names of their own on the broker."""

    broker: Server
    prefix: str
    intake: Intake
    publisher: AmqpPublisher
    consumer: AmqpConsumer
    letters: Letters = field(default_factory=Letters)

    def another(self, intake: Intake) -> AmqpConsumer:
        """A further consumer of the same queues, not started."""
        return consumer_of(self.broker, intake, self.letters, self.prefix)

    @property
    def names(self) -> Names:
        return Names(self.prefix)

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUNDED_S):
            while not what():
                await asyncio.sleep(0.05)

    async def publish(self, messages: Sequence[Publication]) -> int:
        """As an adapter does: again, until it is confirmed. Answers how often it failed."""
        failures = 0
        while True:
            try:
                await self.publisher.publish(messages)
            except TransientFailure:
                failures += 1
                await asyncio.sleep(0.1)
            else:
                return failures

    async def until_taken(self, messages: Sequence[Publication]) -> None:
        wanted = {message.body for message in messages}
        await self.until(lambda: wanted <= {taken.body for taken in self.intake.taken})

    async def left(self) -> int:
        return await depth(self.broker.url, self.names)


def consumer_of(broker: Server, intake: Intake, letters: Letters, prefix: str) -> AmqpConsumer:
    return AmqpConsumer(broker.url, intake, letters, prefix=prefix, prefetch=200, patience=HASTY)  # type: ignore[arg-type]


@pytest.fixture
async def way(broker: Server) -> AsyncIterator[Way]:
    prefix, intake, letters = f"test-{os.urandom(4).hex()}", Intake(), Letters()
    publisher = AmqpPublisher(broker.url, prefix=prefix, patience=HASTY)
    consumer = consumer_of(broker, intake, letters, prefix)
    await consumer.start()
    yield Way(broker, prefix, intake, publisher, consumer, letters)
    await publisher.close()
    await asyncio.wait_for(consumer.stop(), BOUNDED_S)
    await clear_away(broker.url, Names(prefix))


def orders(many: int, name: str = "SO") -> list[Publication]:
    return [Publication(placed(order=f"{name}-{number}").structured()) for number in range(many)]


# --- away and back ---------------------------------------------------------------------------------------


async def test_a_broker_killed_under_load_loses_nothing(way: Way) -> None:
    every = [orders(20, f"LOAD-{number}") for number in range(40)]

    async def flow() -> int:
        return sum([await way.publish(some) for some in every])

    flowing = asyncio.create_task(flow())
    for _ in range(2):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(kill, way.broker)
        await asyncio.to_thread(way.broker.start)
    assert await asyncio.wait_for(flowing, 120) >= 1, "the kills are meant to hit it"
    await way.until_taken([message for some in every for message in some])


async def test_connections_that_the_broker_closes_are_opened_again(way: Way) -> None:
    for number in range(2):
        some = orders(20, f"CLOSED-{number}")
        await way.publish(some)
        await asyncio.to_thread(rabbitmqctl, way.broker, "close_all_connections", "maintenance")
        await way.publish(orders(20, f"AGAIN-{number}"))
        await way.until_taken([*some, *orders(20, f"AGAIN-{number}")])


async def test_a_channel_that_the_broker_closes_is_opened_again(way: Way) -> None:
    """As for an acknowledgement that came too late: PRECONDITION_FAILED."""
    for lane in way.consumer._lanes:
        await lane._channel.basic_ack(999_999)
    await way.publish(orders(20))
    await way.until_taken(orders(20))


async def test_a_queue_that_was_deleted_is_declared_and_consumed_again(way: Way) -> None:
    await way.publish(orders(5, "BEFORE"))
    await way.until_taken(orders(5, "BEFORE"))
    for name in (way.names.ingest, way.names.bulk):
        await asyncio.to_thread(rabbitmqctl, way.broker, "delete_queue", name)
    await way.until(lambda: not way.consumer._outage.lasts and len(way.consumer._lanes) == 3)
    await way.publish(orders(5, "AFTER"))
    await way.until_taken(orders(5, "AFTER"))


async def test_what_was_delivered_before_is_not_acknowledged_on_the_channel_after(way: Way) -> None:
    """Delivery tags begin anew on each channel: an old one would acknowledge somebody else's message."""
    way.intake.gate = asyncio.Event()
    await way.publish(orders(30))
    await asyncio.wait_for(way.intake.entered.wait(), BOUNDED_S)
    way.intake.entered.clear()
    await asyncio.to_thread(rabbitmqctl, way.broker, "close_all_connections", "maintenance")
    await asyncio.wait_for(way.intake.entered.wait(), BOUNDED_S)
    way.intake.gate.set()
    await way.until_taken(orders(30))
    assert len(way.intake.taken) == 30, "the batch that was in hand was given up"
    await way.consumer.stop()
    assert await way.left() == 0


async def test_a_batch_that_is_committed_after_its_channel_is_gone_acknowledges_nothing(way: Way) -> None:
    way.intake.gate = asyncio.Event()
    await way.publish(orders(30))
    await asyncio.wait_for(way.intake.entered.wait(), BOUNDED_S)
    lanes, way.consumer._lanes = way.consumer._lanes, []  # these live on, and will want to acknowledge
    later = way.another(Intake(gate=asyncio.Event()))
    await asyncio.to_thread(rabbitmqctl, way.broker, "close_all_connections", "maintenance")
    await way.consumer.stop()
    await later.start()
    with capture_logs() as logs:
        way.intake.gate.set()
        await way.until(lambda: any(line["event"] == "acknowledgement_lost" for line in logs))
    await asyncio.gather(*(lane.drop() for lane in lanes))
    await crash(later)
    assert await way.left() == 30


async def test_a_frozen_broker_keeps_nobody_waiting_and_is_come_back_to(way: Way) -> None:
    await way.publish(orders(5, "BEFORE"))
    with frozen(way.broker):
        for work in (way.publisher.publish(orders(3)), way.publisher.check()):
            with pytest.raises(TransientFailure):
                await asyncio.wait_for(work, BOUNDED_S)
        leaving = way.another(Intake())
        with pytest.raises(TransientFailure):
            await asyncio.wait_for(leaving.start(), BOUNDED_S)
    await way.publish(orders(5, "AFTER"))
    await way.until_taken([*orders(5, "BEFORE"), *orders(5, "AFTER")])


async def test_a_consumer_stops_while_the_broker_is_away(way: Way) -> None:
    leaving = way.another(Intake())
    await leaving.start()
    hanging = way.another(Intake())
    await hanging.start()
    with frozen(way.broker):
        await asyncio.wait_for(hanging.stop(), BOUNDED_S)
    await asyncio.to_thread(kill, way.broker)
    try:
        await asyncio.wait_for(leaving.stop(), BOUNDED_S)
    finally:
        await asyncio.to_thread(way.broker.start)


# --- full ------------------------------------------------------------------------------------------------


async def test_a_broker_out_of_memory_refuses_in_time_says_so_and_takes_again(way: Way) -> None:
    await way.publish(orders(5, "BEFORE"))
    await asyncio.to_thread(rabbitmqctl, way.broker, "set_vm_memory_high_watermark", "0.00001")
    try:
        with pytest.raises(TransientFailure):
            await asyncio.wait_for(way.publisher.publish(orders(300, "FULL")), BOUNDED_S)
        with pytest.raises(TransientFailure, match="out of memory"):
            await asyncio.wait_for(way.publisher.check(), BOUNDED_S)
        await way.until_taken(orders(5, "BEFORE"))
    finally:
        await asyncio.to_thread(rabbitmqctl, way.broker, "set_vm_memory_high_watermark", "0.6")
    await way.publish(orders(300, "FULL"))
    await way.publisher.check()
    await way.until_taken(orders(300, "FULL"))


async def test_what_is_refused_while_the_broker_is_full_is_a_dead_letter_all_the_same(way: Way) -> None:
    """And acknowledged: nothing needs to be published for it."""
    way.intake.refuse = lambda message: b"BAD" in message.body
    way.intake.gate = asyncio.Event()
    await way.publish(orders(3, "BAD"))
    await asyncio.to_thread(rabbitmqctl, way.broker, "set_vm_memory_high_watermark", "0.00001")
    try:
        way.intake.gate.set()
        await way.until(lambda: len(way.letters.kept) == 3)
    finally:
        await asyncio.to_thread(rabbitmqctl, way.broker, "set_vm_memory_high_watermark", "0.6")
    assert {letter.body for letter, _ in way.letters.kept} == {one.body for one in orders(3, "BAD")}
    await way.consumer.stop()
    assert await way.left() == 0


async def test_what_no_queue_takes_is_not_lost(way: Way) -> None:
    """Returned by the broker: its topology was taken away, and is declared anew for the next attempt."""
    unknown = Publication(placed().structured().replace(b"order.placed.v1", b"order.sung.v1"))
    await way.publish(orders(1))
    await way.consumer.stop()
    await asyncio.to_thread(rabbitmqctl, way.broker, "delete_queue", way.names.dead)
    with pytest.raises(TransientFailure):
        await way.publisher.publish([unknown])
    await way.publisher.publish([unknown])
    later = way.another(way.intake)
    await later.start()
    assert [letter.body for letter, _ in await dead_letters(way)] == [unknown.body]
    await later.stop()


# --- the twins' side is away -----------------------------------------------------------------------------


async def test_while_the_intake_is_away_nothing_is_acknowledged_and_the_log_says_so_once(way: Way) -> None:
    way.intake.failures = 10**9
    with capture_logs() as logs:
        await way.publish(orders(1_000))
        await way.until(lambda: way.intake.failures <= 10**9 - 4)
        assert sum(lane.held for lane in way.consumer._lanes) <= 200, "prefetch is the bound"
        assert not way.intake.taken
        way.intake.failures = 0
        await way.until_taken(orders(1_000))
    said = [line["event"] for line in logs if line["event"].startswith("intake_")]
    assert said == ["intake_waits", "intake_goes_on"]


async def test_a_consumer_whose_intake_is_away_stops_and_leaves_everything(way: Way) -> None:
    way.intake.failures = 10**9
    await way.publish(orders(10))
    await way.until(lambda: way.intake.failures < 10**9)
    await asyncio.wait_for(way.consumer.stop(), 10)
    assert await way.left() == 10


# --- priority and poison ---------------------------------------------------------------------------------

SCANS = 50_000
SCAN = TrackingScanned(milestone=Milestone.IN_TRANSIT)


async def test_a_cancel_is_not_stuck_behind_a_mass_of_scans(way: Way) -> None:
    await way.consumer.stop()
    async with await connect(way.broker.url) as masses:
        channel = await masses.channel(publisher_confirms=False)
        exchange = await channel.get_exchange(way.names.events, ensure=False)
        for number in range(SCANS):
            scan = tell("tracking/ups:1Z9", SCAN, number).structured()
            await exchange.publish(Message(scan, delivery_mode=2), SCAN.TYPE)
    async with asyncio.timeout(BOUNDED_S):
        while await way.left() < SCANS:
            await asyncio.sleep(0.2)
    cancel = Publication(tell("order/SO-1", OrderCancelRequested(request_id="R-1")).structured())
    await way.publish([cancel])
    later = way.another(way.intake)
    await later.start()
    await way.until(lambda: len(way.intake.taken) > 20_000)
    await later.stop()
    place = [message.body for message in way.intake.taken].index(cancel.body)
    assert place < 5_000, "it is committed among the first, though it came last"


async def test_a_message_that_breaks_the_intake_ends_among_the_dead_letters_alone(way: Way) -> None:
    breaking = BreakingIntake()
    way.consumer._intake = breaking
    some = [*orders(20, "BEFORE"), *orders(1, "POISON"), *orders(20, "AFTER")]
    await way.publish(some)
    letters = await dead_letters(way)
    assert [letter.body for letter, _ in letters] == [orders(1, "POISON")[0].body]
    assert "given up after 20 deliveries" in letters[0][1].reason
    assert letters[0][1].fault is Fault.TWINSYNC
    assert {one.body for one in breaking.taken} == {one.body for one in some} - {letters[0][0].body}
    assert breaking.broke <= DELIVERY_LIMIT + 3, "not in a hot loop"


async def test_a_message_that_kills_its_consumer_takes_no_other_with_it(way: Way) -> None:
    """Each death counts for all that were delivered with it; as suspects they come alone, in any order."""
    await way.consumer.stop()
    some = [*orders(1, "POISON"), *orders(50, "INNOCENT")]
    await way.publish(some)
    deadly, deaths = DeadlyIntake(), 0
    while deaths <= DELIVERY_LIMIT:
        deadly.died.clear()
        doomed = way.another(deadly)
        await doomed.start()
        waiting = asyncio.create_task(deadly.died.wait())
        await asyncio.wait([waiting], timeout=5)
        waiting.cancel()
        await crash(doomed)
        deaths += deadly.died.is_set()
        if not deadly.died.is_set():
            break
    survivor = way.another(deadly)
    await survivor.start()
    letters = await dead_letters(way)
    await survivor.stop()
    assert [letter.body for letter, _ in letters] == [some[0].body]
    assert "given up after 20 deliveries" in letters[0][1].reason
    assert {one.body for one in deadly.taken} == {one.body for one in some[1:]}


async def test_a_message_that_kills_whichever_of_two_consumers_has_it_takes_no_other_with_it(
    way: Way,
) -> None:
    """While one dies the other goes on; what came back three times comes alone to either."""
    await way.consumer.stop()
    some = [*orders(1, "POISON"), *orders(50, "INNOCENT")]
    await way.publish(some)
    crew = DeadlyIntake(), DeadlyIntake()

    async def live_again(intake: DeadlyIntake) -> None:
        while True:
            intake.died.clear()
            doomed = way.another(intake)
            await doomed.start()
            try:
                await intake.died.wait()
                intake.deaths += 1
            finally:
                await crash(doomed)

    lives = [asyncio.create_task(live_again(intake)) for intake in crew]
    letters = await dead_letters(way)
    await way.until(lambda: len({one.body for intake in crew for one in intake.taken}) == 50)
    for life in lives:
        life.cancel()
    await asyncio.wait(lives)
    assert [letter.body for letter, _ in letters] == [some[0].body]
    assert "given up after 20 deliveries" in letters[0][1].reason
    assert {one.body for intake in crew for one in intake.taken} == {one.body for one in some[1:]}
    assert sum(intake.deaths for intake in crew) <= DELIVERY_LIMIT + 1
    assert await way.left() == 0


class BreakingIntake(Intake):
    broke = 0

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        if any(b"POISON" in message.body for message in messages):
            self.broke += 1
            raise KeyError("a bug of ours")
        return await super().take(messages)


class DeadlyIntake(Intake):
    def __init__(self) -> None:
        super().__init__()
        self.died = asyncio.Event()
        self.deaths = 0

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        if any(b"POISON" in message.body for message in messages):
            self.died.set()
            await asyncio.Event().wait()
        return await super().take(messages)


async def dead_letters(way: Way) -> list[tuple[Publication, Rejected]]:
    """All that come, until none has come for a second."""
    async with asyncio.timeout(BOUNDED_S):
        known = -1
        while not way.letters.kept or known != len(way.letters.kept):
            known = len(way.letters.kept)
            await asyncio.sleep(1.0)
    return way.letters.kept
