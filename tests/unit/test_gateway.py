"""The gateway tells the ERP each command once, in an order that it can take. Twins and SQLite are real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import TransientFailure
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import PostingKey
from canonical.postings import Action, Command
from tests.stories import golden
from tests.unit.test_host import Clock, messages
from tests.world import World, tell
from twins.core.ledger import Status
from twins.core.rules import Policy
from twins.ports import Answer, Confirmed, Refused, Verdict
from twins.runtime.gateway import Gateway
from twins.runtime.host import TwinHost


@dataclass
class Erp:
    """Remembers what it was told; can be made to answer badly."""

    told: list[Command] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    posting_dates: dict[str, date | None] = field(default_factory=dict)
    silent_after_posting: int = 0
    away: int = 0
    refuse: set[str] = field(default_factory=set)

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        if self.away:
            self.away -= 1
            raise TransientFailure("503")
        self.told.append(command)
        self.posting_dates[command.idempotency_key] = posting_date
        if command.key in self.refuse:
            return Refused("the ERP says no")
        self.documents[command.idempotency_key] = f"D{len(self.told)}"
        if self.silent_after_posting:
            self.silent_after_posting -= 1
            raise TransientFailure("timed out")
        return Confirmed(self.documents[command.idempotency_key])

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        number = self.documents.get(idempotency_key)
        return None if number is None else Confirmed(number)

    async def close(self) -> None: ...

    def place(self, key: str, action: Action = Action.POST) -> int:
        return next(n for n, one in enumerate(self.told) if one.key == key and one.action is action)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened = SqlStore(sqlite_url(tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


@dataclass
class System:
    host: TwinHost
    gateway: Gateway
    erp: Erp
    store: SqlStore
    now: float = 0.0

    async def settle(self) -> None:
        for _ in range(30):
            self.now += 100  # any rest is over
            await self.gateway.work()
            if not await self.store.queued("main", 1):
                return

    async def statuses(self, *keys: str) -> list[Status]:
        found = await self.store.statuses([PostingKey(key) for key in keys])
        latest = {key: status for (key, _), status in sorted(found.items())}
        return [latest[PostingKey(key)] for key in keys]


@pytest.fixture
def system(store: SqlStore) -> System:
    host = TwinHost("host-0", store, Clock(), Policy())
    erp = Erp()

    async def reply(events: object) -> list[Verdict]:
        return await host.take_events(events)  # type: ignore[arg-type]

    gateway = Gateway("main", store, erp, Clock(), reply, moment=lambda: found.now)
    found = System(host, gateway, erp, store)
    return found


async def test_every_posting_of_the_golden_run_is_confirmed_once(system: System) -> None:
    await system.host.take(messages(*golden()))
    await system.settle()
    keys = [one.key for one in system.erp.told]
    assert sorted(keys) == sorted(World().take_each(golden()).live())
    assert set(await system.statuses(*keys)) == {Status.CONFIRMED}


async def test_an_invoice_is_told_after_its_goods_issue_is_confirmed(system: System) -> None:
    await system.host.take(messages(*golden()))
    await system.settle()
    for shipment in ("SHP-1", "SHP-2"):
        assert system.erp.place(f"goods-issue/{shipment}") < system.erp.place(f"invoice/{shipment}/SO-1")


async def test_after_a_time_out_it_looks_up_before_it_tells_again(system: System) -> None:
    system.erp.silent_after_posting = 3
    await system.host.take(messages(*golden()))
    await system.settle()
    keys = [one.idempotency_key for one in system.erp.told]
    assert len(keys) == len(set(keys)), "told twice"
    assert system.gateway.line.counts.looked_up == 3


async def test_what_a_predecessor_told_is_looked_up_only_when_the_erp_has_had_time_to_post_it(
    system: System,
) -> None:
    """A slow ERP posts what it was told after the gateway that told it died, and after its successor came."""
    await system.host.take(messages(*golden()))
    (first, *_) = await system.store.queued("main", 1)
    doomed = await system.store.claim("gateway-main")
    await system.store.sending("gateway-main", doomed, "main", [first.number])

    async def reply(events: object) -> list[Verdict]:
        return await system.host.take_events(events)  # type: ignore[arg-type]

    heir = Gateway(
        "main", system.store, system.erp, Clock(), reply, moment=lambda: system.now, inherit_after_s=10.0
    )
    await heir.work()
    assert first.command not in system.erp.told
    await system.erp.tell(first.command)  # what the dead one had told comes through
    system.now += 11
    for _ in range(20):
        await heir.work()
    assert system.erp.told.count(first.command) == 1
    assert await system.statuses(first.command.key) == [Status.CONFIRMED]


async def test_while_the_erp_is_away_nothing_is_lost(system: System) -> None:
    system.erp.away = 9
    await system.host.take(messages(*golden()))
    await system.settle()
    assert set(await system.statuses(*World().take_each(golden()).live())) == {Status.CONFIRMED}


async def test_a_refused_goods_issue_keeps_its_invoice_waiting(system: System) -> None:
    system.erp.refuse = {"goods-issue/SHP-1"}
    await system.host.take(messages(*golden()))
    await system.settle()
    assert await system.statuses("goods-issue/SHP-1", "invoice/SHP-1/SO-1") == [
        Status.REJECTED,
        Status.QUEUED,
    ]
    assert "invoice/SHP-1/SO-1" not in {one.key for one in system.erp.told}


async def test_a_void_reverses_the_invoice_before_the_goods_issue(system: System) -> None:
    await system.host.take(messages(*golden()))
    await system.settle()
    await system.host.take(messages(tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)))
    await system.settle()
    invoice = system.erp.place("invoice/SHP-2/SO-1", Action.REVERSE)
    assert invoice < system.erp.place("goods-issue/SHP-2", Action.REVERSE)
    assert await system.statuses("invoice/SHP-2/SO-1", "goods-issue/SHP-2") == [Status.REVERSED] * 2


async def test_what_was_never_sent_is_annulled_unsent(system: System) -> None:
    await system.host.take(messages(*golden()))
    await system.host.take(messages(tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)))
    await system.settle()
    assert not [one for one in system.erp.told if "SHP-2" in one.key]
    assert await system.statuses("invoice/SHP-2/SO-1", "goods-issue/SHP-2") == [Status.ANNULLED] * 2
    assert system.gateway.counts.annulled >= 2


async def test_a_gateway_that_died_after_the_erp_answered_tells_nothing_twice(system: System) -> None:
    await system.host.take(messages(*golden()))

    async def dies(events: object) -> list[Verdict]:
        raise TransientFailure("killed")

    doomed = Gateway("main", system.store, system.erp, Clock(), dies)
    with pytest.raises(TransientFailure):
        await doomed.work()
    await system.settle()
    keys = [one.idempotency_key for one in system.erp.told]
    assert len(keys) == len(set(keys)), "told twice"


async def test_a_closed_period_posts_into_the_open_one_and_keeps_the_event_date(system: System) -> None:
    async def closed_through(company: str) -> date:
        return date(2026, 3, 2)

    system.gateway._closed_through = closed_through
    await system.host.take(messages(*golden()))
    await system.settle()
    told = {one.key: one for one in system.erp.told}
    issue = told[PostingKey("goods-issue/SHP-1")]
    assert issue.posting.event_date == date(2026, 3, 2)
    assert system.erp.posting_dates[issue.idempotency_key] == date(2026, 3, 3)
    credit = told[PostingKey("credit-note/RMA-1/1/SO-1")]
    assert system.erp.posting_dates[credit.idempotency_key] is None
