"""What every way in must do: embedded delivery and RabbitMQ."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pika
import pytest
from aio_pika import connect
from aio_pika.abc import AbstractChannel

from adapters.amqp.consumer import FIELD, REASON, AmqpConsumer
from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import Names, remove
from adapters.embedded.delivery import EmbeddedPublisher
from canonical.envelope import STRUCTURED, parse
from canonical.errors import TransientFailure
from canonical.facts.tracking import Milestone, TrackingScanned
from tests.services import AMQP
from tests.stories import golden, placed
from tests.world import tell
from twins.core.history import Arrival
from twins.ports import Publication, Publisher, Rejected, Taken, Verdict


@dataclass
class Intake:
    """Takes for good what it answers for; can be made to fail, refuse or wait."""

    taken: list[Publication] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    failures: int = 0
    refuse: Callable[[Publication], bool] = lambda message: False
    gate: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, messages: Sequence[Publication]) -> list[Verdict]:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise TransientFailure("the database is away")
        self.batches.append(len(messages))
        verdicts: list[Verdict] = []
        for message in messages:
            if self.refuse(message):
                verdicts.append(Rejected("not today", "data.day"))
            else:
                self.taken.append(message)
                verdicts.append(Taken(Arrival.NEW))
        return verdicts

    def ids(self) -> list[str]:
        return [parse(one.body, one.headers, one.content_type).event_id for one in self.taken]


@dataclass
class Letters:
    kept: list[tuple[Publication, Rejected]] = field(default_factory=list)

    async def keep(self, letters: Sequence[tuple[Publication, Rejected]]) -> None:
        self.kept += letters


@dataclass
class Way:
    """A way in: what is published through it ends at the intake, or among the dead letters."""

    publisher: Publisher
    intake: Intake
    dead: Callable[[], Awaitable[list[tuple[bytes, str, str]]]]
    """Body, reason and field of each dead letter."""

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not what():
                await asyncio.sleep(0.02)


@pytest.fixture(params=["embedded", "rabbitmq"])
async def way(request: pytest.FixtureRequest) -> AsyncIterator[Way]:
    if request.param == "rabbitmq":
        async for made in _rabbitmq_way():
            yield made
        return
    intake, letters = Intake(), Letters()

    async def dead() -> list[tuple[bytes, str, str]]:
        return [(message.body, why.reason, why.field) for message, why in letters.kept]

    yield Way(EmbeddedPublisher(intake, letters), intake, dead)


def broker_url() -> str:
    url = os.environ.get(AMQP)
    if url is None:
        pytest.skip(f"no RabbitMQ: run through 'make test', or set {AMQP}")
    return url


async def _rabbitmq_way() -> AsyncIterator[Way]:
    url, prefix, intake = broker_url(), f"test-{os.urandom(4).hex()}", Intake()
    publisher, consumer = AmqpPublisher(url, prefix=prefix), AmqpConsumer(url, intake, prefix=prefix)
    await consumer.start()
    async with await connect(url) as admin:
        channel = await admin.channel()

        async def dead() -> list[tuple[bytes, str, str]]:
            return await _dead_letters(channel, Names(prefix))

        yield Way(publisher, intake, dead)
        await publisher.close()
        await consumer.stop()
        await remove(channel, Names(prefix))


async def _dead_letters(channel: AbstractChannel, names: Names) -> list[tuple[bytes, str, str]]:
    queue = await channel.get_queue(names.dead)
    found: list[tuple[bytes, str, str]] = []
    for _ in range(100):
        message = await queue.get(fail=False)
        if message is not None:
            await message.ack()
            found.append((message.body, str(message.headers.get(REASON)), str(message.headers.get(FIELD))))
        elif found:
            break
        await asyncio.sleep(0.02)
    return found


def structured(*events: object) -> list[Publication]:
    return [Publication(event.structured()) for event in events]  # type: ignore[attr-defined]


async def test_everything_published_is_taken(way: Way) -> None:
    await way.publisher.publish(structured(*golden()))
    await way.until(lambda: len(way.intake.taken) >= len(golden()))
    assert sorted(way.intake.ids()) == sorted(event.event_id for event in golden())


async def test_binary_form_arrives_as_it_was_sent(way: Way) -> None:
    headers, body = placed().binary()
    await way.publisher.publish([Publication(body, headers, "application/json")])
    await way.until(lambda: bool(way.intake.taken))
    (taken,) = way.intake.taken
    assert parse(taken.body, taken.headers, taken.content_type) == placed()


async def test_what_fails_at_first_is_taken_later(way: Way) -> None:
    way.intake.failures = 2
    try:
        await way.publisher.publish(structured(*golden()))
    except TransientFailure:
        pytest.fail("nothing is lost, and the publisher need not know")
    await way.until(lambda: len(way.intake.taken) >= len(golden()))


async def test_a_refused_message_is_a_dead_letter_with_its_reason(way: Way) -> None:
    bad = placed(order="SO-BAD")
    way.intake.refuse = lambda message: b"SO-BAD" in message.body
    await way.publisher.publish(structured(*golden()[:3], bad, *golden()[3:]))
    await way.until(lambda: len(way.intake.taken) >= len(golden()))
    assert await way.dead() == [(bad.structured(), "not today", "data.day")]


async def test_messages_that_came_while_a_batch_was_taken_are_few_batches(way: Way) -> None:
    way.intake.gate = asyncio.Event()
    many = structured(*(placed(order=f"SO-{number}") for number in range(500)))
    publishing = asyncio.create_task(way.publisher.publish(many))
    await asyncio.wait_for(way.intake.entered.wait(), 10)
    await asyncio.wait([publishing], timeout=3)  # embedded, it returns after the commit
    way.intake.gate.set()
    await publishing
    await way.until(lambda: len(way.intake.taken) >= 500)
    assert len(way.intake.batches) < 20


async def test_repetition_is_delivered_and_harmless(way: Way) -> None:
    await way.publisher.publish(structured(placed(), placed()))
    await way.until(lambda: len(way.intake.taken) >= 2)


async def crash(consumer: AmqpConsumer) -> None:
    """It is gone, and the broker notices, as when its process dies."""
    assert consumer._keeping is not None
    consumer._keeping.cancel()
    await consumer._close()


# --- RabbitMQ alone --------------------------------------------------------------------------------------


async def test_nothing_is_acknowledged_before_it_is_taken() -> None:
    """The consumer dies in the middle of a take: the next one gets everything again."""
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    first = Intake(gate=asyncio.Event())
    doomed = AmqpConsumer(url, first, prefix=prefix)
    await doomed.start()
    publisher = AmqpPublisher(url, prefix=prefix)
    await publisher.publish(structured(*golden()))
    await asyncio.wait_for(first.entered.wait(), 10)
    await crash(doomed)
    second = Intake()
    heir = AmqpConsumer(url, second, prefix=prefix)
    await heir.start()
    async with asyncio.timeout(20):
        while len(second.taken) < len(golden()):
            await asyncio.sleep(0.02)
    await heir.stop()
    async with await connect(url) as admin:
        channel = await admin.channel()
        left = await channel.declare_queue(Names(prefix).ingest, passive=True)
        assert left.declaration_result.message_count == 0
        await publisher.close()
        await remove(channel, Names(prefix))


async def test_scans_wait_in_a_queue_of_their_own() -> None:
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    publisher = AmqpPublisher(url, prefix=prefix)
    scan = tell("tracking/ups:1Z9", TrackingScanned(milestone=Milestone.DELIVERED))
    await publisher.publish(structured(scan, scan, placed()))
    await publisher.close()
    async with await connect(url) as admin:
        channel = await admin.channel()
        depth = {
            name: (await channel.declare_queue(name, passive=True)).declaration_result.message_count
            for name in (Names(prefix).ingest, Names(prefix).bulk)
        }
        assert depth == {Names(prefix).ingest: 1, Names(prefix).bulk: 2}
        await remove(channel, Names(prefix))


async def test_an_event_of_an_unknown_type_is_a_dead_letter_at_once() -> None:
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    publisher = AmqpPublisher(url, prefix=prefix)
    unknown = placed().structured().replace(b"order.placed.v1", b"order.sung.v1")
    await publisher.publish([Publication(unknown)])
    await publisher.close()
    async with await connect(url) as admin:
        channel = await admin.channel()
        ((body, _, _),) = await _dead_letters(channel, Names(prefix))
        assert body == unknown
        await remove(channel, Names(prefix))


BINARY = placed().attributes() | {"sequence": "7"}
"""The attributes of one event, as other clients spell them in headers."""


def spelled(prefix: str, **other: object) -> dict[str, object]:
    return {prefix + name: value for name, value in {**BINARY, **other}.items()}


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (placed().structured(), {"content_type": STRUCTURED, "delivery_mode": 2}),
        (placed().structured(), {"content_type": f"{STRUCTURED}; charset=utf-8"}),
        (placed().structured(), {"content_type": "application/json"}),
        (placed().structured(), {}),
        (placed().structured(), {"content_type": STRUCTURED, "headers": {"ce-id": "not this one"}}),
        (placed().data_json, {"content_type": "application/json", "headers": spelled("ce-")}),
        (placed().data_json, {"headers": spelled("CE-")}),
        (placed().data_json, {"content_type": "application/json", "headers": spelled("cloudEvents:")}),
        (placed().data_json, {"content_type": "application/json", "headers": spelled("cloudEvents_")}),
        (placed().data_json, {"headers": spelled("ce-", sequence=7)}),
        (placed().data_json, {"headers": spelled("ce-", id=placed().id.encode())}),
        (placed().data_json, {"headers": spelled("ce-", time=placed().time)}),
        (placed().data_json, {"headers": spelled("ce-", more=None, flag=True, many=["a", {"b": 1}])}),
    ],
    ids=[
        "structured",
        "structured with a charset",
        "structured as JSON",
        "structured with no properties",
        "structured with strange headers",
        "binary",
        "binary in capitals with no content type",
        "binary by the AMQP binding",
        "binary by the AMQP binding, for JMS",
        "an integer header",
        "a header of bytes",
        "a timestamp header",
        "headers that are none of ours",
    ],
)
async def test_another_client_library_may_publish(body: bytes, properties: dict[str, Any]) -> None:
    """pika, with no message id and, but for one, no delivery mode."""
    url, prefix, intake = broker_url(), f"test-{os.urandom(4).hex()}", Intake()
    consumer = AmqpConsumer(url, intake, prefix=prefix)
    await consumer.start()

    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                Names(prefix).events, placed().type, body, pika.BasicProperties(**properties), mandatory=True
            )

    await asyncio.to_thread(publish)
    async with asyncio.timeout(10):
        while not intake.taken:
            await asyncio.sleep(0.02)
    (taken,) = intake.taken
    parsed = parse(taken.body, taken.headers, taken.content_type)
    assert replace(parsed, sequence=None) == placed()
    assert parsed.sequence == (None if body == placed().structured() else 7)
    await consumer.stop()
    async with await connect(url) as admin:
        await remove(await admin.channel(), Names(prefix))
