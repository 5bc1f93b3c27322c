"""Commands flow: no slot waits for another, the urgent go first, and a sick ERP is let be."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Fenced, InvariantViolated, TransientFailure
from canonical.identity import TwinRef, order
from canonical.postings import Command
from tests.unit.gateways import Desk, Scripted, adjustment, credit_note, payment, post, reverse
from tests.unit.test_host import Clock
from twins.core.breaker import Breaker, Circuit
from twins.core.ledger import Status
from twins.core.retries import RetryBudget
from twins.ports import Confirmed, Refused, Verdict
from twins.runtime.gateway import Gateway
from twins.runtime.line import Pace

PATIENT = Pace(breaker=Breaker(failures_max=1_000), retries=RetryBudget(left=1_000, most=1_000))
"""For tests about something else than breakers and budgets."""


@dataclass
class System:
    store: SqlStore
    desk: Desk
    erp: Scripted = field(default_factory=Scripted)
    now: float = 0.0
    paused: bool = False

    def gateway(
        self, pace: Pace = PATIENT, window: int = 500, host_of: Callable[[TwinRef], str] = lambda owner: ""
    ) -> Gateway:
        return Gateway(
            "main",
            self.store,
            self.erp,
            Clock(),
            self.desk.reply,
            pace=pace,
            window=window,
            is_paused=self._is_paused,
            moment=lambda: self.now,
            draw=lambda: 1.0,
            host_of=host_of,
        )

    async def _is_paused(self) -> bool:
        return self.paused

    async def queued(self) -> list[str]:
        return [one.command.idempotency_key for one in await self.store.queued("main", 10_000)]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    store = SqlStore(sqlite_url(tmp_path))
    await store.migrate()
    yield System(store, Desk(store))
    await store.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task will do; the test's own time-out is the only limit."""
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Gateway], asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []

    def start(gateway: Gateway) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(gateway.run()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Run = Callable[[Gateway], asyncio.Task[None]]

# --- ending ------------------------------------------------------------------------------------------


async def test_a_gateway_that_is_told_to_end_as_it_is_nudged_ends(system: System, running: Run) -> None:
    gateway = system.gateway()
    task = running(gateway)
    for _ in range(3):
        await gateway.nudge()
        await asyncio.sleep(0.02)
    await gateway.nudge()
    await asyncio.sleep(0)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=2)
    assert task in ended


# --- flow ------------------------------------------------------------------------------------------------


async def test_a_slow_command_keeps_nobody_waiting(system: System, running: Run) -> None:
    slow = payment("slow")
    system.erp.hold, system.erp.held = asyncio.Event(), lambda command: command.key == slow.key
    await system.desk.plan(post(slow), *(post(payment(f"P-{n}")) for n in range(30)))
    running(system.gateway(replace(PATIENT, concurrency=2)))
    await until(lambda: sum(map(len, system.desk.replies)) == 30)
    assert system.desk.status(slow) is Status.QUEUED
    assert system.erp.busiest == 2
    system.erp.hold.set()
    await until(lambda: system.desk.status(slow) is Status.CONFIRMED)


async def test_what_is_planned_while_others_fly_goes_at_the_next_nudge(system: System, running: Run) -> None:
    slow = payment("slow")
    system.erp.hold, system.erp.held = asyncio.Event(), lambda command: command.key == slow.key
    await system.desk.plan(post(slow))
    gateway = system.gateway()
    running(gateway)
    await until(lambda: bool(system.erp.told))
    await system.desk.plan(post(payment("quick")))
    await gateway.nudge()
    await until(lambda: system.desk.status(payment("quick")) is Status.CONFIRMED)
    system.erp.hold.set()


async def test_answers_of_one_moment_are_committed_together(system: System) -> None:
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(10)))
    assert await system.gateway().work() == 10
    assert [len(some) for some in system.desk.replies] == [10]


async def test_answers_that_could_not_be_committed_are_committed_later_and_told_once(system: System) -> None:
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(3)))
    system.desk.broken = 1
    gateway = system.gateway()
    with pytest.raises(TransientFailure):
        await gateway.work()
    assert await gateway.work() == 3
    assert len(system.erp.told) == 3
    assert await system.queued() == []


async def test_what_requires_another_goes_after_it_is_confirmed(system: System, running: Run) -> None:
    first = payment("first")
    second = payment("second", requires=(first.key,))
    await system.desk.plan(post(second), post(first))
    running(system.gateway())
    await until(lambda: system.desk.status(second) is Status.CONFIRMED)
    assert system.erp.told == [f"{first.key}@1", f"{second.key}@1"]


async def test_one_command_of_a_key_at_a_time(system: System, running: Run) -> None:
    system.erp.hold = asyncio.Event()
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    running(gateway)
    await until(lambda: bool(system.erp.told))
    await system.desk.plan(reverse(payment("P")), post(payment("P"), 2))
    await gateway.nudge()
    await until(lambda: gateway.figures()["waiting"] == 0 and gateway.figures()["flying"] == 1)
    assert system.erp.told == ["payment/P/SO-1@1"]
    system.erp.hold.set()
    await until(lambda: len(system.erp.told) == 3)
    assert system.erp.told == [f"payment/P/SO-1@{rest}" for rest in ("1", "1/reverse", "2")]


async def test_a_gateway_that_was_replaced_tells_nothing_more(system: System, running: Run) -> None:
    system.erp.hold = asyncio.Event()
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(8)))
    old = system.gateway(replace(PATIENT, concurrency=1))
    task = running(old)
    await until(lambda: bool(system.erp.told))
    await system.store.claim("gateway-main")
    system.erp.hold.set()
    with pytest.raises(Fenced):
        await task
    told = len(system.erp.told)
    await asyncio.sleep(0)
    assert len(system.erp.told) == told


async def test_what_went_to_another_erp_since_it_was_read_is_not_told(system: System) -> None:
    class Moved(SqlStore):
        async def sending(self, *told: object) -> set[int]:
            return set()

    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    gateway._queue = Moved.__new__(Moved)
    gateway._queue.__dict__.update(system.store.__dict__)
    await gateway.work()
    assert system.erp.told == []


async def test_answers_that_come_as_events_finish_their_commands(system: System) -> None:
    from canonical.facts.erp import PostingConfirmed
    from tests.world import tell

    system.erp.does = lambda command: None
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    for _ in range(2):
        await gateway.work()
    assert len(system.erp.told) == 1, "it was taken; telling it again asks for nothing"
    fact = PostingConfirmed(posting_key="payment/P/SO-1", version=1, action="post", document="D")
    await system.desk.reply([tell("order/SO-1", fact)])
    await gateway.work()
    assert await system.queued() == []
    assert len(system.erp.told) == 1


# --- priority --------------------------------------------------------------------------------------------


async def test_a_credit_note_overtakes_bulk_that_fills_the_window(system: System) -> None:
    await system.desk.plan(*(post(adjustment(f"A-{n}")) for n in range(60)), post(credit_note("RMA-1")))
    await system.gateway(replace(PATIENT, concurrency=1), window=16).work()
    assert system.erp.told[0] == "credit-note/RMA-1/1/SO-1@1"


async def test_bulk_has_its_share_while_urgent_documents_keep_coming(system: System) -> None:
    await system.desk.plan(post(adjustment("A-1")), *(post(payment(f"P-{n}")) for n in range(100)))
    await system.gateway(replace(PATIENT, concurrency=2), window=32).work()
    assert "stock-adjustment/A-1/A@DC-1@1" in system.erp.told
    assert len(system.erp.told) == 8


async def test_what_can_go_is_found_behind_any_number_that_must_wait(system: System) -> None:
    stuck = (payment(f"stuck-{n:03}", requires=("payment/never/SO-1",)) for n in range(70))
    await system.desk.plan(*map(post, stuck), post(payment("free")))
    await system.gateway(window=8).work()
    assert system.erp.told == ["payment/free/SO-1@1"]


# --- a sick ERP ------------------------------------------------------------------------------------------


async def test_an_erp_that_hangs_is_given_up_in_time_and_looked_up_before_it_is_told_again(
    system: System,
) -> None:
    system.erp.hold = asyncio.Event()
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway(replace(PATIENT, timeout_s=0.01))
    await gateway.work()
    assert gateway.line.counts.timed_out == 1
    assert system.erp.looked_up == []
    system.erp.hold.set()
    system.now += 100
    await gateway.work()
    assert system.erp.looked_up == ["payment/P/SO-1@1"]
    assert system.desk.status(payment("P")) is Status.CONFIRMED


async def test_a_document_whose_answer_was_lost_is_found_and_not_told_again(system: System) -> None:
    system.erp.silent = True
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    await gateway.work()
    system.now += 100
    await gateway.work()
    assert len(system.erp.told) == 1
    assert system.desk.status(payment("P")) is Status.CONFIRMED


async def test_a_command_that_failed_rests_longer_each_time(system: System) -> None:
    system.erp.away = True
    await system.desk.plan(post(payment("P")))
    gateway, asked_at = system.gateway(), list[float]()
    for _ in range(120):
        before = gateway.line.counts.unanswered
        await gateway.work()
        if gateway.line.counts.unanswered > before:
            asked_at.append(system.now)
        system.now += 0.25
    rests = [after - before for before, after in itertools.pairwise(asked_at)]
    assert rests == [0.5, 1.0, 2.0, 4.0, 8.0]


async def test_trouble_is_kept_with_the_command_that_has_it(system: System) -> None:
    system.erp.away = True
    await system.desk.plan(post(payment("P")))
    await system.gateway().work()
    (one,) = await system.store.queued("main", 10)
    assert (one.sent, one.attempts, one.trouble) == (True, 1, "503")


async def test_failures_in_a_row_open_the_circuit_and_one_probe_closes_it(system: System) -> None:
    system.erp.away = True
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(10)))
    gateway = system.gateway(Pace(concurrency=1, breaker=Breaker(failures_max=3, rest_s=5)))
    await gateway.work()
    assert len(system.erp.told) == 3, "the others were withheld"
    assert gateway.line.circuit is Circuit.OPEN
    await gateway.work()
    assert len(system.erp.told) == 3
    system.now += 5
    await gateway.work()
    assert gateway.line.circuit is Circuit.OPEN
    assert len(system.erp.told) + len(system.erp.looked_up) == 4, "one probe went through"
    system.erp.away = False
    system.now += 10
    await gateway.work()
    assert gateway.line.circuit is Circuit.CLOSED
    for _ in range(20):
        system.now += 100
        await gateway.work()
    assert sorted(system.erp.documents) == [f"payment/P-{n}/SO-1@1" for n in range(10)]


async def test_a_refusal_is_an_answer_and_leaves_the_circuit_closed(system: System) -> None:
    system.erp.does = lambda command: Refused("no account")
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(9)))
    gateway = system.gateway(Pace(breaker=Breaker(failures_max=1)))
    await gateway.work()
    assert gateway.counts.rejected == 9
    assert gateway.line.circuit is Circuit.CLOSED


async def test_retries_are_no_more_than_their_budget(system: System) -> None:
    system.erp.away = True
    await system.desk.plan(*(post(payment(f"P-{n:02}")) for n in range(40)))
    budget = RetryBudget(share=0.1, per_s=0.0001, most=3, left=0)
    gateway = system.gateway(replace(PATIENT, concurrency=50, retries=budget))
    await gateway.work()
    assert len(system.erp.told) == 40
    for _ in range(10):
        system.now += 100
        await gateway.work()
    assert gateway.counts.retried == 3
    assert len(await system.queued()) == 40, "nothing is given up"


async def test_a_connector_that_breaks_costs_one_command_its_turn(system: System) -> None:
    def does(command: Command) -> Confirmed | TransientFailure:
        if command.key == payment("bad").key:
            raise KeyError("a bug")
        return Confirmed("D")

    system.erp.does = does
    await system.desk.plan(post(payment("bad")), post(payment("good")))
    await system.gateway().work()
    assert await system.queued() == ["payment/bad/SO-1@1"]


async def test_calls_beyond_the_burst_wait_for_the_throttle(system: System, running: Run) -> None:
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(5)))
    gateway = system.gateway(replace(PATIENT, rate_per_s=0.001, burst=2))
    running(gateway)
    await until(lambda: sum(map(len, system.desk.replies)) == 2 and gateway.line.counts.throttled == 3)
    assert len(system.erp.told) == 2


# --- answers that are trouble ----------------------------------------------------------------------------


async def test_an_answer_of_any_length_and_content_ends_its_command_and_no_other(system: System) -> None:
    said = {payment("long").key: "x" * 3_000, payment("wild").key: "a\0b\ud800\n  c"}

    def does(command: Command) -> Refused | Confirmed:
        reason = said.get(command.key)
        return Confirmed("D") if reason is None else Refused(reason)

    system.erp.does = does
    await system.desk.plan(post(payment("long")), post(payment("wild")), post(payment("good")))
    assert await system.gateway().work() == 3
    assert await system.queued() == []
    assert system.desk.status(payment("long")) is Status.REJECTED
    assert system.desk.status(payment("wild")) is Status.REJECTED
    assert system.desk.status(payment("good")) is Status.CONFIRMED


async def test_trouble_of_any_content_is_noted(system: System) -> None:
    system.erp.does = lambda command: TransientFailure("y" * 3_000 + "\0")
    await system.desk.plan(post(payment("P")))
    await system.gateway().work()
    (one,) = await system.store.queued("main", 10)
    assert one.trouble is not None
    assert one.trouble.startswith("yyy")
    assert len(one.trouble) <= 1_000


async def test_a_connection_that_is_given_up_while_a_command_is_told_is_trouble(system: System) -> None:
    """aiormq cancels whoever waits for a confirm, not the task of whoever called it."""
    fates: list[BaseException] = [asyncio.CancelledError()]
    tell = system.erp.tell

    async def given_up(command: Command, **more: object) -> object:
        if fates:
            waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waited.set_exception(fates.pop())
            await waited
        return await tell(command)

    system.erp.tell = given_up  # type: ignore[method-assign,assignment]
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    await gateway.work()
    assert gateway.figures()["flying"] == 0
    system.now += 100
    await gateway.work()
    assert system.desk.status(payment("P")) is Status.CONFIRMED


async def test_a_host_that_is_away_keeps_no_others_postings_waiting(system: System, running: Run) -> None:
    here, there = [adjustment(f"A-{n}") for n in range(60)], [payment(f"P-{n}") for n in range(60)]
    system.desk.away, system.desk.away_s = {order("SO-1")}, 0.2
    await system.desk.plan(*(post(one) for pair in zip(there, here, strict=True) for one in pair))
    gateway = system.gateway(replace(PATIENT, concurrency=2), host_of=lambda owner: owner.kind.value)
    running(gateway)
    await until(lambda: all(system.desk.status(one) is Status.CONFIRMED for one in here))
    assert all(system.desk.status(one) is Status.QUEUED for one in there)
    system.desk.away = set()
    await until(lambda: all(system.desk.status(one) is Status.CONFIRMED for one in there))
    assert len(system.erp.told) == len(set(system.erp.told)) == 120
    while await system.queued():
        await asyncio.sleep(0.01)


async def test_what_is_annulled_waits_for_its_own_host_alone(system: System, running: Run) -> None:
    gone = payment("gone")
    system.desk.away, system.desk.away_s = {order("SO-1")}, 0.2
    await system.desk.plan(post(gone), reverse(gone), post(adjustment("A-1")))
    running(system.gateway(host_of=lambda owner: owner.kind.value))
    await until(lambda: system.desk.status(adjustment("A-1")) is Status.CONFIRMED)
    system.desk.away = set()
    await until(lambda: system.desk.status(gone) is Status.ANNULLED)
    assert system.erp.told == [post(adjustment("A-1")).idempotency_key]


async def test_an_answer_that_its_twin_cannot_take_stays_in_the_queue_until_it_can(system: System) -> None:
    system.desk.unreadable = {order("SO-1")}
    await system.desk.plan(post(payment("P")), post(adjustment("A-1")))
    gateway = system.gateway()
    await gateway.work()
    await gateway.work()
    assert system.desk.status(adjustment("A-1")) is Status.CONFIRMED
    (one,) = await system.store.queued("main", 10)
    assert one.command.key == payment("P").key
    assert "cannot be told: no such event type" in (one.trouble or "")
    system.desk.unreadable = set()
    system.now += 100
    await gateway.work()
    assert system.desk.status(payment("P")) is Status.CONFIRMED
    assert system.erp.told.count(post(payment("P")).idempotency_key) == 1, "it was looked up"
    assert await system.queued() == []


async def test_an_annulment_that_its_twin_cannot_take_is_told_again_after_a_rest(
    system: System, running: Run
) -> None:
    gone = payment("gone")
    system.desk.unreadable = {order("SO-1")}
    await system.desk.plan(post(gone), reverse(gone))
    running(system.gateway())
    await asyncio.sleep(1.2)
    assert len(system.desk.replies) == 1
    assert len(await system.queued()) == 2
    system.desk.unreadable = set()
    system.now += 100
    await until(lambda: system.desk.status(gone) is Status.ANNULLED)


async def test_what_waits_for_a_host_that_is_away_is_bounded_and_told_in_parts(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.gateway.UNHEARD_MAX", 10)
    system.desk.away = {order("SO-1")}
    await system.desk.plan(*(post(payment(f"P-{n:02}")) for n in range(60)))
    gateway = system.gateway(replace(PATIENT, concurrency=2))
    for _ in range(20):
        with contextlib.suppress(TransientFailure):
            await gateway.work()
    assert len(system.erp.told) < 60
    system.desk.away = set()
    for _ in range(40):
        await gateway.work()
    assert await system.queued() == []
    assert max(map(len, system.desk.replies)) <= 10
    assert len(system.erp.told) == 60


async def test_an_outage_of_a_host_is_told_once(
    system: System, running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.gateway.SETTLE_WITHIN_S", 0.02)
    system.desk.away, system.desk.away_s = {order("SO-1")}, 0.2
    await system.desk.plan(post(payment("P")))
    gateway = system.gateway()
    with structlog.testing.capture_logs() as told:
        running(gateway)
        await asyncio.sleep(2.5)
        system.desk.away = set()
        await until(lambda: system.desk.status(payment("P")) is Status.CONFIRMED)
        while not any(one["event"] == "gateway_goes_on" for one in told):
            await asyncio.sleep(0.01)
    assert [one["event"] for one in told if one["event"].startswith("gateway_")] == [
        "gateway_waits",
        "gateway_goes_on",
    ]


async def test_a_host_that_fails_in_any_way_keeps_no_others_waiting(system: System, running: Run) -> None:
    reply, stumbled, bugs = system.desk.reply, system.store.stumbled, 1

    async def breaks(events: Sequence[Event]) -> list[Verdict]:
        if any(event.subject == order("SO-1") for event in events):
            raise RuntimeError("a bug")
        return await reply(events)

    async def breaks_once(*arguments: Any) -> None:
        nonlocal bugs
        if bugs:
            bugs -= 1
            raise InvariantViolated("a bug")
        await stumbled(*arguments)

    def does(command: Command) -> Confirmed | TransientFailure:
        return TransientFailure("away") if command.key == adjustment("A-1").key else Confirmed("D")

    system.erp.does = does
    monkeypatched = pytest.MonkeyPatch()
    monkeypatched.setattr(system.desk, "reply", breaks)
    monkeypatched.setattr(system.store, "stumbled", breaks_once)
    await system.desk.plan(post(payment("P")), post(adjustment("A-1")))
    gateway = system.gateway(host_of=lambda owner: owner.kind.value)
    running(gateway)
    await asyncio.sleep(1.0)
    await system.desk.plan(post(adjustment("A-2")))
    await until(lambda: system.desk.status(adjustment("A-2")) is Status.CONFIRMED)
    await until(lambda: gateway.figures()["flying"] == 0)
    monkeypatched.undo()


async def test_trouble_that_cannot_be_noted_takes_no_answer_with_it(system: System) -> None:
    """The command that is planned next may have the number of the one that was finished."""

    def does(command: Command) -> Confirmed | TransientFailure:
        return TransientFailure("timed out") if command.key == payment("slow").key else Confirmed("D")

    system.erp.does = does
    stumbled, failures = system.store.stumbled, 1

    async def fails_once(*arguments: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise TransientFailure("the disk is full")
        await stumbled(*arguments)

    system.store.stumbled = fails_once  # type: ignore[method-assign]
    await system.desk.plan(post(payment("slow")), post(payment("good")))
    gateway = system.gateway()
    with pytest.raises(TransientFailure):
        await gateway.work()
    await system.desk.plan(post(payment("next")))
    system.now += 100
    for _ in range(3):
        await gateway.work()
    assert system.desk.status(payment("next")) is Status.CONFIRMED
    assert await system.queued() == ["payment/slow/SO-1@1"]


# --- by hand ---------------------------------------------------------------------------------------------


async def test_while_paused_nothing_is_told_and_nothing_is_lost(system: System) -> None:
    system.paused = True
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(3)))
    gateway = system.gateway()
    assert await gateway.work() == 0
    assert system.erp.told == []
    system.paused = False
    assert await gateway.work() == 3


async def test_a_pause_reaches_those_that_wait_for_a_slot(system: System, running: Run) -> None:
    system.erp.hold = asyncio.Event()
    await system.desk.plan(*(post(payment(f"P-{n}")) for n in range(4)))
    gateway = system.gateway(replace(PATIENT, concurrency=1))
    running(gateway)
    await until(lambda: len(system.erp.told) == 1)
    system.paused = True
    await gateway.nudge()
    await until(lambda: gateway.counts.paused == 1)
    system.erp.hold.set()
    await until(lambda: gateway.figures()["flying"] == 0)
    assert len(system.erp.told) == 1
