"""What goods a posting moves on the ERP's shelves."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from canonical.postings import PostGoodsIssue, Posting, PostReturnReceipt, PostStockAdjustment, PostTransfer

Shelf = tuple[str, str]
"""SKU and location."""


def movements(posting: Posting) -> Iterator[tuple[Shelf, Decimal]]:
    """Signed quantities in base units, of all statuses; what is scrapped stands on no shelf."""
    match posting:
        case PostGoodsIssue(lines=lines):
            yield from (((line.sku, line.location), -line.quantity) for line in lines)
        case PostReturnReceipt(sku=sku, goods=goods):
            shelved = (one for one in goods if one.disposition != "scrap")
            yield from (((one.sku or sku, one.location), one.quantity) for one in shelved)
        case PostStockAdjustment(sku=sku, location=location, delta=delta):
            yield (sku, location), delta
        case PostTransfer(sku=sku, location=location, leg=leg, quantity=quantity):
            yield (sku, location), quantity if leg == "in" else -quantity
        case _:
            return
