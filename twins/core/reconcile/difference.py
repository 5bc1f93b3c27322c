"""What a comparison finds, and the corrections that it proposes. Both are stored as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from canonical.envelope import Event
from canonical.facts.erp import PostingConfirmed, PostingLost
from canonical.facts.stock import StockCounted, StockStatus
from canonical.identity import PostingKey, stock, twin_ref
from canonical.postings import Account

SOURCE = "/reconcile"
"""Of every event that a correction publishes."""


class Kind(StrEnum):
    DOCUMENT_MISSING = "document-missing"
    """Confirmed, and gone from the ERP."""
    REVERSED_ELSEWHERE = "reversed-elsewhere"
    DOCUMENT_ORPHANED = "document-orphaned"
    """Live in the ERP, and not with us."""
    DOCUMENT_DOUBLED = "document-doubled"
    AMOUNTS_DIFFER = "amounts-differ"
    DOCUMENT_NUMBER_DIFFERS = "document-number-differs"
    CONFIRMATION_LOST = "confirmation-lost"
    """Done in the ERP, and long waited for here."""
    BALANCE_DIFFERS = "balance-differs"
    """By more than the ERP's own documents explain."""
    STOCK_DIFFERS = "stock-differs"
    ORDER_MISSING = "order-missing"
    """The OMS has it, and we do not."""
    ORDER_UNKNOWN = "order-unknown"
    """We have it, and the OMS does not."""
    ORDER_DIFFERS = "order-differs"


# --- corrections -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reverse:
    """Mirror one document in the ERP."""

    erp: str
    document: str
    step: Literal["reverse"] = "reverse"

    @property
    def idempotency_key(self) -> str:
        return f"reconcile/{self.document}/reverse"


@dataclass(frozen=True, slots=True)
class Resend:
    """Note that the ERP has lost a version of a posting: what is still desired is posted anew."""

    erp: str
    owner: str
    posting_key: PostingKey
    version: int
    reason: str
    step: Literal["resend"] = "resend"

    def event(self, now: datetime) -> Event:
        fact = PostingLost(posting_key=self.posting_key, version=self.version, reason=self.reason)
        return Event(SOURCE, f"{self.posting_key}@{self.version}/lost", twin_ref(self.owner), now, fact)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Tell the ledger what the ERP has done, as the ERP's own answer would have."""

    owner: str
    posting_key: PostingKey
    version: int
    action: Literal["post", "reverse"]
    document: str
    step: Literal["confirm"] = "confirm"

    def event(self, now: datetime) -> Event:
        fact = PostingConfirmed(
            posting_key=self.posting_key, version=self.version, action=self.action, document=self.document
        )
        name = f"{self.posting_key}@{self.version}/{self.action}/{self.document}"
        return Event(SOURCE, name, twin_ref(self.owner), now, fact)


@dataclass(frozen=True, slots=True)
class Adjust:
    """Count a shelf as somebody else has: the variance is posted to the ERP."""

    sku: str
    location: str
    status: StockStatus
    quantity: Decimal
    as_of: datetime
    step: Literal["adjust"] = "adjust"

    @property
    def owner(self) -> str:
        return str(stock(self.sku, self.location))

    def event(self, now: datetime) -> Event:
        """The count is of the snapshot's moment, whenever it is asked for."""
        count_id = f"reconcile/{self.as_of.isoformat()}/{self.quantity}"
        fact = StockCounted(count_id=count_id, quantity=self.quantity, status=self.status)
        name = f"{self.owner}/{self.status}/{self.as_of.isoformat()}/{self.quantity}"
        return Event(SOURCE, name, twin_ref(self.owner), self.as_of, fact)


@dataclass(frozen=True, slots=True)
class AskSource:
    """Ask a source to tell again what it left out."""

    source: str
    first: int
    last: int
    since: datetime
    step: Literal["ask-source"] = "ask-source"


@dataclass(frozen=True, slots=True)
class Accept:
    """Take what an account holds beside our documents as right: opening balances, other people's business."""

    erp: str
    account: Account
    amount: Decimal
    step: Literal["accept"] = "accept"


Correction = Reverse | Resend | Confirm | Adjust | AskSource | Accept
Corrections = tuple[Annotated[Correction, Field(discriminator="step")], ...]


# --- differences -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two systems tell differently. Equal when found again as it was."""

    kind: Kind
    subject: str
    """A posting key, an account, or a twin."""
    against: str
    """Who says otherwise: ``erp/main``, ``wms``, ``oms``."""
    ours: str
    theirs: str
    cause: str
    corrections: Corrections = ()
    """Step by step; none: only people can mend it."""

    @property
    def id(self) -> str:
        """Stays the same as long as the difference does."""
        said = "\n".join((self.kind, self.subject, self.against, self.ours, self.theirs))
        return sha256(said.encode()).hexdigest()[:10]


DIFFERENCES: TypeAdapter[tuple[Difference, ...]] = TypeAdapter(tuple[Difference, ...])
