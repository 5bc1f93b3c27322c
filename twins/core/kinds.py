"""Every kind of twin and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canonical.identity import Kind
from twins.core import customer, erp, item, order, returned, shipment, stock, tracking
from twins.core.rules import Rules

RULES: Mapping[Kind, Rules[Any, Any, Any]] = {
    Kind.ORDER: order.RULES,
    Kind.STOCK: stock.RULES,
    Kind.SHIPMENT: shipment.RULES,
    Kind.TRACKING: tracking.RULES,
    Kind.RETURN: returned.RULES,
    Kind.CUSTOMER: customer.RULES,
    Kind.ITEM: item.RULES,
    Kind.ERP: erp.RULES,
}
