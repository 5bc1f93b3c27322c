"""Facts about the stock of one SKU at one location."""

from __future__ import annotations

from enum import StrEnum

from canonical.facts.base import Fact, Rank, closed
from canonical.identity import Kind
from canonical.types import Amount, Delta, Identifier, Moment, Quantity, Text

_STOCK = frozenset({Kind.STOCK})


class StockStatus(StrEnum):
    SELLABLE = "sellable"
    QUARANTINE = "quarantine"
    DAMAGED = "damaged"


@closed
class StockReceived(Fact):
    """Goods came in from a supplier. The ERP learns of purchases on its own side."""

    TYPE = "io.twinsync.stock.received.v1"
    KINDS = _STOCK
    RANK = Rank.ORIGIN

    receipt_id: Identifier
    quantity: Quantity
    status: StockStatus = StockStatus.SELLABLE
    unit_cost: Amount | None = None


@closed
class StockAdjusted(Fact):
    TYPE = "io.twinsync.stock.adjusted.v1"
    KINDS = _STOCK
    RANK = Rank.AMENDMENT

    adjustment_id: Identifier
    delta: Delta
    status: StockStatus = StockStatus.SELLABLE
    reason: Text | None = None


@closed
class StockCounted(Fact):
    """So many were there at that moment: it overrules every movement before it."""

    TYPE = "io.twinsync.stock.counted.v1"
    KINDS = _STOCK
    RANK = Rank.COUNT

    count_id: Identifier
    quantity: Quantity
    status: StockStatus = StockStatus.SELLABLE
    opening: bool = False
    """An opening balance: the ERP has it already, so no variance is posted."""


@closed
class TransferredOut(Fact):
    TYPE = "io.twinsync.stock.transferred-out.v1"
    KINDS = _STOCK
    RANK = Rank.DISPATCH

    transfer_id: Identifier
    to_location: Identifier
    quantity: Quantity


@closed
class TransferredIn(Fact):
    TYPE = "io.twinsync.stock.transferred-in.v1"
    KINDS = _STOCK
    RANK = Rank.RETURN_RECEIPT

    transfer_id: Identifier
    from_location: Identifier
    quantity: Quantity


@closed
class StockStatusChanged(Fact):
    TYPE = "io.twinsync.stock.status-changed.v1"
    KINDS = _STOCK
    RANK = Rank.CHECK

    change_id: Identifier
    quantity: Quantity
    from_status: StockStatus
    to_status: StockStatus


@closed
class SafetyStockSet(Fact):
    TYPE = "io.twinsync.stock.safety-stock-set.v1"
    KINDS = _STOCK
    RANK = Rank.MASTER

    quantity: Quantity


@closed
class InboundExpected(Fact):
    """A supplier or sister warehouse will deliver. The latest word on an *inbound_id* counts; 0 ends it."""

    TYPE = "io.twinsync.stock.inbound-expected.v1"
    KINDS = _STOCK
    RANK = Rank.ALLOCATION

    inbound_id: Identifier
    quantity: Quantity
    due: Moment
