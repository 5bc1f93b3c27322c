"""A queue on SQLite that tests fill by hand, an ERP that does what a test says, and a clock that it turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import TransientFailure
from canonical.identity import PostingKey, TwinRef, order, stock
from canonical.postings import Action, Command, PostCreditNote, Posting, PostPayment, PostStockAdjustment
from twins.core.batch import Effects
from twins.core.history import Arrival
from twins.core.ledger import Record, Status, answered
from twins.core.twin import REPLIES
from twins.ports import Answer, Confirmed, Fault, Refused, Rejected, Taken, Verdict

SKU, PLACE = "A", "DC-1"
_COMMON: dict[str, Any] = {"event_date": date(2026, 3, 2), "company": "main", "currency": "USD"}


def payment(name: str, *, company: str = "main", requires: tuple[str, ...] = ()) -> PostPayment:
    return PostPayment(
        key=PostingKey(f"payment/{name}/SO-1"),
        order_id="SO-1",
        payment_id=name,
        amount=Decimal(5),
        requires=tuple(map(PostingKey, requires)),
        **(_COMMON | {"company": company}),
    )


def adjustment(name: str) -> PostStockAdjustment:
    return PostStockAdjustment(
        key=PostingKey(f"stock-adjustment/{name}/{SKU}@{PLACE}"),
        sku=SKU,
        location=PLACE,
        status="sellable",
        delta=Decimal(1),
        cost=None,
        **_COMMON,
    )


def credit_note(name: str) -> PostCreditNote:
    return PostCreditNote(
        key=PostingKey(f"credit-note/{name}/1/SO-1"),
        order_id="SO-1",
        return_id=name,
        line_id="1",
        customer_id="C-1",
        sku=SKU,
        quantity=Decimal(1),
        net=Decimal(10),
        tax=Decimal(1),
        cost=None,
        **_COMMON,
    )


def post(posting: Posting, version: int = 1) -> Command:
    return Command(Action.POST, version, posting)


def reverse(posting: Posting, version: int = 1) -> Command:
    return Command(Action.REVERSE, version, posting)


@dataclass
class Desk:
    """Plans commands as twins would, and commits replies as their hosts would."""

    store: SqlStore
    records: dict[tuple[PostingKey, int], Record] = field(default_factory=dict)
    replies: list[list[Event]] = field(default_factory=list)
    """One list a commit."""
    host: str = "host-0"
    broken: int = 0
    """Commits of replies that fail, from now on."""
    away: set[TwinRef] = field(default_factory=set)
    """Twins whose host does not answer, for so many seconds."""
    away_s: float = 0.0
    unreadable: set[TwinRef] = field(default_factory=set)
    """Twins that break on whatever they are told."""
    _epoch: int = 0

    async def plan(self, *commands: Command) -> None:
        changed = [self._planned(one) for one in commands]
        effects = Effects(
            commands=[(_owner(one.posting), one) for one in commands],
            records=[(_owner(one.posting), one) for one in changed],
        )
        await self._commit(effects)

    def _planned(self, command: Command) -> Record:
        status = Status.QUEUED if command.action is Action.POST else Status.REVERSING
        known = self.records.get((command.key, command.version))
        record = Record(command.posting, command.version, status, known.document if known else None)
        self.records[command.key, command.version] = record
        return record

    async def reply(self, events: Sequence[Event]) -> list[Verdict]:
        if self.broken:
            self.broken -= 1
            raise TransientFailure("no host")
        if any(event.subject in self.away for event in events):
            await asyncio.sleep(self.away_s)
            raise TransientFailure("that host is away")
        taken = [event for event in events if event.subject not in self.unreadable]
        self.replies.append(list(taken))
        changed: list[Record] = []
        for event in taken:
            assert isinstance(event.fact, REPLIES)
            place = PostingKey(event.fact.posting_key), event.fact.version
            self.records[place] = answered(self.records[place], event.fact)
            changed.append(self.records[place])
        await self._commit(Effects(records=[(_owner(one.posting), one) for one in changed]))
        return [
            Rejected("no such event type", fault=Fault.TWINSYNC)
            if event.subject in self.unreadable
            else Taken(Arrival.NEW)
            for event in events
        ]

    async def _commit(self, effects: Effects) -> None:
        if not self._epoch:
            self._epoch = await self.store.claim(self.host)
        await self.store.commit(self.host, self._epoch, effects, ())

    def status(self, posting: Posting, version: int = 1) -> Status:
        return self.records[posting.key, version].status


def _owner(posting: Posting) -> Any:
    return stock(SKU, PLACE) if isinstance(posting, PostStockAdjustment) else order("SO-1")


@dataclass
class Scripted:
    """An ERP that takes everything, unless a test says otherwise."""

    told: list[str] = field(default_factory=list)
    """Idempotency keys, as they came; so below."""
    looked_up: list[str] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    does: Callable[[Command], Answer | TransientFailure | None] | None = None
    """None: takes it without an answer."""
    hold: asyncio.Event | None = None
    """Whom `held` names waits for it."""
    held: Callable[[Command], bool] = lambda command: True
    silent: bool = False
    """Posts, and its answers get lost."""
    away: bool = False
    busy: int = 0
    busiest: int = 0

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self._tell(command)
        finally:
            self.busy -= 1

    async def _tell(self, command: Command) -> Answer | None:
        self.told.append(command.idempotency_key)
        if self.away:
            raise TransientFailure("503")
        if self.hold is not None and self.held(command):
            await self.hold.wait()
        if self.does is not None:
            answer = self.does(command)
            if isinstance(answer, TransientFailure):
                raise answer
            if answer is None or isinstance(answer, Refused):
                return answer
        assert command.idempotency_key not in self.documents, "posted twice"
        self.documents[command.idempotency_key] = f"D{len(self.documents) + 1}"
        if self.silent:
            raise TransientFailure("timed out")
        return Confirmed(self.documents[command.idempotency_key])

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        self.looked_up.append(idempotency_key)
        if self.away:
            raise TransientFailure("503")
        known = self.documents.get(idempotency_key)
        return None if known is None else Confirmed(known)

    async def close(self) -> None: ...
