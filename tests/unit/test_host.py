"""A host commits before it shows, survives what fails, and forgets what is idle. Real SQLite underneath."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from pydantic_core import from_json, to_json

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Fenced, TransientFailure
from canonical.facts.order import PaymentCaptured
from canonical.identity import TwinRef, item, order
from tests.stories import ORDER, delivered, dispatched, golden, placed
from tests.world import DAY, World, tell
from twins.core.batch import Batch, Effects
from twins.core.contributions import Contribution, Interest
from twins.core.history import Arrival
from twins.core.placement import UNPLACED, Placement
from twins.core.rules import Policy
from twins.ports import Publication, Rejected, Taken, Verdict
from twins.runtime.host import DUE_LIMIT, RAISED_AT_ONCE, Aspect, Residency, TwinHost


class Clock:
    def __init__(self) -> None:
        self.moment = DAY

    def now(self) -> datetime:
        return self.moment


class OrdersApart(Placement):
    """Orders on one host, everything else on another."""

    def host_of(self, ref: TwinRef) -> str:
        return "a" if ref.kind == "order" else "b"


class FickleStore(SqlStore):
    """A real store whose next commits can be made to fail or to wait."""

    failures = 0
    gate: asyncio.Event | None = None
    breaks_on: TwinRef | None = None
    """A bug of ours: what tells of it cannot be committed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.committed: list[Effects] = []

    def let_pass(self) -> None:
        assert self.gate is not None
        self.gate.set()

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise TransientFailure("the database is away")
        if self.breaks_on in effects.touched:
            raise ZeroDivisionError("a bug")
        await super().commit(host, epoch, effects, delivered, placement)
        self.committed.append(effects)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FickleStore]:
    opened = FickleStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def host(store: SqlStore, **options: object) -> TwinHost:
    return TwinHost("host-0", store, Clock(), Policy(), **options)  # type: ignore[arg-type]


def messages(*events: object) -> list[Publication]:
    return [Publication(event.structured()) for event in events]  # type: ignore[attr-defined]


async def document(one: TwinHost, ref: TwinRef) -> dict[str, object] | None:
    (answer,) = await one.read(Aspect.DOCUMENT, [ref])
    return None if answer is None else from_json(answer[1])


async def test_a_reader_never_sees_what_is_not_committed(store: FickleStore) -> None:
    one = host(store)
    await one.take(messages(placed()))
    before = await document(one, order(ORDER))
    store.gate = asyncio.Event()
    paid = tell(f"order/{ORDER}", PaymentCaptured(payment_id="P", amount="1", currency="USD"), 5)
    taking = asyncio.create_task(one.take(messages(paid)))
    for _ in range(50):
        await asyncio.sleep(0)
        assert await document(one, order(ORDER)) == before
    store.gate.set()
    await taking
    after = await document(one, order(ORDER))
    assert after is not None
    assert after["payment"]["captured"] == "1"  # type: ignore[index]


async def test_who_asks_for_a_twin_before_it_is_told_of_waits_for_no_commit(store: FickleStore) -> None:
    """Asked for again and again, it kept the next batch from being folded while one was committed."""
    one = host(store)
    store.gate = asyncio.Event()
    taking = asyncio.create_task(one.take(messages(placed())))
    while one._committing is None:
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await document(one, order(ORDER)) is None
        assert await document(one, order("SO-2")) is None
    assert not taking.done()
    store.gate.set()
    await taking
    assert await document(one, order(ORDER)) is not None


async def test_who_reads_a_twin_in_memory_does_not_wait_for_all_of_a_fold(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host(store)
    await one.take(messages(*golden()[:3], placed()))
    happened: list[str] = []
    step = Batch.step

    def noted(batch: Batch) -> bool:
        if not happened:
            reading.append(asyncio.create_task(read()))
        happened.append("step")
        return step(batch)

    async def read() -> None:
        assert await document(one, order(ORDER)) is not None
        happened.append("answer")

    reading: list[asyncio.Task[None]] = []
    monkeypatch.setattr(Batch, "step", noted)
    await one.take(
        messages(tell(f"order/{ORDER}", PaymentCaptured(payment_id="P", amount="1", currency="USD"), 5))
    )
    assert happened.index("answer") < len(happened) - 1


async def test_what_failed_to_commit_is_taken_when_it_comes_again(store: FickleStore) -> None:
    one = host(store)
    store.failures = 1
    with pytest.raises(TransientFailure):
        await one.take(messages(placed()))
    assert await document(one, order(ORDER)) is None
    assert await one.take(messages(placed())) == [Taken(Arrival.NEW)]


async def test_a_batch_that_builds_upon_one_that_failed_fails_with_it(store: FickleStore) -> None:
    one = host(store)
    await one.take(messages(*golden()[:3]))
    store.gate, store.failures = asyncio.Event(), 1
    first = asyncio.create_task(one.take(messages(placed())))
    await asyncio.sleep(0.01)
    paid = tell(f"order/{ORDER}", PaymentCaptured(payment_id="P", amount="1", currency="USD"), 5)
    second = asyncio.create_task(one.take(messages(paid)))
    await asyncio.sleep(0.01)
    store.gate.set()
    answers = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(answer) for answer in answers] == [TransientFailure, TransientFailure]
    assert await document(one, order(ORDER)) is None
    assert await one.take(messages(placed(), paid)) == [Taken(Arrival.NEW), Taken(Arrival.NEW)]


async def while_the_first_is_committed(
    one: TwinHost, store: FickleStore, *events: Event
) -> list[asyncio.Task[list[Verdict]]]:
    """The first one's commit waits at the gate; each of the others came after the one before was folded."""
    store.gate = asyncio.Event()
    calls = []
    for event in events:
        calls.append(asyncio.create_task(one.take(messages(event))))
        await asyncio.sleep(0.02)
    return calls


async def test_what_is_folded_while_a_commit_lasts_is_committed_together(store: FickleStore) -> None:
    one = host(store)
    told = [placed(order=f"SO-{number}") for number in range(4)]
    calls = await while_the_first_is_committed(one, store, *told, told[2])
    assert not any(call.done() for call in calls)
    store.let_pass()
    new, again = [Taken(Arrival.NEW)], [Taken(Arrival.DUPLICATE)]
    assert await asyncio.gather(*calls) == [new, new, new, new, again]
    assert [len(effects.events) for effects in store.committed] == [1, 3]
    assert (one.counts.batches, one.counts.commits) == (5, 2)
    assert [await document(one, event.subject) for event in told] == [
        await document(host(store), event.subject) for event in told
    ]


async def test_all_that_is_folded_upon_a_batch_that_failed_fails_with_it(store: FickleStore) -> None:
    one = host(store)
    paid = tell(f"order/{ORDER}", PaymentCaptured(payment_id="P", amount="1", currency="USD"), 5)
    told = [placed(), paid, placed(order="SO-2")]
    calls = await while_the_first_is_committed(one, store, *told)
    store.failures = 1
    store.let_pass()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [TransientFailure] * 3
    assert store.committed == []
    assert [await document(one, event.subject) for event in told] == [None] * 3
    assert await one.take(messages(*told)) == [Taken(Arrival.NEW)] * 3


async def test_no_more_is_folded_ahead_than_is_soon_written(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.host.AHEAD", 4)
    one = host(store)
    calls = await while_the_first_is_committed(
        one, store, *(placed(order=f"SO-{number}") for number in range(12))
    )
    waiting = one._uncommitted[1:]
    assert 4 < sum(len(folded.effects.touched) for folded in waiting) <= 4 + len(waiting[-1].effects.touched)
    store.let_pass()
    assert await asyncio.gather(*calls) == [[Taken(Arrival.NEW)]] * 12
    assert sum(len(effects.events) for effects in store.committed) == 12


async def test_what_cannot_be_committed_is_set_aside_and_what_was_to_be_committed_with_it_is_not(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.host.LINGER_S", 1_000)
    one, store.breaks_on = host(store), order("SO-2")
    told = [placed(order=f"SO-{number}") for number in range(4)]
    calls = await while_the_first_is_committed(one, store, *told)
    store.let_pass()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[:2] == [[Taken(Arrival.NEW)]] * 2
    assert [type(verdict) for verdict in answers[2]] == [Rejected]  # type: ignore[union-attr]
    if isinstance(answers[3], TransientFailure):  # it was folded upon the culprit a second time
        answers[3] = await one.take(messages(told[3]))
    assert answers[3] == [Taken(Arrival.NEW)]
    assert [event.subject.key for effects in store.committed for event, _ in effects.events] == [
        "SO-0",
        "SO-1",
        "SO-3",
    ]


async def test_mail_is_no_culprit_for_what_was_to_be_committed_with_it(store: FickleStore) -> None:
    one, store.breaks_on = host(store), order("SO-2")
    (first,) = await while_the_first_is_committed(one, store, placed())
    absorbing = asyncio.create_task(one.absorb([Contribution(item("SKU-9"), order(ORDER), 3, None)]))
    await asyncio.sleep(0.02)
    culprit = asyncio.create_task(one.take(messages(placed(order="SO-2"))))
    await asyncio.sleep(0.02)
    assert len(one._uncommitted) == 3
    store.let_pass()
    assert await first == [Taken(Arrival.NEW)]
    await absorbing
    assert [type(verdict) for verdict in await culprit] == [Rejected]


async def test_who_gives_up_waiting_leaves_nothing_in_memory_that_is_not_stored(store: FickleStore) -> None:
    """Cancelled between folding and committing, its batch was known from then on and never stored. It is."""
    one = host(store)
    store.gate = asyncio.Event()
    first = asyncio.create_task(one.take(messages(placed())))
    while not one._uncommitted:
        await asyncio.sleep(0)
    second = asyncio.create_task(one.take(messages(placed(order="SO-2"))))
    while not one._turn.locked():
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0.002)
    second.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    await first
    with contextlib.suppress(asyncio.CancelledError):
        await second
    (verdict,) = await one.take(messages(placed(order="SO-2")))
    assert verdict == Taken(Arrival.DUPLICATE)
    assert (await store.load([order("SO-2")]))[order("SO-2")].version > 0


async def test_a_duplicate_is_acknowledged_only_after_the_first_telling_is_committed(
    store: FickleStore,
) -> None:
    one = host(store)
    store.gate = asyncio.Event()
    first = asyncio.create_task(one.take(messages(placed())))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(one.take(messages(placed())))
    await asyncio.sleep(0.05)
    assert not second.done()
    store.gate.set()
    assert await asyncio.gather(first, second) == [[Taken(Arrival.NEW)], [Taken(Arrival.DUPLICATE)]]


@pytest.mark.parametrize("seed", range(6))
async def test_overlapping_batches_failing_commits_and_a_tiny_memory_change_nothing(
    store: FickleStore, seed: int
) -> None:
    random, one = Random(seed), host(store, residency=Residency(twins_max=4))
    waiting = list(golden())
    random.shuffle(waiting)
    expected = World().take_each(golden())

    async def deliver(event: Event) -> None:
        while True:
            await asyncio.sleep(random.random() * 0.02)
            with contextlib.suppress(TransientFailure):
                await one.take(messages(event))
                return

    async def trouble() -> None:
        for _ in range(6):
            await asyncio.sleep(0.005)
            store.failures = 1
            await document(one, order(f"SO-{random.randrange(3)}"))

    await asyncio.gather(trouble(), *(deliver(event) for event in waiting + waiting[::3]))
    for ref, twin in expected.twins.items():
        found = await document(one, ref)
        assert found is not None
        assert found.pop("version")
        assert found == from_json(to_json(twin.snapshot().document())), ref
    live = await store.live_postings()
    assert {key: record.posting for key, record in live.items()} == expected.live()


async def test_a_new_incarnation_knows_all_that_was_acknowledged(store: FickleStore) -> None:
    events = golden()
    await host(store).take(messages(*events[:8]))
    again = host(store)
    await again.take(messages(*events[5:]))
    in_order = World().take_each(events)
    for ref, twin in in_order.twins.items():
        (answer,) = await again.read(Aspect.DOCUMENT, [ref])
        assert answer is not None
        told = from_json(answer[1])
        assert told["status"] == twin.snapshot().status, ref
    assert await again.take(messages(events[0])) == [Taken(Arrival.DUPLICATE)]


async def test_an_old_incarnation_commits_nothing_and_shows_nothing_new(store: FickleStore) -> None:
    zombie = host(store)
    await zombie.take(messages(placed()))
    await host(store).take(messages(placed(order="SO-2")))
    with pytest.raises(Fenced):
        await zombie.take(messages(placed(order="SO-3")))
    assert await document(host(store), order("SO-3")) is None


async def test_one_refused_message_does_not_stop_the_others(store: FickleStore) -> None:
    verdicts = await host(store).take(
        [Publication(b"nonsense"), *messages(placed()), Publication(placed().structured()[:-9])]
    )
    assert isinstance(verdicts[0], Rejected)
    assert verdicts[1] == Taken(Arrival.NEW)
    assert isinstance(verdicts[2], Rejected)


async def test_an_event_that_breaks_us_is_set_aside_alone(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twins.core import twin

    accept = twin.Twin.accept

    def fails(self: twin.Twin, event: object) -> Arrival:
        if self.ref == order("SO-BAD"):
            raise ZeroDivisionError("a bug")
        return accept(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(twin.Twin, "accept", fails)
    verdicts = await host(store).take(messages(placed(), placed(order="SO-BAD"), placed(order="SO-2")))
    assert [type(one) for one in verdicts] == [Taken, Rejected, Taken]
    assert "a bug" in verdicts[1].reason  # type: ignore[union-attr]


async def test_twins_beyond_the_budget_leave_memory_and_come_back(store: FickleStore) -> None:
    one = host(store, residency=Residency(twins_max=3))
    events = [placed(order=f"SO-{number}") for number in range(10)]
    await one.take(messages(*golden()[:2], *events))
    assert one.resident_twins() == 3
    assert one.counts.passivations >= 9
    found = await document(one, order("SO-0"))
    assert found is not None
    assert found["status"] == "placed"
    assert await one.take(messages(*events)) == [Taken(Arrival.DUPLICATE)] * 10


async def test_idle_twins_leave_memory(store: FickleStore) -> None:
    one = host(store, residency=Residency(idle_s=0.0))
    await one.take(messages(*golden()))
    await asyncio.sleep(0.01)
    await one.sweep()
    assert one.resident_twins() == 0


async def with_letters_for_one_that_is_away(
    store: FickleStore, *, beside: Sequence[Contribution] = (), **options: object
) -> tuple[TwinHost, list[Contribution]]:
    """A host of orders with more mail for the other than one sweep looks at; what could be delivered."""
    delivered: list[Contribution] = []

    async def post(letters: Sequence[Contribution]) -> None:
        delivered.extend(letter for letter in letters if letter in beside)
        if not all(letter in beside for letter in letters):
            raise TransientFailure("it is away")

    one = TwinHost("a", store, Clock(), Policy(), placement=OrdersApart(), post=post, **options)  # type: ignore[arg-type]
    await one.take(messages(placed()))
    many = [Contribution(order(ORDER), item(f"A{number:04}"), 1, Interest()) for number in range(DUE_LIMIT)]
    await store.commit(
        "a", 1, Effects(mail={(one.target, one.source): one for one in [*many, *beside]}), (), OrdersApart()
    )
    return one, delivered


async def test_letters_for_a_host_that_is_away_keep_no_others_from_being_sent(store: FickleStore) -> None:
    last = Contribution(order(ORDER), item("Z"), 1, Interest())
    one, delivered = await with_letters_for_one_that_is_away(store, beside=[last])
    for _ in range(3):
        with contextlib.suppress(TransientFailure):
            await one.sweep()
    assert last in delivered


async def test_a_host_that_is_away_keeps_no_other_from_forgetting_what_is_idle(store: FickleStore) -> None:
    one, _ = await with_letters_for_one_that_is_away(store, residency=Residency(idle_s=0.5))
    assert one.resident_twins()
    await asyncio.sleep(0.6)
    with pytest.raises(TransientFailure):
        await one.sweep()
    assert not one.resident_twins()


async def test_a_host_that_is_away_keeps_no_other_duty_from_being_done(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await with_letters_for_one_that_is_away(store)
    looked = []

    async def look_around() -> None:
        looked.append(await store.mail(1))

    monkeypatch.setattr(one, "look_around", look_around)
    for _ in range(2):
        with pytest.raises(TransientFailure):
            await one.sweep()
    assert len(looked) == 2


async def test_a_deadline_is_raised_though_a_commit_has_failed_before(store: FickleStore) -> None:
    """Then nothing is kept of what is read until it is known to have ended."""
    clock = Clock()
    one = TwinHost("host-0", store, clock, Policy())
    await one.take(messages(delivered("1Z1", 10)))
    store.failures = 1
    with pytest.raises(TransientFailure):
        await one.take(messages(placed()))
    clock.moment += timedelta(days=365)
    assert await one.sweep()
    assert one.counts.deadlines


async def test_a_letter_that_breaks_its_twin_keeps_no_other_from_being_heard(store: FickleStore) -> None:
    one, store.breaks_on = host(store), order("SO-4")
    for number in range(8):
        if number != 4:
            await one.take(messages(placed(order=f"SO-{number}")))
    letters = [Contribution(item("SKU-9"), order(f"SO-{number}"), 3, None) for number in range(8)]
    await one.absorb(letters)
    heard = {
        target for effects in store.committed for target, source in effects.registers if source.key == "SKU-9"
    }
    assert heard == {order(f"SO-{number}") for number in range(8) if number != 4}


async def test_reading_an_unknown_twin_leaves_no_trace(store: FickleStore) -> None:
    one = host(store)
    assert await document(one, order("SO-404")) is None
    assert one.resident_twins() == 0


async def test_mail_between_hosts_survives_a_post_office_that_fails(store: FickleStore) -> None:
    """Orders on one host, everything else on another; every delivery fails at first."""
    hosts: dict[str, TwinHost] = {}
    lost = {"count": 0}

    async def deliver(contributions: Sequence[Contribution]) -> None:
        lost["count"] += 1
        if lost["count"] % 2:
            raise TransientFailure("lost on the way")
        for name, one in hosts.items():
            mine = [letter for letter in contributions if one._is_mine(letter.target)]
            if mine:
                assert name in hosts
                await one.absorb(mine)

    for name in ("a", "b"):
        hosts[name] = TwinHost(
            name,
            store,
            Clock(),
            Policy(),
            placement=OrdersApart(),
            post=deliver,
        )
    for event in golden():
        await hosts["a" if event.subject.kind == "order" else "b"].take(messages(event))
    for _ in range(20):
        for one in hosts.values():
            with contextlib.suppress(TransientFailure):
                await one.sweep()
        if not await store.mail(1):
            break
    assert await store.mail(10) == []
    expected = World().take_each(golden())
    for ref, twin in expected.twins.items():
        owner = hosts["a" if ref.kind == "order" else "b"]
        found = await document(owner, ref)
        assert found is not None
        assert found["status"] == twin.snapshot().status, ref
    live = await store.live_postings()
    assert {key: record.posting for key, record in live.items()} == expected.live()


async def test_an_overdue_finding_is_raised_once(store: FickleStore) -> None:
    clock = Clock()
    one = TwinHost("host-0", store, clock, Policy())
    await one.take(messages(dispatched("S-1", 1, 0, order="SO-NEVER")))
    assert await one.sweep() == 0
    clock.moment += timedelta(days=2)
    assert await one.sweep() >= 1
    assert one.counts.deadlines >= 1
    assert await one.sweep() == 0


async def test_others_have_their_turn_while_many_deadlines_are_raised(store: FickleStore) -> None:
    clock = Clock()
    one = TwinHost("host-0", store, clock, Policy())
    many = 4 * RAISED_AT_ONCE
    await one.take(messages(*(dispatched(f"S-{n}", 1, 0, order=f"SO-{n}") for n in range(many))))
    clock.moment += timedelta(days=2)
    sweeping, seen = asyncio.create_task(one.sweep()), {0}
    while not sweeping.done():
        await asyncio.sleep(0)
        seen.add(one.counts.deadlines)
    assert max(seen) >= many
    assert len(seen) >= many // RAISED_AT_ONCE


async def test_what_was_committed_lately_is_known_without_being_read(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host(store)
    await one.take(messages(placed()))
    monkeypatch.setattr("twins.runtime.host.parse", None)
    assert await one.take(messages(placed())) == [Taken(Arrival.DUPLICATE)]
    assert one.counts.duplicates == 1


async def test_the_same_body_under_other_headers_is_another_event(store: FickleStore) -> None:
    one = host(store)
    first, second = (tell("order/SO-1", placed().fact, number) for number in (1, 2))
    told = [Publication(body, headers) for headers, body in (first.binary(), second.binary())]
    assert await one.take(told[:1]) == [Taken(Arrival.NEW)]
    assert await one.take(told[1:]) == [Taken(Arrival.NEW)]
