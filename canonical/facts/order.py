"""Facts about an order, its payment and its returns."""

from __future__ import annotations

from enum import StrEnum

from canonical.facts.base import Fact, Part, Rank, closed
from canonical.identity import Kind
from canonical.money import ZERO
from canonical.types import Amount, Currency, Identifier, Moment, Quantity, Text, Whole

_ORDER = frozenset({Kind.ORDER})
_ORDER_OR_RETURN = frozenset({Kind.ORDER, Kind.RETURN})


@closed
class OrderLine(Part):
    """One line. *discount* and *tax* are for the whole line; *unit_price* is before both."""

    line_id: Identifier
    sku: Identifier
    quantity: Quantity
    unit: Identifier = "EA"
    unit_price: Amount
    discount: Amount = ZERO
    tax: Amount = ZERO
    title: Text | None = None


def _distinct(lines: tuple[OrderLine, ...]) -> None:
    seen: set[str] = set()
    for line in lines:
        if line.line_id in seen:
            raise ValueError(f"line {line.line_id!r} appears twice")
        seen.add(line.line_id)


@closed
class OrderPlaced(Fact):
    """The customer placed the order. Origin of an order twin."""

    TYPE = "io.twinsync.order.placed.v1"
    KINDS = _ORDER
    RANK = Rank.ORIGIN

    customer_id: Identifier | None = None
    currency: Currency
    lines: tuple[OrderLine, ...]
    freight: Amount = ZERO
    """Charged to the customer for the whole order, before tax."""
    freight_tax: Amount = ZERO
    company: Identifier = "main"
    """Legal entity that sells; chooses the ERP instance."""
    channel: Identifier | None = None
    reference: Text | None = None
    """What people call it: a purchase order number, ``#1001``."""
    promised_by: Moment | None = None

    def __post_init__(self) -> None:
        _distinct(self.lines)


@closed
class OrderAmended(Fact):
    """The order's lines are now these. The highest revision wins, whenever it arrives."""

    TYPE = "io.twinsync.order.amended.v1"
    KINDS = _ORDER
    RANK = Rank.AMENDMENT

    revision: Whole
    lines: tuple[OrderLine, ...]
    freight: Amount | None = None
    freight_tax: Amount | None = None

    def __post_init__(self) -> None:
        _distinct(self.lines)


@closed
class OrderValidated(Fact):
    """The OMS checked the order (fraud, address, credit) and lets it go on."""

    TYPE = "io.twinsync.order.validated.v1"
    KINDS = _ORDER
    RANK = Rank.CHECK


@closed
class OrderHeld(Fact):
    TYPE = "io.twinsync.order.held.v1"
    KINDS = _ORDER
    RANK = Rank.HOLD

    hold_id: Identifier
    reason: Text


@closed
class OrderHoldReleased(Fact):
    TYPE = "io.twinsync.order.hold-released.v1"
    KINDS = _ORDER
    RANK = Rank.HOLD_END

    hold_id: Identifier


@closed
class OrderAllocated(Fact):
    """Quantity of a line now allocated at a location. A later one for the same pair replaces it."""

    TYPE = "io.twinsync.order.allocated.v1"
    KINDS = _ORDER
    RANK = Rank.ALLOCATION

    line_id: Identifier
    location: Identifier
    quantity: Quantity


@closed
class ReleasedLine(Part):
    line_id: Identifier
    quantity: Quantity


@closed
class OrderReleased(Fact):
    """Lines were handed to a warehouse to be picked."""

    TYPE = "io.twinsync.order.released.v1"
    KINDS = _ORDER
    RANK = Rank.RELEASE

    release_id: Identifier
    location: Identifier
    lines: tuple[ReleasedLine, ...]


@closed
class CancelledLine(Part):
    line_id: Identifier
    quantity: Quantity


@closed
class OrderCancelRequested(Fact):
    """Someone asked for a cancel after release: the warehouse must answer. No lines: the whole order."""

    TYPE = "io.twinsync.order.cancel-requested.v1"
    KINDS = _ORDER
    RANK = Rank.CANCEL_REQUEST

    request_id: Identifier
    lines: tuple[CancelledLine, ...] | None = None
    reason: Text | None = None


@closed
class OrderCancelAccepted(Fact):
    TYPE = "io.twinsync.order.cancel-accepted.v1"
    KINDS = _ORDER
    RANK = Rank.CANCEL_ANSWER

    request_id: Identifier


@closed
class OrderCancelRejected(Fact):
    TYPE = "io.twinsync.order.cancel-rejected.v1"
    KINDS = _ORDER
    RANK = Rank.CANCEL_ANSWER

    request_id: Identifier
    reason: Text | None = None


@closed
class OrderCancelled(Fact):
    """Quantities are cancelled without asking anyone. No lines: all that has not shipped.

    A request with the same id is another cancel: its outcome is its answer.
    """

    TYPE = "io.twinsync.order.cancelled.v1"
    KINDS = _ORDER
    RANK = Rank.CANCEL

    cancel_id: Identifier
    lines: tuple[CancelledLine, ...] | None = None
    reason: Text | None = None


@closed
class PaymentAuthorized(Fact):
    TYPE = "io.twinsync.order.payment-authorized.v1"
    KINDS = _ORDER
    RANK = Rank.PAYMENT

    payment_id: Identifier
    amount: Amount
    currency: Currency
    provider: Identifier | None = None


@closed
class PaymentCaptured(Fact):
    """Money came in. *payment_id* is the provider's, and the business identity of the posting."""

    TYPE = "io.twinsync.order.payment-captured.v1"
    KINDS = _ORDER
    RANK = Rank.CAPTURE

    payment_id: Identifier
    amount: Amount
    currency: Currency
    provider: Identifier | None = None


@closed
class RefundIssued(Fact):
    """Money went back. It restocks nothing and credits nothing: returns do."""

    TYPE = "io.twinsync.order.refund-issued.v1"
    KINDS = _ORDER
    RANK = Rank.REFUND

    refund_id: Identifier
    amount: Amount
    currency: Currency
    provider: Identifier | None = None
    reason: Text | None = None


class Disposition(StrEnum):
    """What inspection decided about returned goods."""

    SELLABLE = "sellable"
    QUARANTINE = "quarantine"
    DAMAGED = "damaged"
    SCRAP = "scrap"
    REJECTED = "rejected"
    """Not accepted: sent back to the customer, neither credited nor stocked."""


@closed
class ReturnLine(Part):
    line_id: Identifier
    quantity: Quantity
    reason: Text | None = None


@closed
class InspectedLine(Part):
    line_id: Identifier
    quantity: Quantity
    disposition: Disposition
    location: Identifier
    """Where the goods are now."""


@closed
class ReturnRequested(Fact):
    """The customer wants to send goods back. Binds *return_id* (the RMA number) to the order."""

    TYPE = "io.twinsync.order.return-requested.v1"
    KINDS = _ORDER
    RANK = Rank.RETURN_REQUEST

    return_id: Identifier
    lines: tuple[ReturnLine, ...]


@closed
class ReturnApproved(Fact):
    TYPE = "io.twinsync.order.return-approved.v1"
    KINDS = _ORDER_OR_RETURN
    RANK = Rank.RETURN_ANSWER

    return_id: Identifier


@closed
class ReturnDeclined(Fact):
    TYPE = "io.twinsync.order.return-declined.v1"
    KINDS = _ORDER_OR_RETURN
    RANK = Rank.RETURN_ANSWER

    return_id: Identifier
    reason: Text | None = None


@closed
class ReturnReceived(Fact):
    """Goods arrived at the dock, not yet looked at. One receipt told by two sources counts once."""

    TYPE = "io.twinsync.order.return-received.v1"
    KINDS = _ORDER_OR_RETURN
    RANK = Rank.RETURN_RECEIPT

    return_id: Identifier
    receipt_id: Identifier | None = None
    """The dock's document; None: each telling is a receipt of its own."""
    lines: tuple[ReturnLine, ...]


@closed
class ReturnInspected(Fact):
    """Quantities per disposition. Each inspection adds to those before it."""

    TYPE = "io.twinsync.order.return-inspected.v1"
    KINDS = _ORDER_OR_RETURN
    RANK = Rank.RETURN_INSPECTION

    return_id: Identifier
    inspection_id: Identifier
    lines: tuple[InspectedLine, ...]


@closed
class ReturnClosed(Fact):
    TYPE = "io.twinsync.order.return-closed.v1"
    KINDS = _ORDER_OR_RETURN
    RANK = Rank.RETURN_END

    return_id: Identifier
