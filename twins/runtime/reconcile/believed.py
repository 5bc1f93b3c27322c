"""Twins compared with snapshots of an OMS and a WMS, and with the stock of an ERP.

A twin is compared as of the snapshot's moment: as it is now where nothing has been committed since, and
folded anew where something has, or where it differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from canonical.errors import RejectedMessage
from canonical.facts.stock import StockStatus
from canonical.identity import Kind, TwinRef, sku_and_location, stock
from canonical.money import ZERO
from canonical.movements import Shelf, movements
from twins.core.gaps import Gap
from twins.core.inquiry import Moment
from twins.core.ledger import Status
from twins.core.reconcile import orders, shelves
from twins.core.reconcile.causes import ShelfEvidence
from twins.core.reconcile.snapshot import OrderRow, ShelfRow, Snapshot
from twins.ports import GapStore, Ledgers, TwinFilter, TwinRow
from twins.runtime.reconcile.look import PAGE, Look, Progress

Document = Mapping[str, Any]
Read = Callable[[Sequence[TwinRef]], Awaitable[list[Document | None]]]
"""Twins as they are now; None where nobody has heard of one."""
NEIGHBOURS_MAX = 2_000
"""Of a shelf whose documents are searched for the missing quantity."""
INSTANT = timedelta(microseconds=1)


class Past(Protocol):
    async def believed(self, ref: TwinRef, moment: Moment) -> dict[str, Any] | None: ...


class Store(Ledgers, GapStore, Protocol):
    async def rows(self, wanted: TwinFilter, limit: int) -> list[TwinRow]: ...

    async def neighbours(self, refs: Sequence[TwinRef]) -> set[TwinRef]: ...


@dataclass(slots=True)
class TwinLook:
    store: Store
    read: Read
    past: Past
    snapshot: Snapshot
    erp_stock: Mapping[str, Mapping[Shelf, Decimal]]
    """ERP → what it has on its shelves; only those that it names are compared."""
    look: Look
    progress: Progress
    _gaps: list[Gap] | None = field(default=None)

    async def at_shelves(self) -> None:
        """Raises: TransientFailure."""
        told = self.snapshot.stock or {}
        named = {stock(*shelf) for held in self.erp_stock.values() for shelf in held}
        implied = _latest(told) if self.snapshot.is_whole else {}
        left = dict(told)
        async for page in self._twins(Kind.STOCK, lambda ref: _matters(ref, told, named, implied)):
            for row, document in page:
                rows = left.pop(row.ref, None) or _nothing(row.ref, implied)
                await self._shelf(row.ref, rows, document, row.changed_at)
                self._erp_shelf(row.ref, document)
                named.discard(row.ref)
        for ref, rows in left.items():
            await self._shelf(ref, rows, None, None)
        for ref in named:
            self._erp_shelf(ref, None)

    async def at_orders(self) -> None:
        """Raises: TransientFailure."""
        if self.snapshot.orders is None:
            return
        left, whole = dict(self.snapshot.orders), self.snapshot.is_whole
        as_of = max((row.as_of for row in left.values()), default=None)
        async for page in self._twins(Kind.ORDER, lambda ref: whole or ref in left):
            for twin, document in page:
                row = left.pop(twin.ref, None)
                if row is not None:
                    await self._order(twin.ref, row, document, twin.changed_at)
                elif document is not None and as_of is not None and orders.placed_by(document, as_of):
                    self.look.add([orders.unknown(twin.ref, document)])
        for ref, row in left.items():
            self.look.add([orders.missing(ref, row, await self._all_gaps())])

    async def _twins(
        self, kind: Kind, matters: Callable[[TwinRef], bool]
    ) -> AsyncIterator[list[tuple[TwinRow, Document | None]]]:
        after: str | None = None
        seen = 0
        while rows := await self.store.rows(TwinFilter(kind, after=after), PAGE):
            after, seen = str(rows[-1].ref), seen + len(rows)
            wanted = [row for row in rows if matters(row.ref)]
            documents = await self.read([row.ref for row in wanted]) if wanted else []
            yield list(zip(wanted, documents, strict=True))
            await self.progress(f"{seen} twins of kind {kind} compared")

    # --- one shelf

    async def _shelf(
        self,
        ref: TwinRef,
        rows: Mapping[StockStatus, ShelfRow],
        now: Document | None,
        changed_at: datetime | None,
    ) -> None:
        for status, row in rows.items():
            document = now
            differs = status in shelves.off(now, {status: row})
            if now is not None and changed_at is not None and (differs or changed_at > row.as_of):
                known, document = await self._believed(ref, row.as_of)
                differs = known and status in shelves.off(document, {status: row})
            if differs:
                evidence = await self._evidence(ref, status, row, document)
                self.look.add([shelves.of_snapshot(ref, status, row, document, evidence)])

    def _erp_shelf(self, ref: TwinRef, document: Document | None) -> None:
        shelf: Shelf = sku_and_location(ref)
        explained = self.look.unlike.get(shelf, ZERO)
        for erp, held in self.erp_stock.items():
            if shelf in held:
                found = shelves.of_erp(ref, document, explained, held[shelf], erp)
                self.look.add([found] if found is not None else [])

    async def _evidence(
        self, ref: TwinRef, status: StockStatus, row: ShelfRow, document: Document | None
    ) -> ShelfEvidence:
        around = {ref, *await self.store.neighbours([ref])}
        counted_at = shelves.counted_at(document, status)
        return ShelfEvidence(
            row.quantity - shelves.on_hand(document, status),
            await self._gaps_of({one for one in around if one.kind in (Kind.STOCK, Kind.SHIPMENT)}),
            await self._moved(ref, around) if len(around) <= NEIGHBOURS_MAX else {},
            counted_at,
            counted_at is not None and await self._agreed(ref, status, row, document, counted_at),
        )

    async def _moved(self, ref: TwinRef, around: set[TwinRef]) -> dict[str, Decimal]:
        """Posting key → what it moved on this shelf, of those that stand."""
        found: dict[str, Decimal] = {}
        for one in await self.store.filed_by(around):
            if one.record.status in (Status.QUEUED, Status.CONFIRMED):
                for shelf, quantity in movements(one.record.posting):
                    if shelf == sku_and_location(ref):
                        found[one.record.key] = found.get(one.record.key, ZERO) + quantity
        return found

    async def _agreed(
        self,
        ref: TwinRef,
        status: StockStatus,
        row: ShelfRow,
        document: Document | None,
        counted_at: datetime,
    ) -> bool:
        """Whether they would be right if our last count had not been."""
        _, before = await self._believed(ref, counted_at - INSTANT)
        _, counted = await self._believed(ref, counted_at)
        since = shelves.on_hand(document, status) - shelves.on_hand(counted, status)
        return before is not None and shelves.on_hand(before, status) + since == row.quantity

    # --- one order

    async def _order(self, ref: TwinRef, row: OrderRow, now: Document | None, changed_at: datetime) -> None:
        document = now
        if now is not None and (changed_at > row.as_of or _is_off(now, row)):
            known, document = await self._believed(ref, row.as_of)
            if not known:
                return
        if document is None or not orders.is_placed(document):
            self.look.add([orders.missing(ref, row, await self._all_gaps())])
        elif places := list(orders.off(document, row)):
            gaps = await self._gaps_of({ref, *await self.store.neighbours([ref])})
            self.look.add([orders.differing(ref, places, gaps)])

    # --- the past, and what is missing of it

    async def _believed(self, ref: TwinRef, as_of: datetime) -> tuple[bool, Document | None]:
        """False where too much lies behind the twin to be folded for this."""
        try:
            return True, await self.past.believed(ref, Moment(as_of=as_of))
        except RejectedMessage as rejected:
            self.look.not_compared.append(f"{ref} as of {as_of.isoformat()}: {rejected.reason}")
            return False, None

    async def _all_gaps(self) -> list[Gap]:
        if self._gaps is None:
            self._gaps = await self.store.find_gaps()
        return self._gaps

    async def _gaps_of(self, around: set[TwinRef]) -> list[Gap]:
        gaps = await self._all_gaps()
        sources = await self.store.sources_of(around) if gaps else set()
        return [gap for gap in gaps if gap.source in sources]


def _is_off(document: Document, row: OrderRow) -> bool:
    return not orders.is_placed(document) or any(orders.off(document, row))


def _matters(
    ref: TwinRef,
    told: Mapping[TwinRef, Any],
    named: set[TwinRef],
    implied: Mapping[str, datetime],
) -> bool:
    return ref in told or ref in named or sku_and_location(ref)[1] in implied


def _latest(told: Mapping[TwinRef, Mapping[StockStatus, ShelfRow]]) -> dict[str, datetime]:
    """Location → the snapshot's moment there."""
    found: dict[str, datetime] = {}
    for ref, rows in told.items():
        place = sku_and_location(ref)[1]
        for row in rows.values():
            found[place] = max(row.as_of, found.get(place, row.as_of))
    return found


def _nothing(ref: TwinRef, implied: Mapping[str, datetime]) -> dict[StockStatus, ShelfRow]:
    as_of = implied.get(sku_and_location(ref)[1])
    return {} if as_of is None else {status: ShelfRow(ZERO, as_of) for status in StockStatus}
