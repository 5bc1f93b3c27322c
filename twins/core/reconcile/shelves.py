"""Stock compared: with what a WMS counted, and with what the ERP has on its books.

Rules
- A snapshot is compared with what we believed as of its moment, status by status.
- An ERP is compared as it is, over all statuses. What its documents have moved beyond the twins, or not yet,
  is taken into account: it is found where documents are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from canonical.facts.stock import StockStatus
from canonical.identity import TwinRef, sku_and_location
from canonical.money import ZERO
from canonical.types import plain
from twins.core.reconcile.causes import SHELF_CAUSES, ShelfEvidence, likely
from twins.core.reconcile.difference import Adjust, AskSource, Corrections, Difference, Kind
from twins.core.reconcile.snapshot import ShelfRow

WMS = "wms"
Document = Mapping[str, Any]


def on_hand(document: Document | None, status: StockStatus) -> Decimal:
    return Decimal(document["on_hand"].get(status, 0)) if document is not None else ZERO


def off(document: Document | None, rows: Mapping[StockStatus, ShelfRow]) -> Iterator[StockStatus]:
    """Statuses of which a snapshot says something else than the document of a shelf."""
    return (status for status, row in rows.items() if on_hand(document, status) != row.quantity)


def of_snapshot(
    ref: TwinRef, status: StockStatus, row: ShelfRow, document: Document | None, evidence: ShelfEvidence
) -> Difference:
    """*document*: the shelf as we believed it at the moment of the snapshot."""
    return Difference(
        Kind.STOCK_DIFFERS,
        str(ref),
        WMS,
        f"{plain(on_hand(document, status))} {status}",
        f"{plain(row.quantity)} {status} as of {row.as_of:%Y-%m-%d %H:%M:%S}",
        likely(SHELF_CAUSES, evidence),
        _mended(ref, status, row, evidence),
    )


def _mended(ref: TwinRef, status: StockStatus, row: ShelfRow, evidence: ShelfEvidence) -> Corrections:
    if evidence.gaps:
        gap = evidence.gaps[0]
        return (AskSource(gap.source, gap.first, gap.last, gap.since),)
    sku, location = sku_and_location(ref)
    return (Adjust(sku, location, status, row.quantity, row.as_of),) if row.quantity >= 0 else ()


def of_erp(
    ref: TwinRef, document: Document | None, explained: Decimal, theirs: Decimal, erp: str
) -> Difference | None:
    """*explained*: what the ERP's documents have moved beyond the twins."""
    ours = sum((on_hand(document, status) for status in StockStatus), ZERO)
    surplus = theirs - ours - explained
    if not surplus:
        return None
    return Difference(
        Kind.STOCK_DIFFERS,
        str(ref),
        f"erp/{erp}",
        "what the twins and the documents say",
        f"{plain(surplus):+} beside that",
        likely(SHELF_CAUSES, ShelfEvidence(surplus)),
    )


def counted_at(document: Document | None, status: StockStatus) -> datetime | None:
    told = document["counted_at"].get(status) if document is not None else None
    return datetime.fromisoformat(told) if isinstance(told, str) else told
