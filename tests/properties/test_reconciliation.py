"""Every drop, duplicate and tampering is found, and nothing else is; what is proposed mends it.

A simulated day is brought to rest; then, from a seed, people meddle with the ERP, answers get lost, the WMS
and the OMS say otherwise, and a source loses a message. What was done is compared with what is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adapters.simulated_erp.books import Posted
from adapters.simulated_erp.models import (
    Copied,
    Document,
    Dropped,
    Instruction,
    Journalled,
    Rescaled,
    StockOpened,
)
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.stock import StockStatus
from canonical.identity import Kind as Twins
from canonical.identity import PostingKey, TwinRef, order, sku_and_location
from canonical.money import ZERO
from canonical.movements import Shelf, movements
from canonical.postings import Account, Action, Entry, entries
from ops.simulation.stories import NUMBERED, tell_day
from tests.reconciled import System
from tests.world import World
from twins.core.reconcile.difference import Kind
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import LineRow, OrderRow, ShelfRow, Snapshot

ORDERS = range(8)
ROUNDS_MAX = 4
QUANTITIES = ("ordered", "cancelled", "shipped", "returned")
SAID = frozenset({"invoice", "payment", "refund", "freight-accrual"})
"""Commands whose amounts a posting says in full."""

Found = tuple[Kind, str]


# --- what the others hold --------------------------------------------------------------------------------


@dataclass
class Others:
    """A WMS and an OMS that have heard everything, and can be made to say otherwise."""

    documents: dict[TwinRef, dict[str, Any]]
    as_of: datetime
    shelves: dict[TwinRef, Decimal] = field(default_factory=dict)
    left_out: set[TwinRef] = field(default_factory=set)
    cancelled: set[TwinRef] = field(default_factory=set)
    invented: set[TwinRef] = field(default_factory=set)

    @classmethod
    def of(cls, events: list[Event], as_of: datetime) -> Others:
        world = World()
        world.take(events)
        documents = {ref: twin.snapshot().document() for ref, twin in world.twins.items()}
        return cls(documents, as_of)

    def of_kind(self, kind: Twins) -> list[TwinRef]:
        return sorted(ref for ref in self.documents if ref.kind is kind and self._is_there(ref))

    def _is_there(self, ref: TwinRef) -> bool:
        return ref.kind is not Twins.ORDER or self.documents[ref]["placed_at"] is not None

    def snapshot(self) -> Snapshot:
        shelves = {ref: self._shelf(ref) for ref in self.of_kind(Twins.STOCK)}
        told = {ref: self._order(ref) for ref in self.of_kind(Twins.ORDER) if ref not in self.left_out}
        told |= {ref: OrderRow(self.as_of, "placed") for ref in self.invented}
        return Snapshot(shelves, told)

    def _shelf(self, ref: TwinRef) -> dict[StockStatus, ShelfRow]:
        held = self.documents[ref]["on_hand"]
        off = self.shelves.get(ref, ZERO)
        return {
            status: ShelfRow(held[status] + (off if status is StockStatus.SELLABLE else 0), self.as_of)
            for status in StockStatus
        }

    def _order(self, ref: TwinRef) -> OrderRow:
        document = self.documents[ref]
        lines = {
            line["line_id"]: LineRow(line["sku"], {name: line[name] for name in QUANTITIES})
            for line in document["lines"]
        }
        status = "cancelled-there" if ref in self.cancelled else document["status"]
        return OrderRow(self.as_of, status, document["total"], lines)

    def unlike(self, other: Others) -> set[Found]:
        """What those who have heard less than everything do not know."""
        found: set[Found] = set()
        for ref in self.of_kind(Twins.STOCK):
            known = other.documents.get(ref)
            if known is None or known["on_hand"] != self.documents[ref]["on_hand"]:
                found.add((Kind.STOCK_DIFFERS, str(ref)))
        for ref in self.of_kind(Twins.ORDER):
            if ref not in other.documents or not other._is_there(ref):
                found.add((Kind.ORDER_MISSING, str(ref)))
            elif self._order(ref) != replace(other._order(ref), as_of=self.as_of):
                found.add((Kind.ORDER_DIFFERS, str(ref)))
        return found


# --- meddling --------------------------------------------------------------------------------------------


@dataclass
class Meddler:
    """Does one of each kind, where the day has something for it, and remembers what."""

    system: System
    random: Random
    done: set[Found] = field(default_factory=set)

    def with_the_erp(self) -> None:
        books = self.system.erp.books
        live = [one for one in books.documents if one.live and self._is_free(one)]
        self.random.shuffle(live)
        reversals = [one for one in books.documents if one.reverses is not None]
        for document in live[:2]:
            books.apply(Dropped(document.number))
            self._did(Kind.DOCUMENT_MISSING, document)
        for document in live[2:4]:
            books.apply(Copied(document.number))
            self._did(Kind.DOCUMENT_DOUBLED, document)
        for document in live[4:5]:
            assert isinstance(books.reverse(document.number, f"hand/{document.number}"), Posted)
            self._did(Kind.REVERSED_ELSEWHERE, document)
        for document in live[5:6]:
            books.apply(Copied(document.number))
            books.apply(Dropped(document.number))
            self._did(Kind.DOCUMENT_NUMBER_DIFFERS, document)
        for document in [one for one in live[6:] if one.posting.command in SAID][:2]:
            books.apply(Rescaled(document.number, self.random.choice((Decimal("1.1"), Decimal("-1")))))
            self._did(Kind.AMOUNTS_DIFFER, document)
        for document in reversals[:1]:
            books.apply(Dropped(document.number))
            self._did(Kind.DOCUMENT_ORPHANED, document)
        self._invent(next(one for one in books.documents if one.posting.command == "payment"))
        self._journal()

    def _is_free(self, document: Document) -> bool:
        return f"{document.posting_key}@{document.version}" not in self.system.erp.unheard

    def _invent(self, like: Document) -> None:
        strange = replace(like.posting, key=PostingKey(f"payment/by-hand/{self.random.random()}"))
        self.system.erp.books.take(Instruction(strange.key, Action.POST, 1, strange))
        self.done.add((Kind.DOCUMENT_ORPHANED, strange.key))

    def _journal(self) -> None:
        amount = Decimal(self.random.randint(1, 10_000)) / 100
        debit, credit = self.random.sample(list(Account), 2)
        made = (Entry(debit, amount, ZERO), Entry(credit, ZERO, amount))
        self.system.erp.books.apply(Journalled(made))
        self.done |= {(Kind.BALANCE_DIFFERS, debit), (Kind.BALANCE_DIFFERS, credit)}

    def _did(self, kind: Kind, document: Document) -> None:
        self.done.add((kind, document.posting_key))

    def with_the_others(self, others: Others) -> None:
        known = {subject for _, subject in self.done}
        shelves = [
            ref
            for ref in others.of_kind(Twins.STOCK)
            if str(ref) not in known and others.documents[ref]["on_hand"][StockStatus.SELLABLE] >= 0
        ]
        orders = [ref for ref in others.of_kind(Twins.ORDER) if str(ref) not in known]
        for ref in self.random.sample(shelves, 2):
            others.shelves[ref] = Decimal(self.random.randint(1, 9))
            self.done.add((Kind.STOCK_DIFFERS, str(ref)))
        gone, altered = self.random.sample(orders, 2)
        others.left_out, others.cancelled, others.invented = {gone}, {altered}, {order("SO-INVENTED")}
        self.done |= {
            (Kind.ORDER_UNKNOWN, str(gone)),
            (Kind.ORDER_DIFFERS, str(altered)),
            (Kind.ORDER_MISSING, "order/SO-INVENTED"),
        }


def lose(events: list[Event], random: Random, many: int) -> list[Event]:
    """Events of numbered sources that nobody hears; later numbers show that they are missing."""
    last = {event.source: event.sequence for event in events if event.sequence is not None}
    numbers = [(event.source, event.sequence) for event in events if event.source in NUMBERED]
    can_be_missed = [
        event
        for event in events
        if event.sequence
        and event.sequence < (last[event.source] or 0)
        and numbers.count((event.source, event.sequence)) == 1
    ]
    return random.sample(can_be_missed, many)


# --- the system ------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(folder: Path) -> Any:
    store = SqlStore(sqlite_url(folder))
    await store.migrate()
    try:
        yield System(store)
    finally:
        await store.close()


def found(report: Report) -> set[Found]:
    """A shelf may differ in several statuses, each once; anything else once."""
    told = [(one.kind, one.subject, one.ours.split()[-1]) for one in report.differences]
    assert len(told) == len(set(told)), "reported twice"
    others = [one[:2] for one in told if one[0] is not Kind.STOCK_DIFFERS]
    assert len(others) == len(set(others)), "reported twice"
    return {(kind, subject) for kind, subject, _ in told}


async def open_stock(system: System, others: Others) -> None:
    """The ERP has bought what makes its shelves like the twins', once all postings are there."""
    moved: dict[Shelf, Decimal] = {}
    for record in (await system.store.live_postings()).values():
        for shelf, quantity in movements(record.posting):
            moved[shelf] = moved.get(shelf, ZERO) + quantity
    quantities: dict[str, dict[str, Decimal]] = {}
    for ref in others.of_kind(Twins.STOCK):
        sku, location = sku_and_location(ref)
        held = sum(others.documents[ref]["on_hand"].values(), ZERO)
        quantities.setdefault(sku, {})[location] = held - moved.get((sku, location), ZERO)
    system.erp.books.apply(StockOpened(quantities))


async def assert_one_live_document_a_key(system: System) -> None:
    live = await system.store.live_postings()
    held = [
        one for one in system.erp.books.documents if one.live and one.number not in system.erp.books.dropped
    ]
    assert sorted(one.posting_key for one in held) == sorted(live)
    expected: dict[Account, Decimal] = {}
    for made in _entries(system, live):
        expected[made.account] = expected.get(made.account, ZERO) + made.debit - made.credit
    for account, amount in (await system.store.accepted("main")).items():
        expected[account] = expected.get(account, ZERO) + amount
    balances = await system.erp.balances()
    for account in expected.keys() | balances.keys():
        balance = balances.get(account)
        theirs = balance.debit - balance.credit if balance else ZERO
        assert theirs == expected.get(account, ZERO), account


def _entries(system: System, live: dict[PostingKey, Any]) -> Iterator[Entry]:
    """By the ERP's valuation, where the posting leaves it open."""
    for record in live.values():
        yield from entries(record.posting)


# --- properties ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 7))
async def test_an_undisturbed_day_has_no_differences(seed: int, tmp_path: Path) -> None:
    events = tell_day(seed, ORDERS, skewed=bool(seed % 2))
    shuffled = Random(seed).sample(events, len(events))
    async with opened(tmp_path) as system:
        await system.tell(shuffled)
        await system.settle()
        others = Others.of(events, datetime.now(UTC) + timedelta(seconds=1))
        await open_stock(system, others)
        assert found(await system.reconcile(others.snapshot())) == set()


@pytest.mark.parametrize("seed", range(1, 7))
async def test_what_is_on_its_way_while_they_look_is_not_reported(seed: int, tmp_path: Path) -> None:
    """Events and documents flow during both looks, and between them; the others are ahead of us.

    Nothing is taken back: what has been is no part of the past, as it was when the others looked.
    """
    day = tell_day(seed, ORDERS, skewed=False)
    events = [event for event in day if not isinstance(event.fact, Retracted)]
    waiting = list(events)
    async with opened(tmp_path) as system:

        async def flow(many: int) -> None:
            some, waiting[:] = waiting[:many], waiting[many:]
            await system.tell(some)
            await system.gateway.work()

        async def arrive() -> None:
            """All that had happened by the snapshot's moment, and more."""
            await flow(len(events) // 4)

        await flow(len(events) // 4)
        as_of = events[len(events) * 3 // 8].time
        others = Others.of([event for event in events if event.time <= as_of], as_of)
        system.erp.meanwhile = lambda: flow(2)
        assert found(await system.reconcile(others.snapshot(), flowing=arrive)) == set()
        assert system.erp.books.documents, "nothing was posted meanwhile"
        assert waiting, "nothing was on its way at last"


@pytest.mark.parametrize("seed", range(1, 13))
async def test_what_was_done_is_found_and_nothing_else_and_then_mended(seed: int, tmp_path: Path) -> None:
    random = Random(f"meddling-{seed}")
    events = tell_day(seed, ORDERS, skewed=False)
    lost = lose(events, random, random.randint(0, 2))
    heard = [event for event in events if event not in lost]
    async with opened(tmp_path) as system:
        system.untold = {(event.source, event.sequence or 0): event for event in lost}
        posts = [str(key) for key in World().take_each(heard).live()]
        unheard = random.sample(posts, 2)
        system.erp.unheard = {f"{key}@1" for key in unheard}
        await system.tell(heard)
        await system.settle()
        as_of = datetime.now(UTC) + timedelta(seconds=1)
        others, heard_less = Others.of(events, as_of), Others.of(heard, as_of)
        if not lost:
            await open_stock(system, others)
        meddler = Meddler(system, random, others.unlike(heard_less))
        told = {one.idempotency_key for one in system.erp.books.documents}
        meddler.done |= {(Kind.CONFIRMATION_LOST, key) for key in unheard if f"{key}@1" in told}
        meddler.with_the_erp()
        meddler.with_the_others(others)
        assert found(await system.reconcile(others.snapshot())) == meddler.done

        others.left_out, others.cancelled, others.invented = set(), set(), set()
        for _ in range(ROUNDS_MAX):
            report = await system.reconcile(others.snapshot())
            if not report.differences:
                break
            await system.apply(report)
            await system.settle()
        assert found(await system.reconcile(others.snapshot())) == set()
        await assert_one_live_document_a_key(system)
