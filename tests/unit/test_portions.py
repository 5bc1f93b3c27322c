"""What may wait is taken in portions that leave the host free in time for what may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import TransientFailure
from canonical.facts.order import PaymentCaptured
from tests.stories import ORDER, placed
from tests.world import tell
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.history import Arrival
from twins.core.placement import UNPLACED, Placement
from twins.core.portions import BEHIND, GIVES_WAY, LATE, LEAST, QUIET_S, SHARE, Portions
from twins.core.rules import Policy
from twins.ports import Publication, Rejected, Taken
from twins.runtime.clock import WallClock
from twins.runtime.host import TwinHost
from twins.runtime.turn import GIVES_WAY_MAX, Turn

# --- how many


@given(
    target_s=st.floats(0.01, 1.0),
    commit_share=st.floats(0.0, 0.5),
    message_s=st.floats(1e-5, 1e-2),
)
def test_a_portion_occupies_the_host_for_its_share_of_the_target_and_no_longer(
    target_s: float, commit_share: float, message_s: float
) -> None:
    """Whatever a commit and a message cost, and however wrong the first guess was."""
    portions = Portions(target_s)
    portions.others_came(0.0)
    budget_s = SHARE * target_s

    def seconds(messages: int) -> float:
        return commit_share * budget_s + messages * message_s

    for _ in range(200):
        size = portions.size(500, 0.0)
        portions.took(size, seconds(size))
    size = portions.size(500, 0.0)
    assert size == LEAST or seconds(size) <= budget_s * 1.05
    assert size == 500 or size == LEAST or seconds(size + 1) > budget_s * 0.75


def test_all_that_waits_is_taken_together_while_nobody_else_comes() -> None:
    portions = Portions()
    assert portions.size(500, 0.0) == 500
    portions.others_came(10.0)
    assert portions.size(500, 10.0 + QUIET_S) < 500
    assert portions.size(500, 10.1 + QUIET_S) == 500


def test_a_host_that_is_behind_with_what_may_not_wait_takes_all_that_waits() -> None:
    portions = Portions()
    portions.others_came(10.0, BEHIND)
    assert portions.size(500, 10.0) == 500
    portions.others_came(10.0, BEHIND - 1)
    assert portions.size(500, 10.0) < 500


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0.0, 100.0)), max_size=20), st.integers(1, 500))
def test_a_portion_is_never_empty_and_never_more_than_waits(
    taken: list[tuple[int, float]], waiting: int
) -> None:
    portions = Portions()
    portions.others_came(0.0)
    for messages, seconds in taken:
        portions.took(messages, seconds)
    assert min(LEAST, waiting) <= portions.size(waiting, 0.0) <= waiting


# --- while others are late


def others(portions: Portions, seconds: float, messages: int = 1, at: float = 0.0) -> None:
    """The host has a batch that may not wait for so long."""
    portions.others_begin(at)
    portions.others_came(at, messages)
    portions.others_end(at, at + seconds, messages)


def test_a_portion_waits_while_others_are_late_and_no_longer_than_it_must() -> None:
    portions = Portions(target_s=0.1)
    portions.took(LEAST, 0.02)
    others(portions, LATE * 0.1 + 0.001)
    assert portions.gives_way(0.1, since=0.1)
    assert portions.gives_way(0.1 + GIVES_WAY * 0.019, since=0.1)
    assert not portions.gives_way(0.1 + GIVES_WAY * 0.021, since=0.1)
    others(portions, LATE * 0.1 - 0.001, at=0.2)
    assert not portions.gives_way(0.2, since=0.2)


def test_a_portion_waits_for_a_batch_that_is_late_already_and_for_nobody_once_all_is_quiet() -> None:
    portions = Portions(target_s=0.1)
    portions.took(LEAST, 0.02)
    portions.others_begin(10.0)
    portions.others_came(10.0)
    assert not portions.gives_way(10.0 + LATE * 0.1, since=10.0)
    assert portions.gives_way(10.0 + LATE * 0.1 + 0.001, since=10.0)
    portions.others_end(10.0, 10.2, 1)
    assert portions.gives_way(10.2, since=10.2)
    assert not portions.gives_way(10.001 + QUIET_S, since=10.001 + QUIET_S)


@given(portion_s=st.floats(0.005, 2.0), others_s=st.floats(0.0, 2.0), every_s=st.floats(0.001, QUIET_S * 0.9))
def test_what_may_wait_has_a_third_of_the_host_however_late_others_are(
    portion_s: float, others_s: float, every_s: float
) -> None:
    """As over a database that is slow by itself, where others would be late all the same."""
    portions, now, had_s = Portions(target_s=0.1), 0.0, 0.0
    portions.took(LEAST, portion_s)
    for _ in range(30):
        since = now
        while portions.gives_way(now, since):
            now += min(every_s, portion_s / 10)
            others(portions, others_s, at=now)
        portions.took(LEAST, portion_s)
        now, had_s = now + portion_s, had_s + portion_s
        others(portions, others_s, at=now)
    assert had_s >= now * 0.95 / (1 + GIVES_WAY)


def test_nothing_waits_for_a_host_that_is_behind() -> None:
    portions = Portions(target_s=0.1)
    portions.took(LEAST, 0.02)
    portions.others_came(0.0)
    others(portions, 1.0, BEHIND)
    assert not portions.gives_way(0.1, since=0.1)


# --- whose turn


async def test_who_may_wait_comes_after_all_who_may_not() -> None:
    turn, order = Turn(), list[str]()

    async def work(name: str, *, may_wait: bool = False) -> None:
        async with turn.mine(may_wait=may_wait):
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, turn.mine():
        for name in ("scans 1", "scans 2", "order 1", "order 2"):
            group.create_task(work(name, may_wait=name.startswith("scans")))
            await asyncio.sleep(0)
    assert order == ["order 1", "order 2", "scans 1", "scans 2"]


async def test_who_may_wait_has_its_turn_however_many_press() -> None:
    """Three who come again and again, as ingests do, leave no moment in which nobody waits."""
    turn, had_its_turn, turns = Turn(), asyncio.Event(), 0

    async def press() -> None:
        nonlocal turns
        while not had_its_turn.is_set():
            async with turn.mine():
                turns += 1
                assert turns < 100, "starved"
                await asyncio.sleep(0)

    async def wait() -> None:
        async with turn.mine(may_wait=True):
            had_its_turn.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(press())
        await asyncio.sleep(0)
        group.create_task(wait())
    assert turns >= 3 * GIVES_WAY_MAX


async def test_who_gives_up_waiting_keeps_nobody_from_a_turn() -> None:
    turn = Turn()

    async def work(*, may_wait: bool = False) -> None:
        async with turn.mine(may_wait=may_wait):
            pass

    async with turn.mine():
        leaving = [asyncio.create_task(work(may_wait=may_wait)) for may_wait in (False, True)]
        staying = asyncio.create_task(work(may_wait=True))
        await asyncio.sleep(0)
        for one in leaving:
            one.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await staying
    assert not turn.locked()


# --- at a host


class Watched(SqlStore):
    """A real store that says what each commit holds; they can be made slow, and one to fail."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits: list[int] = []
        self.fail_at: int | None = None
        self.slow_s = 0.0

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        if len(self.commits) == self.fail_at:
            self.fail_at = None
            raise TransientFailure("the database is away")
        await asyncio.sleep(self.slow_s)
        await super().commit(host, epoch, effects, delivered, placement)
        self.commits.append(len(effects.events))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    opened = Watched(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def host(store: SqlStore) -> TwinHost:
    """So hurried that all that may wait is taken in the smallest portions."""
    return TwinHost("host-0", store, WallClock(), Policy(), latency_target=timedelta(microseconds=1))


@pytest.fixture
def each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions share no commit."""
    monkeypatch.setattr("twins.runtime.host.LINGER_TWINS", 0)
    monkeypatch.setattr("twins.runtime.host.AHEAD", 0)


def payments(many: int, first: int = 10) -> list[Publication]:
    return [
        Publication(
            tell(
                f"order/{ORDER}",
                PaymentCaptured(payment_id=f"P-{minute}", amount="1", currency="USD"),
                minute,
            ).structured()
        )
        for minute in range(first, first + many)
    ]


ONE = [Publication(placed().structured())]


async def test_what_may_wait_is_committed_as_one_while_nobody_else_comes(store: Watched) -> None:
    await host(store).take(payments(4 * LEAST), may_wait=True)
    assert store.commits == [4 * LEAST]


async def test_what_may_not_wait_comes_between_two_portions_and_takes_along_what_lingers(
    store: Watched,
) -> None:
    one = host(store)
    await one.take(ONE)
    masses = asyncio.create_task(one.take(payments(4 * LEAST), may_wait=True))
    async with asyncio.timeout(10):
        while not one._turn.locked():
            await asyncio.sleep(0)
        assert await one.take(payments(3, first=1_000)) == [Taken(Arrival.NEW)] * 3
        assert not masses.done()
        assert len(await masses) == 4 * LEAST
    assert store.commits == [1, LEAST + 3, 3 * LEAST]


async def test_what_lingers_is_committed_where_nobody_else_comes_or_it_has_become_much(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host(store)
    await one.take(ONE)
    async with asyncio.timeout(10):
        await one.take(payments(2 * LEAST), may_wait=True)
    assert store.commits == [1, 2 * LEAST]
    monkeypatch.setattr("twins.runtime.host.LINGER_S", 1_000)
    monkeypatch.setattr("twins.runtime.host.LINGER_TWINS", 0)
    async with asyncio.timeout(10):
        await one.take(payments(LEAST, first=500), may_wait=True)
    assert store.commits == [1, 2 * LEAST, LEAST]


async def test_whoever_needs_all_to_be_committed_waits_for_nothing_that_lingers(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.host.LINGER_S", 1_000)
    one = host(store)
    await one.take(ONE)
    masses = asyncio.create_task(one.take(payments(2 * LEAST), may_wait=True))
    async with asyncio.timeout(10):
        while len(one._uncommitted) < 2:
            await asyncio.sleep(0)
        await one.drain()
    assert await masses == [Taken(Arrival.NEW)] * 2 * LEAST


async def test_verdicts_of_portions_come_in_the_order_of_the_messages(store: Watched) -> None:
    one = host(store)
    await one.take(ONE)
    told = payments(2 * LEAST)
    told[LEAST + 3] = Publication(b"nonsense")
    verdicts = await one.take([*told, told[0]], may_wait=True)
    assert [isinstance(one, Rejected) for one in verdicts] == [
        number == LEAST + 3 for number in range(2 * LEAST + 1)
    ]
    assert verdicts[-1] == Taken(Arrival.DUPLICATE)


@pytest.mark.usefixtures("each_by_itself")
async def test_portions_before_one_that_failed_are_known_when_all_come_again(store: Watched) -> None:
    one = host(store)
    await one.take(ONE)
    store.fail_at, told = 2, payments(3 * LEAST)
    with pytest.raises(TransientFailure):
        await one.take(told, may_wait=True)
    stored = sum(store.commits) - len(ONE)
    verdicts = await one.take(told, may_wait=True)
    again = [verdict == Taken(Arrival.DUPLICATE) for verdict in verdicts]
    assert again[: 2 * LEAST] == [True] * LEAST + [False] * LEAST
    assert again.count(True) == stored
    assert sum(store.commits) == len(ONE) + 3 * LEAST


@pytest.mark.usefixtures("each_by_itself")
async def test_what_is_known_by_heart_counts_among_the_messages_that_a_portion_takes(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else portions of which most are repeated seem dear, and are cut ever smaller."""
    one = host(store)
    await one.take([*ONE, *payments(LEAST - 1)])
    counted: list[int] = []
    monkeypatch.setattr(Portions, "took", lambda _self, messages, _seconds: counted.append(messages))
    await one.take(payments(2 * LEAST), may_wait=True)
    assert store.commits == [LEAST, 1, LEAST]
    assert counted == [LEAST, LEAST]


async def test_a_portion_waits_at_the_host_while_others_are_late_and_is_taken_all_the_same(
    store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.core.portions.QUIET_S", 1_000)
    one = TwinHost("host-0", store, WallClock(), Policy(), latency_target=timedelta(seconds=0.2))
    store.slow_s = 0.3
    await one.take(payments(LEAST), may_wait=True)
    await one.take(ONE)
    store.slow_s = 0.0
    masses = asyncio.create_task(one.take(payments(LEAST, first=500), may_wait=True))
    await asyncio.sleep(0.1)
    assert store.commits == [LEAST, 1]
    assert not masses.done()
    async with asyncio.timeout(10):
        assert await masses == [Taken(Arrival.NEW)] * LEAST
