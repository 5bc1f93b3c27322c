"""Snapshots of an OMS and a WMS, as CSV and JSON: read whole, or refused by line and field."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from adapters.snapshots.orders import read_orders
from adapters.snapshots.stock import read_stock
from canonical.errors import RejectedMessage
from canonical.facts.stock import StockStatus
from canonical.identity import order, stock
from twins.core.reconcile.snapshot import LineRow, OrderRow, ShelfRow

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        b"sku,location,status,quantity,as_of\nA,DC,,3,2026-03-02T12:00:00Z\nA,DC,sellable,4,2026-03-02T12:00:00Z\n",
        b'{"as_of": "2026-03-02T12:00:00Z", "stock": [{"sku": "A", "location": "DC", "quantity": "7"}]}',
    ],
    ids=["csv", "json"],
)
def test_stock_is_read_by_shelf_and_status(body: bytes) -> None:
    assert read_stock(body) == {stock("A", "DC"): {StockStatus.SELLABLE: ShelfRow(Decimal(7), NOON)}}


@pytest.mark.parametrize(
    "body",
    [
        b"order_id,status,total,line_id,sku,shipped,as_of\n"
        b"1,shipped,9.50,1,A,2,2026-03-02T12:00:00Z\n1,shipped,9.50,2,B,,2026-03-02T12:00:00Z\n",
        b'[{"order_id": "1", "status": "shipped", "total": "9.5", "as_of": "2026-03-02T12:00:00Z",'
        b'"lines": [{"line_id": "1", "sku": "A", "shipped": "2"}, {"line_id": "2", "sku": "B"}]}]',
    ],
    ids=["csv", "json"],
)
def test_orders_are_read_with_their_lines(body: bytes) -> None:
    lines = {"1": LineRow("A", {"shipped": Decimal(2)}), "2": LineRow("B", {})}
    assert read_orders(body) == {order("1"): OrderRow(NOON, "shipped", Decimal("9.5"), lines)}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (
            b"sku,location,quantity,as_of\nA,DC,3,2026-03-02T12:00:00Z\nB,DC,many,2026-03-02T12:00:00Z",
            "line 3, quantity",
        ),
        (b"sku,location,quantity\nA,DC,3", "line 2, as_of"),
        (b"sku,location,quantity,as_of\nA,DC,3", "line 2"),
        (b"sku,location,quantity,as_of\nA,DC,3,2026-03-02T12:00:00", "line 2, as_of"),
        (b"sku,location,quantity,colour,as_of\nA,DC,3,red,2026-03-02T12:00:00Z", "line 2, colour"),
        (b'{"stock": {}}', "stock"),
        (b'{"stock": [7]}', "stock.0"),
    ],
)
def test_a_malformed_row_refuses_the_whole_file_by_line_and_field(body: bytes, field: str) -> None:
    with pytest.raises(RejectedMessage) as refused:
        read_stock(body)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"order_id,line_id,shipped,as_of\n1,,2,2026-03-02T12:00:00Z", "line 2, line_id"),
        (b"order_id,status,as_of\n1,a,2026-03-02T12:00:00Z\n1,b,2026-03-02T12:00:00Z", "line 3, status"),
    ],
)
def test_an_order_that_contradicts_itself_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(RejectedMessage) as refused:
        read_orders(body)
    assert refused.value.field == field
