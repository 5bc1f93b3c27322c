"""Snapshots from wherever they are: a file, an HTTP address; CSV, JSON, or an X12 846."""

from __future__ import annotations

from pathlib import Path

import httpx

from adapters.snapshots.orders import read_orders
from adapters.snapshots.stock import read_stock
from canonical.errors import RejectedMessage, TransientFailure
from canonical.facts.stock import StockCounted, StockStatus
from canonical.identity import TwinRef
from canonical.translation import Connection, Inbound
from ops.translators import TRANSLATORS
from twins.core.reconcile.snapshot import ShelfRow, Snapshot

TIMEOUT_S = 60.0


def read_snapshot(stock: bytes | None, orders: bytes | None, whole: bool = True) -> Snapshot:
    """Raises: RejectedMessage naming line and field."""
    return Snapshot(
        None if stock is None else read_shelves(stock), None if orders is None else read_orders(orders), whole
    )


def read_shelves(body: bytes) -> dict[TwinRef, dict[StockStatus, ShelfRow]]:
    """Raises: RejectedMessage naming line, field or segment."""
    if not body.startswith(b"ISA"):
        return read_stock(body)
    found: dict[TwinRef, dict[StockStatus, ShelfRow]] = {}
    for event in TRANSLATORS["x12"](Inbound(body), Connection("x12", "snapshot")).events:
        if isinstance(event.fact, StockCounted):
            row = ShelfRow(event.fact.quantity, event.time)
            found.setdefault(event.subject, {})[event.fact.status] = row
    if not found:
        raise RejectedMessage("no 846 in this interchange")
    return found


def fetch(place: str) -> bytes:
    """Read a file or an http(s) address. Raises: RejectedMessage: no such file; TransientFailure."""
    if not place.startswith(("http://", "https://")):
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise RejectedMessage(str(error), field=place) from error
    try:
        answer = httpx.get(place, timeout=TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        raise TransientFailure(f"{place}: {error!r}") from error
    if answer.is_error:
        raise TransientFailure(f"{place} answered {answer.status_code}")
    return answer.content
