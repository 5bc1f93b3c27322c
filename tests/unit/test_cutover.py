"""From a legacy ERP to a cloud one, over SQLite, real twins and two ERPs that post whatever they are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from adapters.simulated_erp.books import Books, Manners, Posted
from adapters.simulated_erp.models import Instruction
from adapters.sql.engine import sqlite_url
from adapters.sql.shadows import SqlShadow
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import RejectedMessage, TransientFailure
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import shipment
from canonical.postings import Account, Command, Entry, Posting, entries
from ops.demo.day import in_order, make_day
from ops.demo.telling import told_once
from tests.stories import golden
from tests.unit.test_host import Clock
from tests.world import World, tell
from twins.core.breaker import Breaker
from twins.core.retries import Backoff, RetryBudget
from twins.core.rules import Policy
from twins.ports import Answer, Balance, Confirmed, Copy, HeldDocument, Refused, Verdict
from twins.runtime.cutover import report
from twins.runtime.gateway import Gateway
from twins.runtime.host import TwinHost
from twins.runtime.line import ErpLine, Pace

QUICK = Pace(
    breaker=Breaker(failures_max=10_000),
    backoff=Backoff(first_s=0.0),
    retries=RetryBudget(left=10_000, most=10_000),
    timeout_s=5.0,
)


@dataclass
class Erp:
    """Books that post whatever they are told, twice too; its answers can be lost, and it can be away."""

    books: Books = field(default_factory=lambda: Books(Manners(idempotent=False)))
    random: Random = field(default_factory=lambda: Random(1))
    loses: float = 0.0
    away: bool = False
    refuses: Callable[[Command], bool] = lambda command: False
    hold: asyncio.Event | None = None
    """It has posted, and answers when this is set."""
    think: asyncio.Event | None = None
    """It posts when this is set."""
    asked: int = 0

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise TransientFailure("503")
        if self.think is not None:
            await self.think.wait()
        if self.refuses(command):
            return Refused("no such account")
        outcome = self.books.take(
            Instruction(command.idempotency_key, command.action, command.version, command.posting)
        )
        if self.hold is not None:
            await self.hold.wait()
        if self.random.random() < self.loses:
            raise TransientFailure("timed out")
        return Confirmed(outcome.document.number) if isinstance(outcome, Posted) else Refused(outcome.reason)

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        await asyncio.sleep(0)
        if self.away:
            raise TransientFailure("503")
        found = self.books.find(idempotency_key)
        return Confirmed(found[0].number) if found else None

    async def close(self) -> None: ...

    def live(self) -> Counter[str]:
        return Counter(one.posting_key for one in self.books.documents if one.live)


@dataclass
class System:
    store: SqlStore
    shadow: SqlShadow
    host: TwinHost
    main: Erp = field(default_factory=Erp)
    cloud: Erp = field(default_factory=Erp)
    gateways: list[Gateway] = field(default_factory=list)

    def start_again(self) -> None:
        """New incarnations of all gateways; both of the cloud's share a line, as its actor has them do."""
        line = ErpLine("cloud", self.cloud, QUICK)

        async def reply(events: object) -> list[Verdict]:
            return await self.host.take_events(events)  # type: ignore[arg-type]

        self.gateways = [
            Gateway("main", self.store, self.main, Clock(), reply, pace=QUICK),
            Gateway("cloud", self.store, line, Clock(), reply),
            Gateway("cloud", self.shadow, line, Clock(), self.shadow.reply, name="shadow-cloud"),
        ]

    async def work(self, *which: int) -> None:
        for number in which or range(3):
            await self.gateways[number].work()

    async def settle(self) -> None:
        for _ in range(200):
            await self.work()
            left = [await self.store.queued(erp, 1) for erp in ("main", "cloud")]
            if not any(left) and not await self.shadow.queued("cloud", 1):
                return

    async def copies(self) -> list[Copy]:
        return [one async for one in self.store.copies("cloud")]

    async def assert_one_document_each(self) -> None:
        """By the books' own listing: what the facts justify is live once, here or there."""
        wanted = {key for key, _ in (await self.store.live_postings()).items()}
        held = self.main.live() + self.cloud.live()
        assert held == Counter(wanted)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    url = sqlite_url(tmp_path)
    store, shadow = SqlStore(url), SqlShadow(url, "cloud")
    await store.migrate()
    found = System(store, shadow, TwinHost("host-0", store, Clock(), Policy()))
    found.start_again()
    yield found
    await store.close()
    await shadow.close()


def voided() -> Event:
    return tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)


@asynccontextmanager
async def running(system: System) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run(timedelta(milliseconds=5))) for one in system.gateways]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- in shadow -------------------------------------------------------------------------------------------


async def test_a_shadow_ends_with_the_documents_of_the_live_instance(system: System) -> None:
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    await system.host.take_events([voided()])
    await system.settle()
    assert system.main.live() == system.cloud.live() != Counter()
    assert system.main.books.trial_balance() == system.cloud.books.trial_balance()
    copies = await system.copies()
    assert copies
    assert not [one for one in copies if one.difference]
    assert {one.shadow.status for one in copies} == {one.live.status for one in copies}


async def test_a_dead_shadow_changes_nothing_of_the_live_instance(system: System) -> None:
    system.cloud.away = True
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    for _ in range(20):
        await system.work()
    assert system.main.live() == Counter(World().take_each(golden()).live().keys())
    assert await system.store.queued("main", 1) == []
    assert not [one for one in await system.copies() if one.difference], "it has not said anything yet"


async def test_a_shadow_that_refuses_is_told_of_and_the_twins_never_hear_of_it(system: System) -> None:
    system.cloud.refuses = lambda command: command.key == "goods-issue/SHP-1"
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    told = {one.key: one for one in await system.copies() if one.difference}
    assert list(told) == ["goods-issue/SHP-1"]
    said = told[next(iter(told))]
    assert said.difference == "live: holds it; shadow: refused it"
    assert said.shadow.reason == "no such account"
    assert said.live.document is not None
    assert system.main.live() == Counter(World().take_each(golden()).live().keys())
    sources = {one.event.source for one in await system.store.history(shipment("SHP-1"))}
    assert "/erp/main" in sources
    assert "/erp/cloud" not in sources


async def test_what_was_posted_before_the_shadow_came_is_neither_copied_nor_reversed_there(
    system: System,
) -> None:
    await system.host.take_events(golden())
    await system.settle()
    await system.store.shadow("cloud", of="main")
    await system.host.take_events([voided()])
    await system.settle()
    assert not system.cloud.books.documents
    assert await system.copies() == []


async def test_a_shadow_holds_no_second_version_beside_one_that_the_live_instance_refused(
    system: System,
) -> None:
    from tests.unit.test_resending import ISSUE, resent

    system.main.refuses = lambda command: command.key == ISSUE
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    assert system.cloud.live()[ISSUE] == 1
    system.main.refuses = lambda command: False
    await system.host.take_events([resent(ISSUE, 1)])
    await system.settle()
    assert system.cloud.live() == system.main.live()
    assert max(system.cloud.live().values()) == 1


async def test_an_abandoned_shadow_is_told_to_reverse_all_its_copies(system: System) -> None:
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    assert await system.store.abandon("cloud") == len(system.main.live())
    await system.settle()
    assert system.cloud.live() == Counter()
    await system.store.shadow("cloud", of="main")


async def test_what_makes_no_sense_is_refused(system: System) -> None:
    for erp, of in (("main", "main"), ("cloud", "cloud")):
        with pytest.raises(RejectedMessage):
            await system.store.shadow(erp, of)
    for step in (system.store.promote, system.store.abandon):
        with pytest.raises(RejectedMessage, match="not in shadow"):
            await step("cloud")
    await system.store.shadow("cloud", of="main")
    for erp, of in (("cloud", "main"), ("main", "cloud"), ("third", "main"), ("third", "cloud")):
        with pytest.raises(RejectedMessage, match="already"):
            await system.store.shadow(erp, of)
    await system.store.promote("cloud")
    for erp, of in (("third", "main"), ("main", "cloud"), ("cloud", "third")):
        with pytest.raises(RejectedMessage):
            await system.store.shadow(erp, of)


async def test_what_both_hold_is_compared_to_the_cent(system: System) -> None:
    def dearer(posting: Posting) -> tuple[Entry, ...]:
        tenfold = [Entry(one.account, one.debit * 10, one.credit * 10) for one in entries(posting)]
        return tuple(tenfold) if posting.key == "invoice/SHP-1/SO-1" else entries(posting)

    system.cloud.books.booked = dearer
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    held = {"main": Held(system.main.books), "cloud": Held(system.cloud.books)}
    (cutover,) = await system.store.cutovers()
    told = await report(system.store, held.get, cutover, 50, True)
    assert (told.alike, told.different, told.waiting) == (len(system.main.books.documents), 0, 0)
    assert told.amounts_compared == told.alike
    (apart,) = told.booked_apart
    assert apart.key == "invoice/SHP-1/SO-1"
    assert apart.shadow == {account: 10 * amount for account, amount in apart.live.items()}


@dataclass
class Held:
    """Implements ErpBooks over simulated books, as far as it is needed here."""

    books: Books

    async def documents(self) -> AsyncIterator[HeldDocument]:
        for one in self.books.documents:
            net = Counter[Account]()
            for entry in one.entries:
                net[entry.account] += entry.debit - entry.credit  # type: ignore[assignment]
            yield HeldDocument(one.number, one.posting_key, one.version, one.action, one.live, dict(net))  # type: ignore[arg-type]

    async def stock(self) -> dict[tuple[str, str], Decimal]:
        return {}

    async def balances(self) -> dict[Account, Balance]:
        return {}

    async def close(self) -> None: ...


# --- promoted --------------------------------------------------------------------------------------------


async def test_after_promotion_new_postings_go_to_the_new_instance_and_old_ones_are_reversed_at_the_old(
    system: System,
) -> None:
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.settle()
    old = system.main.live()
    await system.store.promote("cloud")
    await system.settle()
    assert system.main.live() == old
    assert system.cloud.live() == Counter(), "copies of what the old one keeps are reversed"
    await system.host.take_events([voided()])
    await system.settle()
    assert "goods-issue/SHP-2" not in system.main.live()
    from canonical.facts.stock import StockAdjusted

    await system.host.take_events(
        [tell("stock/SKU-1@DC-01", StockAdjusted(adjustment_id="late", delta=-1), 6000)]
    )
    await system.settle()
    assert list(system.cloud.live()) == ["stock-adjustment/late/SKU-1@DC-01"]
    await system.assert_one_document_each()


async def test_what_the_shadow_holds_already_is_found_and_not_made_again(system: System) -> None:
    """The legacy ERP is down; nothing has reached it, and all goes to the cloud, which has it."""
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    for _ in range(10):
        await system.work(2)
    made = len(system.cloud.books.documents)
    assert made
    promotion = await system.store.promote("cloud")
    assert (promotion.moved, promotion.stay, promotion.taken_back) == (made, 0, 0)
    await system.settle()
    assert len(system.cloud.books.documents) == made
    assert not system.main.books.documents
    assert await system.copies() == []
    await system.assert_one_document_each()


async def test_what_may_have_reached_the_old_instance_ends_there(system: System) -> None:
    system.main.loses = 1.0
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    await system.work(2, 0)
    reached = {one.posting_key for one in system.main.books.documents}
    assert reached
    await system.store.promote("cloud")
    system.main.loses = 0.0
    await system.settle()
    assert reached <= set(system.main.live())
    assert not reached & set(system.cloud.live())
    await system.assert_one_document_each()


async def test_an_invoice_stays_with_its_goods_issue(system: System) -> None:
    """Of which the old instance has one, and nothing else yet."""
    system.main.refuses = lambda command: command.key != "goods-issue/SHP-1"
    await system.store.shadow("cloud", of="main")
    system.main.hold = asyncio.Event()
    await system.host.take_events(golden())
    task = asyncio.create_task(system.gateways[0].work())
    while not system.main.books.documents:
        await asyncio.sleep(0)
    await system.store.promote("cloud")
    system.main.refuses = lambda command: False
    system.main.hold.set()
    await task
    await system.settle()
    assert {"goods-issue/SHP-1", "invoice/SHP-1/SO-1"} <= set(system.main.live())
    assert not {"goods-issue/SHP-1", "invoice/SHP-1/SO-1"} & set(system.cloud.live())


async def test_a_reposting_at_the_new_instance_waits_for_its_reversal_at_the_old(system: System) -> None:
    from tests.unit.gateways import Desk, payment, post, reverse

    desk = Desk(system.store)
    system.gateways[0]._reply = system.gateways[1]._reply = desk.reply
    posting = payment("P")
    await desk.plan(post(posting))
    await system.work()
    await system.store.shadow("cloud", of="main")
    await system.store.promote("cloud")
    await desk.plan(reverse(posting), post(posting, 2))
    system.main.away = True
    for _ in range(3):
        await system.work()
    assert system.cloud.live() == Counter()
    system.main.away = False
    await system.work(0)
    assert system.main.live() == Counter()
    await system.work(1)
    assert system.cloud.live() == Counter([posting.key])


async def test_a_command_that_the_shadow_is_being_told_during_promotion_is_made_once(system: System) -> None:
    system.cloud.think = asyncio.Event()
    await system.store.shadow("cloud", of="main")
    await system.host.take_events(golden())
    task = asyncio.create_task(system.gateways[2].work())
    while not system.cloud.asked:
        await asyncio.sleep(0)
    await system.store.promote("cloud")
    live = asyncio.create_task(system.gateways[1].work())
    while not system.gateways[1].figures()["flying"]:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    system.cloud.think.set()
    await asyncio.gather(task, live)
    await system.settle()
    await system.assert_one_document_each()


@pytest.mark.parametrize("seed", range(4))
async def test_promotion_while_traffic_flows_leaves_each_document_live_once(
    system: System, seed: int
) -> None:
    """Answers get lost on both sides, gateways die and come back, facts go on coming."""
    random, day = Random(seed), make_day(seed, 12)
    events = told_once(day, in_order(day))
    random.shuffle(events)
    for erp in (system.main, system.cloud):
        erp.random, erp.loses = Random(seed), 0.2
    await system.store.shadow("cloud", of="main")
    promoted_at = random.randrange(len(events) // 4, len(events))
    async with running(system):
        for number in range(0, len(events), 5):
            if number <= promoted_at < number + 5:
                await system.store.promote("cloud")
            await system.host.take_events(events[number : number + 5])
            await asyncio.sleep(random.random() * 0.01)
    system.start_again()
    system.main.loses = system.cloud.loses = 0.0
    await system.settle()
    await system.assert_one_document_each()
    held = [one.key for one in await system.copies() if one.is_standing]
    assert held == []
    assert system.main.books.trial_balance().in_balance
    assert system.cloud.books.trial_balance().in_balance
