"""A WMS's stock: ``sku,location,status,quantity,as_of``.

*status* is ours (sellable where it is left out); lots of one SKU, location and status are added up.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from adapters.snapshots.rows import dated, read_rows, valid
from canonical.facts.stock import StockStatus
from canonical.identity import TwinRef, stock
from canonical.types import Delta, Identifier, Moment
from twins.core.reconcile.snapshot import ShelfRow


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sku: Identifier
    location: Identifier
    status: StockStatus = StockStatus.SELLABLE
    quantity: Delta
    as_of: Moment | None = None


def read_stock(body: bytes) -> dict[TwinRef, dict[StockStatus, ShelfRow]]:
    """Raises: RejectedMessage naming line and field, with nothing read."""
    found: dict[TwinRef, dict[StockStatus, ShelfRow]] = {}
    for where, fields in read_rows(body, "stock"):
        row = valid(_Row, where, fields)
        rows = found.setdefault(stock(row.sku, row.location), {})
        as_of, known = dated(where, row.as_of), rows.get(row.status)
        rows[row.status] = (
            ShelfRow(row.quantity, as_of)
            if known is None
            else ShelfRow(known.quantity + row.quantity, max(known.as_of, as_of))
        )
    return found
