"""What goods cost where the posting leaves it to the ERP: its standard cost of the moment of posting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from canonical.money import ZERO, rounded
from canonical.postings import (
    GoodsLine,
    InvoiceLine,
    PostCreditNote,
    PostGoodsIssue,
    Posting,
    PostInvoice,
    PostReturnReceipt,
    PostStockAdjustment,
    PostTransfer,
)

Line = TypeVar("Line", GoodsLine, InvoiceLine)
UnitCosts = Mapping[str, Decimal]
"""SKU → cost of one base unit; a SKU without one costs nothing."""


def valued(posting: Posting, unit_costs: UnitCosts) -> Posting:
    """Fill in every cost that the posting leaves open; a cost that it names is kept.

    Units: the posting's currency, rounded by line to its minor unit.
    """

    def cost(known: Decimal | None, sku: str, quantity: Decimal) -> Decimal:
        standard = unit_costs.get(sku, ZERO)
        return rounded(standard * quantity, posting.currency) if known is None else known

    def line_valued(line: Line) -> Line:
        return replace(line, cost=cost(line.cost, line.sku, line.quantity))

    match posting:
        case PostGoodsIssue():
            return replace(posting, lines=tuple(line_valued(line) for line in posting.lines))
        case PostInvoice():
            return replace(posting, lines=tuple(line_valued(line) for line in posting.lines))
        case PostReturnReceipt(sku=sku):
            goods = tuple(
                replace(part, cost=cost(part.cost, part.sku or sku, part.quantity)) for part in posting.goods
            )
            return replace(posting, goods=goods)
        case PostCreditNote() | PostTransfer():
            return replace(posting, cost=cost(posting.cost, posting.sku, posting.quantity))
        case PostStockAdjustment():
            return replace(posting, cost=cost(posting.cost, posting.sku, posting.delta))
        case _:
            return posting
