"""A system in one process to compare with: real host, gateway, SQLite, simulated books; no Ray, no HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from pydantic_core import from_json

from adapters.http.reconciliations import Reconciling
from adapters.simulated_erp.books import Books, Posted
from adapters.simulated_erp.models import Instruction
from adapters.simulated_erp.reading import held
from adapters.sql.store import SqlStore
from canonical.envelope import Event, parse
from canonical.identity import TwinRef
from canonical.money import ZERO
from canonical.postings import Account, Command
from ops.snapshots import read_snapshot
from tests.world import DAY
from twins.core.gaps import Gap
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import Snapshot
from twins.core.rules import Policy
from twins.ports import Answer, Balance, Confirmed, HeldDocument, Publication, Refused, Verdict
from twins.runtime.gateway import Gateway
from twins.runtime.host import Aspect, TwinHost
from twins.runtime.inquiry import Inquiry
from twins.runtime.reconcile.correct import Corrector
from twins.runtime.reconcile.run import Reconciliation

LATER = timedelta(hours=1)
"""How far ahead of the machine's clock they reconcile: what was unanswered counts as lost by then."""


class Clock:
    def __init__(self, moment: datetime | None = None) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment or datetime.now(UTC) + LATER


@dataclass
class InProcessErp:
    """Implements ErpConnector, ErpBooks and ErpCorrections over books of its own."""

    books: Books = field(default_factory=Books)
    not_kept: frozenset[str] = frozenset()
    unheard: set[str] = field(default_factory=set)
    """Idempotency keys of commands that it takes, and whose answers never come."""
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """What goes on while somebody reads its documents, and after that."""

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        told = Instruction(
            command.idempotency_key, command.action, command.version, command.posting, posting_date
        )
        outcome = self.books.take(told)
        if command.idempotency_key in self.unheard:
            return None
        if isinstance(outcome, Posted):
            return Confirmed(outcome.document.number)
        return Refused(outcome.reason)

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        found = self.books.find(idempotency_key)
        return Confirmed(found[0].number) if found else None

    async def reverse(self, document: str, idempotency_key: str) -> Answer:
        outcome = self.books.reverse(document, idempotency_key)
        return Confirmed(outcome.document.number) if isinstance(outcome, Posted) else Refused(outcome.reason)

    async def documents(self) -> AsyncIterator[HeldDocument]:
        for number, document in enumerate(self.books.documents):
            if self.meanwhile is not None and number % 5 == 0:
                await self.meanwhile()
            if document.number not in self.books.dropped:
                yield held(self.books.document(document.number))

    async def stock(self) -> Mapping[tuple[str, str], Decimal]:
        return self.books.stock()

    async def balances(self) -> Mapping[Account, Balance]:
        found: dict[Account, Balance] = {}
        for row in self.books.trial_balance().rows:
            known = found.get(row.account, Balance(ZERO, ZERO))
            found[row.account] = Balance(known.debit + row.debit, known.credit + row.credit)
        if self.meanwhile is not None:
            await self.meanwhile()
        return found

    async def close(self) -> None: ...


@dataclass
class System:
    store: SqlStore
    erp: InProcessErp = field(default_factory=InProcessErp)
    host: TwinHost = None  # type: ignore[assignment]
    """One of its own where none is given."""
    untold: dict[tuple[str, int], Event] = field(default_factory=dict)
    """(source, number) → an event that was lost on its way, which its source can tell again."""
    asked: list[Gap] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host = self.host or TwinHost("host-0", self.store, Clock(DAY), Policy())
        self.gateway = Gateway("main", self.store, self.erp, Clock(DAY), self._reply)
        self._names = count(1)

    async def _reply(self, events: Sequence[Event]) -> list[Verdict]:
        return await self.host.take_events(events)

    async def tell(self, events: Sequence[Event]) -> None:
        for start in range(0, len(events), 100):
            await self.host.take([Publication(one.structured()) for one in events[start : start + 100]])

    async def settle(self) -> None:
        """Until the gateway can do no more."""
        idle = 0
        while idle < 2:
            idle = 0 if await self.gateway.work() else idle + 1

    # --- implements Publisher and Backfill

    async def publish(self, messages: Sequence[Publication]) -> None:
        await self.host.take_events([parse(one.body, one.headers, one.content_type) for one in messages])

    async def ask(self, gap: Gap) -> bool:
        self.asked.append(gap)
        numbers = range(gap.first, gap.last + 1)
        await self.tell([self.untold[gap.source, number] for number in numbers])
        return True

    async def close(self) -> None: ...

    # --- comparing

    async def read(self, refs: Sequence[TwinRef]) -> list[Mapping[str, Any] | None]:
        found = await self.host.read(Aspect.DOCUMENT, refs)
        return [None if one is None else from_json(one[1]) for one in found]

    def reconciliation(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Reconciliation:
        """*meanwhile*: what goes on in place of the wait between the two looks."""

        async def sleep(seconds: float) -> None:
            if meanwhile is not None:
                await meanwhile()

        return Reconciliation(
            self.store,
            self.store,
            self.read,
            Inquiry(self.store, self.store, Policy()),
            lambda erp: self.erp,
            Clock(),
            sleep,
            timedelta(seconds=5),
        )

    def corrector(self) -> Corrector:
        return Corrector(
            self.store,
            self.store,
            self,
            self.store,
            lambda erp: self.erp,
            lambda erp: self.erp,
            self,
            Clock(),
        )

    def routed(self) -> Reconciling:
        """As the HTTP API has it."""
        return Reconciling(
            ("main",), self.reconciliation(), self.corrector(), self.store, read_snapshot, Clock()
        )

    async def reconcile(
        self, snapshot: Snapshot | None = None, *, flowing: Callable[[], Awaitable[None]] | None = None
    ) -> Report:
        asked = Report(f"R-{next(self._names)}", "tests", Clock().now(), ("main",))
        return await self.reconciliation(flowing).run(asked, snapshot or Snapshot())

    async def apply(self, report: Report, *chosen: str) -> Report:
        """All of it where none is named."""
        names = chosen or [one.id for one in report.differences]
        return await self.corrector().apply(report, names, "tests")
