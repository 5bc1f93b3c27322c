"""Facts that a carrier tells about one tracking number."""

from __future__ import annotations

from enum import StrEnum

from canonical.facts.base import Fact, Rank, closed
from canonical.identity import Kind
from canonical.types import Amount, Currency, Identifier, Text

_TRACKING = frozenset({Kind.TRACKING})


class Milestone(StrEnum):
    PRE_TRANSIT = "pre-transit"
    IN_TRANSIT = "in-transit"
    OUT_FOR_DELIVERY = "out-for-delivery"
    DELIVERED = "delivered"
    DELAYED = "delayed"
    EXCEPTION = "exception"
    RETURN_TO_SENDER = "return-to-sender"


@closed
class TrackingRegistered(Fact):
    """A carrier or platform says which shipment the number carries."""

    TYPE = "io.twinsync.tracking.registered.v1"
    KINDS = _TRACKING
    RANK = Rank.ORIGIN

    shipment_id: Identifier


@closed
class TrackingScanned(Fact):
    TYPE = "io.twinsync.tracking.scanned.v1"
    KINDS = _TRACKING
    RANK = Rank.SCAN

    milestone: Milestone
    message: Text | None = None
    place: Text | None = None
    signed_by: Text | None = None
    """Proof of delivery."""


@closed
class CarrierBilled(Fact):
    """The carrier's invoice line for this number. *bill_id* is the carrier's invoice number."""

    TYPE = "io.twinsync.tracking.carrier-billed.v1"
    KINDS = _TRACKING
    RANK = Rank.BILL

    bill_id: Identifier
    amount: Amount
    currency: Currency
