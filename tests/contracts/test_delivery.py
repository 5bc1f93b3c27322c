"""What every way in must do: embedded delivery and RabbitMQ."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pika
import pika.spec
import pytest
from aio_pika import DeliveryMode, ExchangeType, Message, connect_robust

from adapters.amqp.aside import FIELD, REASON
from adapters.amqp.consumer import AmqpConsumer
from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.queues import AmqpQueues
from adapters.amqp.topology import BULK_TYPES, Names, declare, remove
from adapters.embedded.delivery import EmbeddedPublisher
from canonical.envelope import BODY_BYTES_MAX, STRUCTURED, parse
from canonical.errors import InvariantViolated, TransientFailure
from canonical.facts.tracking import Milestone, TrackingScanned
from ops.bench.flood import flooding
from ops.bench.queues import events_of_a_day
from tests.services import AMQP
from tests.stories import golden, placed
from tests.world import tell
from twins.core.history import Arrival
from twins.ports import Publication, Publisher, Rejected, Taken, Verdict, Waiting


@dataclass
class Intake:
    """Takes for good what it answers for; can be made to fail, refuse or wait."""

    taken: list[Publication] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    patient: list[Publication] = field(default_factory=list)
    """Those of which it was said that they may wait."""
    failures: int = 0
    refuse: Callable[[Publication], bool] = lambda message: False
    break_down: bool = False
    gate: asyncio.Event | None = None
    host_of: Callable[[Publication], str] = lambda message: "host-0"
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    def destination(self, message: Publication) -> str:
        return self.host_of(message)

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        self.entered.set()
        if self.break_down:
            raise ValueError("a fault of ours")
        if self.gate is not None:
            await self.gate.wait()
        for gate in {self.gates.get(self.host_of(message)) for message in messages}:
            if gate is not None:
                await gate.wait()
        if self.failures:
            self.failures -= 1
            raise TransientFailure("the database is away")
        self.batches.append(len(messages))
        if may_wait:
            self.patient += messages
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
    failures: int = 0
    dislikes_headers: bool = False

    async def keep(self, letters: Sequence[tuple[Publication, Rejected]]) -> None:
        if self.failures:
            self.failures -= 1
            raise TransientFailure("the database is away")
        if self.dislikes_headers and any(message.headers for message, _ in letters):
            raise InvariantViolated("the database will not have it")
        self.kept += letters

    def told(self) -> list[tuple[bytes, str, str, str]]:
        return [(message.body, why.reason, why.field, why.fault.value) for message, why in self.kept]


@dataclass
class Way:
    """A way in: what is published through it ends at the intake, or among the dead letters."""

    publisher: Publisher
    intake: Intake
    letters: Letters
    url: str = ""
    names: Names = field(default_factory=Names)
    consumer: AmqpConsumer | None = None

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
    yield Way(EmbeddedPublisher(intake, letters), intake, letters)  # type: ignore[arg-type]


def broker_url() -> str:
    url = os.environ.get(AMQP)
    if url is None:
        pytest.skip(f"no RabbitMQ: run through 'make test', or set {AMQP}")
    return url


async def _rabbitmq_way() -> AsyncIterator[Way]:
    async with consuming() as way:
        yield way


@asynccontextmanager
async def consuming(names: Names | None = None) -> AsyncIterator[Way]:
    """RabbitMQ with names of its own, a publisher and a consumer."""
    names = names or Names(f"test-{os.urandom(4).hex()}")
    url, intake, letters = broker_url(), Intake(), Letters()
    publisher = AmqpPublisher(url, prefix=names.prefix)
    consumer = AmqpConsumer(url, intake, letters, prefix=names.prefix)  # type: ignore[arg-type]
    await consumer.start()
    yield Way(publisher, intake, letters, url, names, consumer)
    await publisher.close()
    await consumer.stop()
    async with await connect_robust(url) as admin:
        await remove(await admin.channel(), names)


async def depth(url: str, names: Names) -> int:
    """How many messages the queues hold once nobody consumes them."""
    async with await connect_robust(url) as admin:
        channel = await admin.channel()
        queues = [await channel.declare_queue(name, passive=True) for name in (names.ingest, names.bulk)]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)


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
    await way.until(lambda: bool(way.letters.kept))
    assert way.letters.told() == [(bad.structured(), "not today", "data.day", "sender")]


async def test_messages_that_came_while_a_batch_was_taken_are_the_next_batch(way: Way) -> None:
    way.intake.gate = asyncio.Event()
    many = structured(*(placed(order=f"SO-{number}") for number in range(500)))
    publishing = asyncio.create_task(way.publisher.publish(many))
    await asyncio.wait_for(way.intake.entered.wait(), 10)
    if way.consumer is None:
        await asyncio.wait([publishing], timeout=1)  # embedded, it returns after the commit
    else:
        lanes = way.consumer._lanes
        await way.until(lambda: sum(lane.held for lane in lanes) > 400)
    way.intake.gate.set()
    await publishing
    await way.until(lambda: len(way.intake.taken) >= 500)
    assert max(way.intake.batches) > 400


async def test_repetition_is_delivered_and_harmless(way: Way) -> None:
    await way.publisher.publish(structured(placed(), placed()))
    await way.until(lambda: len(way.intake.taken) >= 2)


async def crash(consumer: AmqpConsumer) -> None:
    """It is gone, and the broker notices, as when its process dies."""
    assert consumer._keeping is not None
    consumer._keeping.cancel()
    await consumer._close()


# --- RabbitMQ alone --------------------------------------------------------------------------------------


async def test_scans_and_nothing_else_may_wait() -> None:
    async with consuming() as way:
        some = events_of_a_day(300, seed=1)
        scans = {one.body for one in some if parse(one.body).type in BULK_TYPES}
        await way.publisher.publish(some)
        await way.until(lambda: len(way.intake.taken) >= len(some))
        assert {one.body for one in way.intake.patient} == scans


async def test_a_flood_comes_whole_and_in_order_once_it_is_let_go() -> None:
    """What a benchmark floods twins with."""
    async with consuming() as way:
        some = events_of_a_day(300, seed=1)
        scans = [one for one in some if parse(one.body).type in BULK_TYPES]
        async with flooding(way.url, way.names, scans, rate=10_000.0) as flood:
            assert flood.left == len(scans)
            assert not way.intake.taken
            await flood.run()
            await way.until(lambda: len(way.intake.taken) >= len(scans))
        assert flood.left == 0
        assert [one.body for one in way.intake.taken] == [one.body for one in scans]
        assert way.intake.patient == way.intake.taken


async def test_nothing_is_acknowledged_before_it_is_taken() -> None:
    """The consumer dies in the middle of a take: the next one gets everything again."""
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    first = Intake(gate=asyncio.Event())
    doomed = AmqpConsumer(url, first, Letters(), prefix=prefix)  # type: ignore[arg-type]
    await doomed.start()
    publisher = AmqpPublisher(url, prefix=prefix)
    await publisher.publish(structured(*golden()))
    await asyncio.wait_for(first.entered.wait(), 10)
    await crash(doomed)
    second = Intake()
    heir = AmqpConsumer(url, second, Letters(), prefix=prefix)  # type: ignore[arg-type]
    await heir.start()
    async with asyncio.timeout(20):
        while len(second.taken) < len(golden()):
            await asyncio.sleep(0.02)
    await heir.stop()
    async with await connect_robust(url) as admin:
        assert await depth(url, Names(prefix)) == 0
        await publisher.close()
        await remove(await admin.channel(), Names(prefix))


async def test_a_host_that_is_away_holds_up_its_own_messages_alone() -> None:
    """Many more than prefetch allows are taken meanwhile; in the end each was taken once and acknowledged."""
    async with consuming() as way:
        assert way.consumer is not None
        way.intake.host_of = lambda message: "away" if b"SO-A" in message.body else "here"
        way.intake.gates["away"] = asyncio.Event()
        waiting = structured(*(placed(order=f"SO-A{number}") for number in range(20)))
        others = structured(*(placed(order=f"SO-{number}") for number in range(5_000)))
        await way.publisher.publish([*others[:10], *waiting, *others[10:]])
        await way.until(lambda: len(way.intake.taken) >= len(others))
        assert {one.body for one in way.intake.taken} == {one.body for one in others}
        way.intake.gates["away"].set()
        await way.until(lambda: len(way.intake.taken) >= len(others) + len(waiting))
        await way.consumer.stop()
        assert len(set(way.intake.ids())) == len(way.intake.ids()) == len(others) + len(waiting)
        assert await depth(way.url, way.names) == 0


class SlowIntake(Intake):
    """Answers a while after it has taken."""

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        verdicts = await super().take(messages, may_wait=may_wait)
        await asyncio.sleep(0.2)
        return verdicts


async def test_one_of_two_consumers_that_ends_leaves_the_rest_to_the_other() -> None:
    """It finishes what it has begun, and what it held besides goes to the other: each is taken once."""
    async with consuming() as way:
        assert way.consumer is not None
        slow = SlowIntake()
        going = AmqpConsumer(
            way.url,
            slow,
            way.letters,
            prefix=way.names.prefix,
            prefetch=100,
            batch_size_max=20,  # type: ignore[arg-type]
        )
        await going.start()
        many = structured(*(placed(order=f"SO-{number}") for number in range(2_000)))
        publishing = asyncio.create_task(way.publisher.publish(many))
        await asyncio.wait_for(slow.entered.wait(), 10)
        await going.stop()
        await publishing
        await way.until(lambda: len(way.intake.taken) + len(slow.taken) >= len(many))
        await way.consumer.stop()
        assert await depth(way.url, way.names) == 0
        taken = way.intake.ids() + slow.ids()
        assert len(set(taken)) == len(taken) == len(many)
        assert 0 < len(slow.taken) < 200


async def test_what_waits_is_counted_by_queue_and_without_what_is_in_hand() -> None:
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    queues, publisher = AmqpQueues(url, prefix=prefix), AmqpPublisher(url, prefix=prefix)
    assert await queues.waiting() == Waiting(events=0, bulk=0)
    scan = tell("tracking/ups:1Z9", TrackingScanned(milestone=Milestone.DELIVERED))
    await publisher.publish(structured(scan, scan, placed()))
    assert await queues.waiting() == Waiting(events=1, bulk=2)
    intake = Intake(gate=asyncio.Event())
    consumer = AmqpConsumer(url, intake, Letters(), prefix=prefix)  # type: ignore[arg-type]
    await consumer.start()
    await asyncio.wait_for(intake.entered.wait(), 10)
    async with asyncio.timeout(10):
        while (await queues.waiting()).total:
            await asyncio.sleep(0.02)
    await crash(consumer)
    async with asyncio.timeout(10):
        while await queues.waiting() != Waiting(events=1, bulk=2):
            await asyncio.sleep(0.02)
    await publisher.close()
    async with await connect_robust(url) as admin:
        await remove(await admin.channel(), Names(prefix))
        with pytest.raises(TransientFailure):
            await queues.waiting()
        assert (await queues.waiting()).total == 0, "declared anew"
        await queues.close()
        await remove(await admin.channel(), Names(prefix))


async def test_where_no_broker_is_nobody_knows_what_waits() -> None:
    with pytest.raises(TransientFailure):
        await AmqpQueues("amqp://guest:guest@127.0.0.1:9/").waiting()


async def test_scans_wait_in_a_queue_of_their_own() -> None:
    url, prefix = broker_url(), f"test-{os.urandom(4).hex()}"
    publisher = AmqpPublisher(url, prefix=prefix)
    scan = tell("tracking/ups:1Z9", TrackingScanned(milestone=Milestone.DELIVERED))
    await publisher.publish(structured(scan, scan, placed()))
    await publisher.close()
    async with await connect_robust(url) as admin:
        channel = await admin.channel()
        depth = {
            name: (await channel.declare_queue(name, passive=True)).declaration_result.message_count
            for name in (Names(prefix).ingest, Names(prefix).bulk)
        }
        assert depth == {Names(prefix).ingest: 1, Names(prefix).bulk: 2}
        await remove(channel, Names(prefix))


async def test_events_are_routed_by_their_whole_type_which_costs_the_broker_least() -> None:
    async with consuming() as way, await connect_robust(way.url) as admin:
        arguments = {"alternate-exchange": way.names.dead}
        await (await admin.channel()).declare_exchange(
            way.names.events, ExchangeType.DIRECT, durable=True, arguments=arguments
        )


async def test_an_exchange_that_a_version_before_declared_goes_on_routing() -> None:
    """It had made a topic exchange, of which the broker lets nobody make another kind."""
    url, names = broker_url(), Names(f"test-{os.urandom(4).hex()}")
    async with await connect_robust(url) as admin:
        arguments = {"alternate-exchange": names.dead}
        await (await admin.channel()).declare_exchange(
            names.events, ExchangeType.TOPIC, durable=True, arguments=arguments
        )
    async with consuming(names) as way:
        await way.publisher.publish(structured(*golden()))
        await way.until(lambda: len(way.intake.taken) == len(golden()))
        await sent(way, names.events, b"{}", "twinsync.unheard-of")
        await way.until(lambda: len(way.letters.kept) == 1)


async def test_an_exchange_that_somebody_else_declared_is_refused_by_name() -> None:
    url, names = broker_url(), Names(f"test-{os.urandom(4).hex()}")
    async with await connect_robust(url) as admin:
        channel = await admin.channel()
        exchange = await channel.declare_exchange(names.events, ExchangeType.FANOUT, durable=True)
        publisher = AmqpPublisher(url, prefix=names.prefix)
        with pytest.raises(TransientFailure, match=names.events):
            await publisher.publish(structured(placed()))
        await publisher.close()
        await exchange.delete()


# --- RabbitMQ alone: what is set aside ------------------------------------------------------------------


async def sent(way: Way, exchange: str, body: bytes, routing_key: str, **properties: Any) -> None:
    async with await connect_robust(way.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT, **properties)
        await (await channel.get_exchange(exchange)).publish(message, routing_key)


async def test_an_event_of_an_unknown_version_is_a_dead_letter_that_says_which_are_known() -> None:
    async with consuming() as way:
        unknown = placed().structured().replace(b"order.placed.v1", b"order.placed.v7")
        await way.publisher.publish([Publication(unknown)])
        await way.until(lambda: bool(way.letters.kept))
        ((body, reason, at, fault),) = way.letters.told()
        assert (body, at, fault) == (unknown, "type", "sender")
        assert "known: io.twinsync.order.placed.v1" in reason


async def test_an_event_with_a_wrong_routing_key_is_a_dead_letter_that_names_both() -> None:
    async with consuming() as way:
        await sent(way, way.names.events, placed().structured(), "orders")
        await way.until(lambda: bool(way.letters.kept))
        ((_, reason, at, _),) = way.letters.told()
        assert at == "type"
        assert "'orders'" in reason
        assert placed().type in reason


async def test_what_the_broker_gave_up_is_a_dead_letter_of_our_own_fault() -> None:
    async with consuming() as way:
        way.intake.break_down = True
        await way.publisher.publish(structured(placed()))
        await way.until(lambda: bool(way.letters.kept))
        ((body, reason, _, fault),) = way.letters.told()
        assert (body, fault) == (placed().structured(), "twinsync")
        assert "given up after 20 deliveries" in reason
        assert not any(name.startswith("x-") for name in way.letters.kept[0][0].headers)


async def test_what_is_too_large_never_reaches_the_intake() -> None:
    async with consuming() as way:
        huge = b" " * (BODY_BYTES_MAX + 1)
        await sent(way, way.names.events, huge, placed().type)
        await way.publisher.publish(structured(placed()))
        await way.until(lambda: bool(way.letters.kept) and bool(way.intake.taken))
        assert way.letters.told() == [(huge, "1048577 bytes; at most 1048576", "data", "sender")]
        assert way.intake.ids() == [placed().event_id]


async def test_dead_letters_of_an_older_consumer_keep_their_reasons() -> None:
    async with consuming() as way:
        headers = {REASON: "not today", FIELD: "data.day", "ce-id": "7"}
        await sent(way, way.names.dead, b"{}", "", headers=headers)
        await way.until(lambda: bool(way.letters.kept))
        assert way.letters.told() == [(b"{}", "not today", "data.day", "sender")]
        assert way.letters.kept[0][0].headers == {"ce-id": "7"}


async def test_a_dead_letter_waits_for_a_database_that_is_away_and_is_kept_once() -> None:
    async with consuming() as way:
        way.letters.failures = 2
        way.intake.refuse = lambda message: b"SO-BAD" in message.body
        await way.publisher.publish(structured(placed(order="SO-BAD")))
        await sent(way, way.names.dead, b"\xff", "")
        await way.until(lambda: len(way.letters.kept) == 2)


async def test_a_dead_letter_that_cannot_be_stored_does_not_come_for_ever() -> None:
    async with consuming() as way:
        way.letters.dislikes_headers = True
        await sent(way, way.names.dead, b"\xff", "", headers={"odd": "one"})
        await way.until(lambda: bool(way.letters.kept))
        assert way.letters.kept[0][0] == Publication(b"\xff")


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
        (placed().data_json(), {"content_type": "application/json", "headers": spelled("ce-")}),
        (placed().data_json(), {"headers": spelled("CE-")}),
        (placed().data_json(), {"content_type": "application/json", "headers": spelled("cloudEvents:")}),
        (placed().data_json(), {"content_type": "application/json", "headers": spelled("cloudEvents_")}),
        (placed().data_json(), {"headers": spelled("ce-", sequence=7)}),
        (placed().data_json(), {"headers": spelled("ce-", id=placed().id.encode())}),
        (placed().data_json(), {"headers": spelled("ce-", time=placed().time)}),
        (placed().data_json(), {"headers": spelled("ce-", more=None, flag=True, many=["a", {"b": 1}])}),
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

    def publish(way: Way) -> None:
        with pika.BlockingConnection(pika.URLParameters(way.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(
                way.names.events, placed().type, body, pika.BasicProperties(**properties), mandatory=True
            )

    async with consuming() as way:
        await asyncio.to_thread(publish, way)
        await way.until(lambda: bool(way.intake.taken))
        (taken,) = way.intake.taken
        parsed = parse(taken.body, taken.headers, taken.content_type)
        assert replace(parsed, sequence=None) == placed()
        assert parsed.sequence == (None if body == placed().structured() else 7)


async def test_properties_that_are_no_text_end_nothing() -> None:
    """A connection that ended for them would meet the message again on the next, for ever."""

    def publish(way: Way) -> None:
        with pika.BlockingConnection(pika.URLParameters(way.url)) as connection:
            channel = connection.channel()
            for body, properties in (
                (placed().structured(), pika.BasicProperties(STRUCTURED, message_id=b"\xff\xfe")),
                (
                    placed(minute=1).structured(),
                    pika.BasicProperties(STRUCTURED, headers={"ce-id": "1"}, app_id=b"\xe9"),
                ),
            ):
                channel.basic_publish(way.names.events, placed().type, body, properties)

    async with consuming() as way:
        await asyncio.to_thread(publish, way)
        await way.until(lambda: len(way.intake.taken) >= 2)
        assert way.intake.ids() == [placed().event_id, placed(minute=1).event_id]


class Deep(pika.BasicProperties):
    """Headers within headers, deeper than any library would write."""

    def encode(self) -> list[bytes]:
        table = b""
        for _ in range(2_000):
            table = b"\x01nF" + len(table).to_bytes(4) + table
        return [(1 << 13).to_bytes(2), len(table).to_bytes(4), table]


async def test_what_no_library_can_read_is_a_dead_letter_and_others_go_on() -> None:
    """The broker checks neither that a routing key is text nor how deep headers are."""

    def publish(way: Way) -> None:
        with pika.BlockingConnection(pika.URLParameters(way.url)) as connection:
            channel = connection.channel()
            no_text = pika.spec.Basic.Publish(exchange=way.names.events, routing_key=b"k\xff")  # type: ignore[arg-type]
            channel._impl._send_method(no_text, (pika.BasicProperties(STRUCTURED), placed().structured()))
            event = placed(minute=1)
            channel.basic_publish(way.names.events, event.type, event.structured(), Deep())

    async with consuming() as way:
        await asyncio.to_thread(publish, way)
        await way.publisher.publish(structured(placed(minute=2)))
        await way.until(lambda: bool(way.letters.kept) and len(way.intake.taken) >= 2)
        assert way.intake.ids() == [placed(minute=1).event_id, placed(minute=2).event_id]
        ((_, reason, at, _),) = way.letters.told()
        assert "no event type" in reason
        assert at == "type"


async def test_a_consumer_outlives_whatever_keeps_it_from_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with consuming() as way:
        assert way.consumer is not None
        troubles = [UnicodeDecodeError("utf-8", b"k\xff", 1, 2, "invalid start byte"), KeyError("queue")]

        async def declared(*arguments: Any) -> None:
            if troubles:
                raise troubles.pop()
            await declare(*arguments)

        monkeypatch.setattr("adapters.amqp.consumer.declare", declared)
        way.consumer._end("the test says so")
        await way.publisher.publish(structured(placed()))
        await way.until(lambda: bool(way.intake.taken))
        assert not troubles
