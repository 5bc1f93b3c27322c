"""What the ERP is told, what it keeps, and what it answers. Amounts are strings in JSON, never floats."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from canonical.identity import PostingKey
from canonical.money import ZERO
from canonical.postings import Account, Action, Entry, Posting

DEFAULT_COMPANY = "main"
_CLOSED = ConfigDict(extra="forbid")

PostingField = Annotated[Posting, Field(discriminator="command")]
UnitCost = Annotated[Decimal, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Instruction:
    """Body of ``POST /documents``. Without a *posting_date* it is posted on the posting's event date."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    idempotency_key: Annotated[str, Field(min_length=1)]
    action: Action
    version: int
    posting: PostingField
    posting_date: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A posted document. Its *entries* never change; a reversal is a document of its own."""

    number: str
    idempotency_key: str
    action: Action
    version: int
    posting: PostingField
    posting_date: date
    entries: tuple[Entry, ...]
    reverses: str | None = None
    """Number of the document that this one mirrors."""
    reversed_by: str | None = None

    @property
    def posting_key(self) -> PostingKey:
        return self.posting.key

    @property
    def live(self) -> bool:
        return self.action is Action.POST and self.reversed_by is None


@dataclass(frozen=True, slots=True)
class Page:
    """*following*: what to ask for as ``after`` to get the next page; None: this was the last."""

    documents: tuple[Document, ...]
    following: str | None


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """Totals of one account. Amounts of different currencies or companies are never added up."""

    company: str
    currency: str
    account: Account
    debit: Decimal
    credit: Decimal


@dataclass(frozen=True, slots=True)
class TrialBalance:
    rows: tuple[BalanceRow, ...]

    @property
    def in_balance(self) -> bool:
        """Debits equal credits within each company and currency."""
        net: dict[tuple[str, str], Decimal] = {}
        for row in self.rows:
            place = row.company, row.currency
            net[place] = net.get(place, ZERO) + row.debit - row.credit
        return not any(net.values())

    def of(self, account: Account) -> tuple[Decimal, Decimal]:
        """Debit and credit of an account; for books that are kept in one company and currency."""
        rows = [row for row in self.rows if row.account is account]
        return sum((row.debit for row in rows), ZERO), sum((row.credit for row in rows), ZERO)


@dataclass(frozen=True, slots=True)
class LiveDocuments:
    """How many documents stand, unreversed.

    *not_one*: posting keys with another count than one. Zero is a posting that was reversed for good; two
    or more is a posting that was made twice.
    """

    total: int
    not_one: dict[PostingKey, int]

    @property
    def doubled(self) -> dict[PostingKey, int]:
        return {key: count for key, count in self.not_one.items() if count > 1}


@dataclass(frozen=True, slots=True)
class StandardCosts:
    """Body of ``POST /standard-costs``: SKU → cost of one base unit. Merged into what is known."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    costs: dict[str, UnitCost]
    kind: Literal["standard-costs"] = "standard-costs"


@dataclass(frozen=True, slots=True)
class PeriodClosing:
    """Body of ``POST /periods``: nothing may be posted through this day. An earlier day reopens."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    closed_through: date
    company: str = DEFAULT_COMPANY
    kind: Literal["period-closing"] = "period-closing"


@dataclass(frozen=True, slots=True)
class Entered:
    document: Document
    kind: Literal["document"] = "document"


@dataclass(frozen=True, slots=True)
class Erased:
    """Everything is forgotten, as if the ERP were new."""

    kind: Literal["erased"] = "erased"


@dataclass(frozen=True, slots=True)
class StockOpened:
    """Body of ``POST /stock``: SKU → location → quantity that its own purchases brought. Merged."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    quantities: dict[str, dict[str, Decimal]]
    kind: Literal["stock-opened"] = "stock-opened"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Somebody deleted a document."""

    number: str
    kind: Literal["dropped"] = "dropped"


@dataclass(frozen=True, slots=True)
class Copied:
    """Somebody posted a document a second time."""

    number: str
    kind: Literal["copied"] = "copied"


@dataclass(frozen=True, slots=True)
class Rescaled:
    """Somebody changed all amounts of a document."""

    number: str
    factor: Decimal
    kind: Literal["rescaled"] = "rescaled"


@dataclass(frozen=True, slots=True)
class Journalled:
    """Somebody entered amounts that belong to no document of ours."""

    entries: tuple[Entry, ...]
    company: str = DEFAULT_COMPANY
    currency: str = "USD"
    kind: Literal["journalled"] = "journalled"


Tampering = Dropped | Copied | Rescaled | Journalled
"""Body of ``POST /tampering``."""

Change = Entered | StandardCosts | PeriodClosing | Erased | StockOpened | Tampering
"""Whatever alters the books, and a line of the journal."""


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """How the ERP misbehaves when it is told something; the three rates share one draw a request."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    seed: int = 0
    latency_s: Annotated[float, Field(ge=0)] = 0.0
    fail_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Answers 503 and has posted nothing."""
    timeout_after_posting_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Posts, hangs for *hang_s*, and drops the connection without an answer."""
    forget_reply_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Posts, and answers 500."""
    hang_s: Annotated[float, Field(ge=0)] = 0.0
    refuse_keys: frozenset[str] = field(default_factory=frozenset)
    """Posting keys that are refused whatever is asked about them."""


@dataclass(frozen=True, slots=True)
class ReversalByHand:
    """Body of ``POST /documents/{number}/reversal``: reverse this very document, whatever its posting key."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    idempotency_key: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class FaultReport:
    settings: FaultSettings
    dealt: dict[str, int]
    """Fault → how often it has struck since the settings were made."""


INSTRUCTION: TypeAdapter[Instruction] = TypeAdapter(Instruction)
DOCUMENT: TypeAdapter[Document] = TypeAdapter(Document)
PAGE: TypeAdapter[Page] = TypeAdapter(Page)
TRIAL_BALANCE: TypeAdapter[TrialBalance] = TypeAdapter(TrialBalance)
LIVE_DOCUMENTS: TypeAdapter[LiveDocuments] = TypeAdapter(LiveDocuments)
STANDARD_COSTS: TypeAdapter[StandardCosts] = TypeAdapter(StandardCosts)
PERIOD_CLOSING: TypeAdapter[PeriodClosing] = TypeAdapter(PeriodClosing)
REVERSAL_BY_HAND: TypeAdapter[ReversalByHand] = TypeAdapter(ReversalByHand)
STOCK_OPENED: TypeAdapter[StockOpened] = TypeAdapter(StockOpened)
TAMPERING: TypeAdapter[Tampering] = TypeAdapter(Annotated[Tampering, Field(discriminator="kind")])
STOCK: TypeAdapter[dict[str, dict[str, Decimal]]] = TypeAdapter(dict[str, dict[str, Decimal]])
FAULT_SETTINGS: TypeAdapter[FaultSettings] = TypeAdapter(FaultSettings)
FAULT_REPORT: TypeAdapter[FaultReport] = TypeAdapter(FaultReport)
CHANGE: TypeAdapter[Change] = TypeAdapter(Annotated[Change, Field(discriminator="kind")])
