"""Webhooks as Shopify's shops send them (Admin REST resources, as JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from ops.demo.goods import CURRENCY, TAX_RATE, Parcel, SoldLine, SoldOrder

CARRIER = "UPS"


def order_body(
    order: SoldOrder,
    updated_at: datetime,
    *,
    removed: Mapping[str, int] | None = None,
    cancelled_at: datetime | None = None,
) -> bytes:
    """The whole order as it stands. *removed*: line → pieces that were edited away."""
    return _json(
        {
            "id": int(order.order_id),
            "admin_graphql_api_id": f"gid://shopify/Order/{order.order_id}",
            "name": f"#{order.number}",
            "created_at": order.placed_at.isoformat(),
            "updated_at": updated_at.isoformat(),
            "cancelled_at": cancelled_at.isoformat() if cancelled_at else None,
            "cancel_reason": "customer" if cancelled_at else None,
            "currency": CURRENCY,
            "taxes_included": False,
            "financial_status": "voided" if cancelled_at else "authorized",
            "source_name": "web",
            "total_price": str(order.total),
            "customer": {"id": int(order.customer_id)},
            "line_items": [_line_item(line, (removed or {}).get(line.line_id, 0)) for line in order.lines],
            "shipping_lines": [{"title": "Ground", "price": str(order.freight), "tax_lines": []}],
            "refunds": [],
        }
    )


def _line_item(line: SoldLine, removed: int) -> dict[str, Any]:
    return {
        "id": int(line.line_id),
        "sku": line.sku,
        "title": f"Article {line.sku}",
        "quantity": line.quantity,
        "current_quantity": line.quantity - removed,
        "price": str(line.unit_price),
        "tax_lines": [{"title": "Sales tax", "rate": float(TAX_RATE), "price": str(line.tax)}],
        "discount_allocations": [],
        "fulfillment_status": None,
    }


def transaction_body(
    transaction_id: str, order: SoldOrder, kind: str, amount: Decimal, created_at: datetime
) -> bytes:
    return _json(_transaction(transaction_id, order, kind, amount, created_at))


def _transaction(
    transaction_id: str, order: SoldOrder, kind: str, amount: Decimal, created_at: datetime
) -> dict[str, Any]:
    return {
        "id": int(transaction_id),
        "order_id": int(order.order_id),
        "kind": kind,
        "gateway": "shopify_payments",
        "status": "success",
        "amount": str(amount),
        "currency": CURRENCY,
        "created_at": created_at.isoformat(),
    }


def refund_body(
    refund_id: str,
    order: SoldOrder,
    lines: Sequence[tuple[SoldLine, int]],
    amount: Decimal,
    created_at: datetime,
) -> bytes:
    """Money for goods that came back; that they came back, the warehouse says."""
    return _json(
        {
            "id": int(refund_id),
            "order_id": int(order.order_id),
            "created_at": created_at.isoformat(),
            "note": "return",
            "refund_line_items": [
                {"line_item_id": int(line.line_id), "quantity": quantity, "restock_type": "return"}
                for line, quantity in lines
            ],
            "transactions": [_transaction(f"{refund_id}1", order, "refund", amount, created_at)],
        }
    )


def return_body(
    return_id: str, order: SoldOrder, lines: Sequence[tuple[SoldLine, int]], status: str
) -> bytes:
    return _json(
        {
            "id": int(return_id),
            "name": f"#{order.number}-R",
            "status": status,
            "order": {"id": int(order.order_id)},
            "return_line_items": [
                {
                    "quantity": quantity,
                    "return_reason": "unwanted",
                    "fulfillment_line_item": {"line_item": {"id": int(line.line_id)}},
                }
                for line, quantity in lines
            ],
        }
    )


def fulfillment_body(parcel: Parcel, status: str, updated_at: datetime) -> bytes:
    return _json(
        {
            "id": int(parcel.shipment_id),
            "order_id": int(parcel.order_id),
            "status": status,
            "created_at": parcel.left_at.isoformat(),
            "updated_at": updated_at.isoformat(),
            "location_id": parcel.location,
            "tracking_company": CARRIER,
            "tracking_number": parcel.tracking_number,
            "tracking_numbers": [parcel.tracking_number],
            "line_items": [
                {"id": int(pick.line.line_id), "sku": pick.sku, "quantity": pick.taken}
                for pick in parcel.taken
            ],
        }
    )


def customer_body(customer_id: str, first: str, last: str, updated_at: datetime) -> bytes:
    return _json(
        {
            "id": int(customer_id),
            "first_name": first,
            "last_name": last,
            "updated_at": updated_at.isoformat(),
            "default_address": {"country_code": "US"},
        }
    )


def _json(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()
