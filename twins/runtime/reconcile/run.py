"""A reconciliation: two looks, one wholly after the other. What both saw alike is a difference.

What is on its way changes between two looks, or is where it belongs at the second: a document that the
ledger had confirmed before the second look asked the ERP was posted before; an event that a source had told
before the first look has come by the second, which waits for *patience* first. Only what differs costs a
second look.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from canonical.errors import TransientFailure
from canonical.movements import Shelf
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import Snapshot
from twins.ports import Clock, ErpBooks, Reports
from twins.runtime.reconcile.believed import Past, Read, Store, TwinLook
from twins.runtime.reconcile.look import Look, Progress, look_at_documents

BooksOf = Callable[[str], ErpBooks | None]
Sleep = Callable[[float], Awaitable[None]]
PROGRESS_EVERY = timedelta(seconds=1)


@dataclass(slots=True)
class Reconciliation:
    store: Store
    reports: Reports
    read: Read
    past: Past
    books: BooksOf
    """The books of an ERP instance; None where they cannot be read. Whoever asks closes them."""
    clock: Clock
    sleep: Sleep
    patience: timedelta
    """How long what was told may be on its way."""
    unanswered: timedelta = timedelta(minutes=15)
    """After how long an answer of the ERP counts as lost."""

    async def run(self, report: Report, snapshot: Snapshot) -> Report:
        """Answers the finished report, stored. Raises: TransientFailure, with the report stored as failed."""
        try:
            seen = await self._look(report, snapshot)
            if seen.differences:
                await self.sleep(self.patience.total_seconds())
                seen = _both(seen, await self._look(report, snapshot))
        except TransientFailure as failure:
            await self.reports.save(self._ended(report, "failed", str(failure)))
            raise
        finished = replace(
            self._ended(report, "done"),
            differences=tuple(seen.differences.values()),
            not_compared=tuple(dict.fromkeys(seen.not_compared)),
        )
        await self.reports.save(finished)
        return finished

    def _ended(self, report: Report, state: Literal["done", "failed"], progress: str = "") -> Report:
        return replace(report, state=state, progress=progress, finished_at=self.clock.now())

    async def _look(self, report: Report, snapshot: Snapshot) -> Look:
        look, progress = Look(), self._progress(report)
        shelves: dict[str, Mapping[Shelf, Decimal]] = {}
        for erp in report.erps:
            async with self._opened(erp) as books:
                if books is None:
                    look.not_compared.append(f"erp/{erp}: its books cannot be read")
                    continue
                settled_before = self.clock.now() - self.unanswered
                await look_at_documents(erp, books, self.store, settled_before, look, progress)
                shelves[erp] = await books.stock()
        twins = TwinLook(self.store, self.read, self.past, snapshot, shelves, look, progress)
        await twins.at_shelves()
        await twins.at_orders()
        return look

    @asynccontextmanager
    async def _opened(self, erp: str) -> AsyncIterator[ErpBooks | None]:
        books = self.books(erp)
        try:
            yield books
        finally:
            if books is not None:
                await books.close()

    def _progress(self, report: Report) -> Progress:
        """Store how far it is, now and then."""
        last = self.clock.now()

        async def tell(done: str) -> None:
            nonlocal last
            if self.clock.now() - last >= PROGRESS_EVERY:
                last = self.clock.now()
                await self.reports.save(replace(report, progress=done))

        return tell


def _both(one: Look, other: Look) -> Look:
    """What the second look saw as the first did."""
    found = {name: seen for name, seen in other.differences.items() if name in one.differences}
    return replace(other, differences=found)
