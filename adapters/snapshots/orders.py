"""An OMS's orders, a line of the file for each of their lines.

CSV: ``order_id,status,total,line_id,sku,ordered,cancelled,shipped,returned,as_of``; only *order_id* and
*as_of* must be there, and what is left out is not compared. JSON: ``{"as_of": …, "orders": [{"order_id": …,
"status": …, "total": …, "lines": [{"line_id": …, "sku": …, "shipped": …}]}]}``.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from adapters.snapshots.rows import dated, read_rows, valid
from canonical.errors import RejectedMessage
from canonical.identity import TwinRef, order
from canonical.types import Amount, Identifier, Moment, Quantity
from twins.core.reconcile.snapshot import LineRow, OrderRow

_QUANTITIES = ("ordered", "cancelled", "shipped", "returned")


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    line_id: Identifier | None = None
    sku: Identifier | None = None
    ordered: Quantity | None = None
    cancelled: Quantity | None = None
    shipped: Quantity | None = None
    returned: Quantity | None = None


class _Row(_Line):
    order_id: Identifier
    status: Identifier | None = None
    total: Amount | None = None
    lines: tuple[_Line, ...] = ()
    as_of: Moment | None = None


def read_orders(body: bytes) -> dict[TwinRef, OrderRow]:
    """Raises: RejectedMessage naming line and field, with nothing read."""
    found: dict[TwinRef, OrderRow] = {}
    for where, fields in read_rows(body, "orders"):
        row = valid(_Row, where, fields)
        ref = order(row.order_id)
        told = OrderRow(dated(where, row.as_of), row.status, row.total, _lines(where, row))
        found[ref] = _joined(where, found[ref], told) if ref in found else told
    return found


def _lines(where: str, row: _Row) -> dict[str, LineRow]:
    found: dict[str, LineRow] = {}
    for line in (row, *row.lines):
        quantities: dict[str, Decimal] = {
            name: value for name in _QUANTITIES if (value := getattr(line, name)) is not None
        }
        if line.line_id is not None:
            if line.line_id in found:
                raise RejectedMessage(f"line {line.line_id!r} appears twice", field=f"{where}, line_id")
            found[line.line_id] = LineRow(line.sku, quantities)
        elif quantities or line.sku:
            raise RejectedMessage("quantities of which line?", field=f"{where}, line_id")
    return found


def _joined(where: str, known: OrderRow, told: OrderRow) -> OrderRow:
    """Two rows of one order: each says one of its lines, and both the same of its header."""
    if (known.status, known.total) != (told.status, told.total):
        raise RejectedMessage("it says otherwise of the order than the row before", field=f"{where}, status")
    if twice := known.lines.keys() & told.lines.keys():
        raise RejectedMessage(f"line {min(twice)!r} appears twice", field=f"{where}, line_id")
    as_of: datetime = max(known.as_of, told.as_of)
    return OrderRow(as_of, told.status, told.total, {**known.lines, **told.lines})
