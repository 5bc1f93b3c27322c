"""Who calls by the time of a turn shares it, and nobody's call is another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from canonical.envelope import Event
from canonical.errors import Elsewhere, Fenced, Moving, TransientFailure
from canonical.facts.order import PaymentCaptured
from canonical.identity import item, order
from tests.stories import ORDER, placed
from tests.unit.test_host import FickleStore, document, host, messages
from tests.world import tell
from twins.core.contributions import Contribution, Interest
from twins.core.history import Arrival
from twins.core.placement import UNPLACED, Placement
from twins.core.portions import BEHIND
from twins.core.twin import Twin
from twins.ports import Rejected, Taken, Verdict
from twins.runtime import gathering
from twins.runtime.gathering import Call, Gathering, answer
from twins.runtime.host import TwinHost
from twins.runtime.turn import Turn

# --- who shares a turn


def paid(minute: int, name: str = ORDER) -> Event:
    fact = PaymentCaptured(payment_id=f"P-{minute}", amount="1", currency="USD")
    return tell(f"order/{name}", fact, minute)


@dataclass
class Turns:
    """What each turn was told to take, as minutes; a turn and a commit can be made to wait, or to fail."""

    taken: list[list[int]] = field(default_factory=list)
    folding: asyncio.Event | None = None
    commits: asyncio.Event | None = None
    trouble: Callable[[list[Call]], Exception | None] = lambda _: None

    async def begin(self, calls: list[Call], _may_wait: bool) -> asyncio.Task[None]:
        events = [event for call in calls for event in call.events]
        self.taken.append([minutes(event) for event in events])
        if self.folding is not None:
            await self.folding.wait()

        async def commit() -> None:
            if self.commits is not None:
                await self.commits.wait()
            if error := self.trouble(calls):
                raise error
            answer(calls, [Arrival.LATE if minutes(event) % 2 else Arrival.NEW for event in events])

        return asyncio.create_task(commit())


def minutes(event: Event) -> int:
    assert isinstance(event.fact, PaymentCaptured)
    return int(event.fact.payment_id.removeprefix("P-"))


def gathered() -> tuple[Gathering, Turns, Turn]:
    turns, turn = Turns(), Turn()
    return Gathering(turn, turns.begin), turns, turn


async def called(gathering: Gathering, *minutes: int, may_wait: bool = False) -> asyncio.Task[list[Arrival]]:
    """Has called, and waits."""
    call = asyncio.create_task(gathering.take([paid(one) for one in minutes], may_wait=may_wait))
    await asyncio.sleep(0)
    return call


async def test_all_who_wait_share_a_turn_and_each_hears_of_its_own_events() -> None:
    gathering, turns, turn = gathered()
    async with turn.mine():
        calls = [await called(gathering, *minutes) for minutes in ((1, 2), (3,), (4, 5, 6))]
    new, late = Arrival.NEW, Arrival.LATE
    assert await asyncio.gather(*calls) == [[late, new], [late], [new, late, new]]
    assert turns.taken == [[1, 2, 3, 4, 5, 6]]


async def test_who_comes_while_a_turn_lasts_has_the_next_before_the_first_is_committed() -> None:
    gathering, turns, _ = gathered()
    turns.folding, turns.commits = asyncio.Event(), asyncio.Event()
    first = await called(gathering, 1)
    await asyncio.sleep(0)
    second = await called(gathering, 2)
    assert turns.taken == [[1]]
    turns.folding.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert turns.taken == [[1], [2]]
    assert not first.done()
    turns.commits.set()
    await asyncio.gather(first, second)


async def test_a_turn_takes_so_many_messages_and_the_next_takes_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "TOGETHER_MAX", 5)
    calls, turns, turn = gathered()
    async with turn.mine():
        waiting = [await called(calls, *minutes) for minutes in ((1, 2), (3, 4), (5, 6), range(10, 20), (7,))]
    await asyncio.gather(*waiting)
    assert turns.taken == [[1, 2, 3, 4], [5, 6], list(range(10, 20)), [7]]


async def test_what_may_wait_shares_no_turn_and_comes_last() -> None:
    gathering, turns, turn = gathered()
    async with turn.mine():
        calls = [await called(gathering, minute, may_wait=minute < 10) for minute in (1, 2, 10, 11)]
    await asyncio.gather(*calls)
    assert turns.taken == [[10, 11], [1], [2]]


async def test_who_wants_a_turn_alone_has_it_in_the_order_of_calls() -> None:
    gathering, turns, turn = gathered()
    async with turn.mine():
        calls = [await called(gathering, 1)]
        calls.append(asyncio.create_task(gathering.take([paid(2)], alone=True)))
        await asyncio.sleep(0)
        calls.append(await called(gathering, 3))
    await asyncio.gather(*calls)
    assert turns.taken == [[1, 3], [2]]


async def test_who_gives_up_waiting_leaves() -> None:
    gathering, turns, turn = gathered()
    async with turn.mine():
        first, second, third = [await called(gathering, minute) for minute in (1, 2, 3)]
        second.cancel()
    assert await asyncio.gather(first, third) == [[Arrival.LATE]] * 2
    assert turns.taken == [[1, 3]]
    async with turn.mine():
        (await called(gathering, 4)).cancel()
        await asyncio.sleep(0)
    await called(gathering, 5)
    await asyncio.sleep(0.01)
    assert turns.taken == [[1, 3], [5]]


@pytest.mark.parametrize("phase", ["folding", "commits"])
async def test_who_gives_up_later_takes_nothing_from_the_others(phase: str) -> None:
    gathering, turns, turn = gathered()
    gate = asyncio.Event()
    setattr(turns, phase, gate)
    async with turn.mine():
        calls = [await called(gathering, minute) for minute in (1, 2, 3)]
    while not turns.taken:
        await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [[Arrival.NEW], [Arrival.LATE]]
    assert turns.taken == [[1, 2, 3]]


@pytest.mark.parametrize("error", [TransientFailure("away"), Fenced("host-0"), Moving("on its way")])
async def test_what_is_of_the_world_reaches_all(error: Exception) -> None:
    gathering, turns, turn = gathered()
    turns.trouble = lambda _: error
    async with turn.mine():
        calls = [await called(gathering, minute) for minute in (1, 2)]
    assert await asyncio.gather(*calls, return_exceptions=True) == [error, error]
    assert turns.taken == [[1, 2]]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), Elsewhere(UNPLACED)])
async def test_what_one_may_be_the_cause_of_reaches_that_one(error: Exception) -> None:
    gathering, turns, turn = gathered()
    turns.trouble = lambda calls: error if any(minutes(call.events[0]) == 2 for call in calls) else None
    async with turn.mine():
        calls = [await called(gathering, minute) for minute in (1, 2, 3)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers == [[Arrival.LATE], error, [Arrival.LATE]]
    assert turns.taken == [[1, 2, 3], [1], [2], [3]]


# --- at a host


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FickleStore]:
    opened = FickleStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


async def told(one: TwinHost, *calls: Sequence[Event]) -> list[list[Verdict] | BaseException]:
    """All at once, as messages and as events in turn."""
    return await asyncio.gather(
        *(
            one.take(messages(*events)) if number % 2 else one.take_events(events)
            for number, events in enumerate(calls)
        ),
        return_exceptions=True,
    )


NEW, DUPLICATE = Taken(Arrival.NEW), Taken(Arrival.DUPLICATE)


async def test_calls_that_wait_are_committed_as_one(store: FickleStore) -> None:
    one = host(store)
    found = await told(one, [placed(), paid(5)], [placed(order="SO-2")], [paid(6), paid(5)], [placed()])
    assert found == [[NEW, NEW], [NEW], [NEW, DUPLICATE], [DUPLICATE]]
    assert (one.counts.batches, one.counts.events, one.counts.duplicates) == (1, 4, 2)
    stored = (await store.load([order(ORDER)]))[order(ORDER)]
    assert {event.event_id for event in stored.events} == {
        one.event_id for one in (placed(), paid(5), paid(6))
    }


async def test_nobody_is_answered_before_the_commit_of_all(store: FickleStore) -> None:
    one = host(store)
    store.gate = asyncio.Event()
    calls = [asyncio.create_task(one.take(messages(placed(order=f"SO-{number}")))) for number in range(3)]
    await asyncio.wait(calls, timeout=0.1)
    assert not any(call.done() for call in calls)
    store.gate.set()
    assert await asyncio.gather(*calls) == [[NEW]] * 3


async def test_mail_is_committed_with_what_waits_beside_it(store: FickleStore) -> None:
    one = host(store)
    letter = Contribution(order(ORDER), item("SKU-9"), 3, Interest())
    await asyncio.gather(one.take(messages(placed())), one.absorb([letter]), one.take_events([paid(5)]))
    assert one.counts.batches == 1
    assert letter.source in {
        known.source for known in (await store.load([item("SKU-9")]))[item("SKU-9")].registers
    }


@pytest.mark.parametrize("failing", [TransientFailure, Fenced])
async def test_a_commit_that_fails_has_failed_for_all(store: FickleStore, failing: type[Exception]) -> None:
    one = host(store)
    await one.take(messages(placed()))
    if failing is Fenced:
        await store.claim("host-0")
    else:
        store.failures = 1
    found = await told(one, [paid(5)], [placed(order="SO-2")])
    assert [type(answer) for answer in found] == [failing, failing]
    assert await document(host(store), order("SO-2")) is None


async def test_who_calls_a_host_that_was_drained_is_told_so(store: FickleStore) -> None:
    one = host(store)
    await one.drain()
    found = await told(one, [paid(5)], [placed(order="SO-2")])
    assert [type(answer) for answer in found] == [Moving, Moving]


def pinned(now: Placement) -> Placement:
    return replace(now, pinned=frozenset({order("SO-AWAY")}))


@pytest.mark.parametrize("it_knows", [True, False])
async def test_who_asks_for_a_twin_of_another_host_is_sent_there_alone(
    store: FickleStore, it_knows: bool
) -> None:
    """Whether it finds out by itself, or when all is folded and storage refuses it."""
    one = host(store)
    await one.take(messages(placed()))
    await store.place(pinned)
    if it_knows:
        await one.look()
    found = await told(one, [paid(5)], [paid(6), placed(order="SO-AWAY")], [placed(order="SO-2")])
    assert [type(answer) for answer in found] == [list, Elsewhere, list]
    assert found[0] == found[2] == [NEW]
    assert one.counts.batches == (2 if it_knows else 3)
    assert (await store.load([order("SO-AWAY")]))[order("SO-AWAY")].version == 0
    letter = Contribution(item("SKU-9"), order("SO-AWAY"), 3, None)
    answers = await asyncio.gather(one.absorb([letter]), one.take_events([paid(7)]), return_exceptions=True)
    assert isinstance(answers[0], Elsewhere)
    assert answers[1] == [NEW]


async def test_an_event_that_breaks_us_is_set_aside_and_all_others_of_all_are_kept(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = Twin.accept

    def fails(self: Twin, event: Event) -> Arrival:
        if self.ref == order("SO-BAD"):
            raise ZeroDivisionError("a bug")
        return accept(self, event)

    monkeypatch.setattr(Twin, "accept", fails)
    one = host(store)
    found = await told(
        one, [placed()], [paid(5), placed(order="SO-BAD"), paid(6)], [placed(order="SO-2"), paid(7)]
    )
    assert found[0] == [NEW]
    assert found[2] == [NEW, NEW]
    assert isinstance(found[1], list)
    assert [type(verdict) for verdict in found[1]] == [Taken, Rejected, Taken]
    assert one.counts.batches == 4, "a commit for each who is not the culprit, and one for each of its events"
    assert one.counts.events == 5


async def test_who_gives_up_is_known_when_it_tells_again(store: FickleStore) -> None:
    one = host(store)
    store.gate = asyncio.Event()
    leaving = asyncio.create_task(one.take(messages(placed())))
    staying = asyncio.create_task(one.take(messages(placed(order="SO-2"))))
    while one._committing is None:
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    store.gate.set()
    assert await staying == [NEW]
    assert await told(host(store), [placed()]) == [[DUPLICATE]]
    assert await told(one, [placed()]) == [[DUPLICATE]]


@pytest.mark.parametrize(("calls", "behind"), [(4, False), (5, True)])
async def test_many_small_calls_that_waited_are_as_many_messages_as_one(
    store: FickleStore, calls: int, behind: bool
) -> None:
    """A host that is behind with what may not wait takes scans whole."""
    one, each = host(store), BEHIND // 5
    await told(one, *([paid(number * each + minute) for minute in range(each)] for number in range(calls)))
    assert (one._portions.others_at == float("-inf")) is behind
