"""What the twins need of the outside world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from canonical.envelope import Event
from canonical.identity import Kind, PostingKey, TwinRef
from canonical.postings import Account, Action, Command
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.dispatch import QueuedCommand
from twins.core.gaps import Gap, Watch
from twins.core.history import Arrival
from twins.core.ledger import Status
from twins.core.twin import Stored


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ERP holds the document."""

    document: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The ERP will not take it, and will not if asked again: a person must look."""

    reason: str


Answer = Confirmed | Refused


class ErpConnector(Protocol):
    """One ERP instance. A command is told once; after a time-out it is looked up before it is told again."""

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Answer | None:
        """Send one command. None: taken, and the answer will come as an event.

        Raises: TransientFailure where it is not known whether the ERP took it.
        """
        ...

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        """Find the document made for a command. Raises: TransientFailure."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HeldDocument:
    """A document as an ERP instance holds it."""

    document: str
    posting_key: PostingKey
    version: int
    action: Action
    live: bool
    """It stands: a posting that nothing has reversed. A reversal never is live."""
    amounts: Mapping[Account, Decimal]
    """Debit less credit by role of account; accounts that net to zero are left out."""


@dataclass(frozen=True, slots=True)
class Balance:
    debit: Decimal
    credit: Decimal


class ErpBooks(Protocol):
    """What an ERP instance says it holds, for whoever compares. All raise TransientFailure."""

    def documents(self) -> AsyncIterator[HeldDocument]:
        """All that were made for our keys, reversals too, in the order of posting."""
        ...

    async def stock(self) -> Mapping[tuple[str, str], Decimal]:
        """(SKU, location) → quantity on hand, where the ERP keeps stock; else empty."""
        ...

    async def balances(self) -> Mapping[Account, Balance]:
        """Cumulated debits and credits by role of account."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Publication:
    """A message on its way to the twins: the body and headers of a CloudEvent in either form."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None


class Publisher(Protocol):
    """The way in. When `publish` returns, nothing of it can be lost any more."""

    async def publish(self, messages: Sequence[Publication]) -> None:
        """Raises: TransientFailure, with any part of *messages* possibly taken (repetition is harmless)."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """The message is committed. *arrival* says whether it told anything new."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never be taken; it belongs among the dead letters, with this reason."""

    reason: str
    field: str = ""


Verdict = Taken | Rejected


class Intake(Protocol):
    """Where deliveries end: when `take` returns, every taken message is committed."""

    async def take(self, messages: Sequence[Publication]) -> list[Verdict]:
        """Shape: one verdict a message, in order. Raises: TransientFailure, Overloaded: deliver all again."""
        ...


class DeadLetters(Protocol):
    async def keep(self, letters: Sequence[tuple[Publication, Rejected]]) -> None:
        """Store refused messages with their reasons, durably. Raises: TransientFailure."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """An event as history shows it: with when it was committed, and whether it came late."""

    event: Event
    arrival: Arrival
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class TwinRow:
    """A line of a list."""

    ref: TwinRef
    status: str
    version: int
    customer_id: str | None
    sku: str | None
    location: str | None
    findings: tuple[str, ...]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class TwinFilter:
    """What a list shows; None: whatever it is. *after*: the last twin of the page before."""

    kind: Kind
    status: str | None = None
    customer_id: str | None = None
    sku: str | None = None
    location: str | None = None
    finding: str | None = None
    """Code of a finding; empty: any."""
    after: str | None = None


class TwinStore(Protocol):
    """Where twins are kept. One commit is one transaction, and stands only for the newest epoch of a host."""

    async def claim(self, host: str) -> int:
        """Take the next epoch of a host; whoever held the one before can commit no more."""
        ...

    async def load(self, refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        """Shape: an entry for each ref; version 0 for a twin that nobody has heard of.

        *whole*: all events, even where a checkpoint stands for some of them.
        """
        ...

    async def known(self, told: Collection[Event]) -> set[TwinRef]:
        """Twins of those events whose ids are stored already."""
        ...

    async def commit(
        self, host: str, epoch: int, effects: Effects, delivered: Sequence[Contribution]
    ) -> None:
        """Write a batch; *delivered*: mail of other hosts that it took in.

        Raises: Fenced where the epoch has passed; TransientFailure where the database is away.
        """
        ...

    async def mail(self, limit: int) -> list[Contribution]:
        """Contributions that wait for twins of other hosts."""
        ...

    async def due(self, now: datetime, limit: int) -> list[TwinRow]:
        """Twins with a finding whose deadline has passed."""
        ...

    async def raised(self, refs: Sequence[TwinRef], now: datetime) -> None:
        """Note that the deadlines of these twins up to *now* have been reported."""
        ...

    async def history(self, ref: TwinRef) -> list[Told]:
        """In the order of commits."""
        ...

    async def rows(self, wanted: TwinFilter, limit: int) -> list[TwinRow]:
        """Ascending by twin."""
        ...

    async def close(self) -> None: ...


class InquiryStore(Protocol):
    """What questions about the past, and about what might come, need of storage."""

    async def load(self, refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]: ...

    async def told(self, refs: Collection[TwinRef]) -> list[Told]:
        """Everything that was ever told of any of them, in the order of commits."""
        ...

    async def told_count(self, refs: Collection[TwinRef]) -> int: ...

    async def told_last(self, ref: TwinRef, limit: int) -> list[Told]:
        """The last to have happened, ascending."""
        ...

    async def neighbours(self, refs: Collection[TwinRef]) -> set[TwinRef]:
        """Twins that ever had a word for one of them."""
        ...


class Backfill(Protocol):
    """The way back to sources: whoever speaks for one tells again what is missing, by the usual way in."""

    async def ask(self, gap: Gap) -> bool:
        """False where nobody speaks for the source. Raises: TransientFailure."""
        ...


class GapStore(Protocol):
    """What is missing between the numbers that sources have told."""

    async def find_gaps(self) -> list[Gap]:
        """By source and number, the first thousand of each source."""
        ...

    async def watches(self) -> list[Watch]: ...

    async def watch(self, kept: Sequence[Watch], closed: Sequence[Watch]) -> None: ...


class CommandQueue(Protocol):
    """Commands that twins have committed for one ERP, in the order of their commits."""

    async def queued(self, erp: str, limit: int) -> list[QueuedCommand]: ...

    async def statuses(self, keys: Collection[PostingKey]) -> dict[tuple[PostingKey, int], Status]:
        """Every version of each key, with its status in the ledger."""
        ...

    async def under(self, prefix: str) -> dict[tuple[PostingKey, int], Status]:
        """The same for all keys that begin with *prefix*, which ends in a slash."""
        ...

    async def claim(self, host: str) -> int:
        """Take the next epoch of a gateway; whoever held the one before can send no more."""
        ...

    async def sending(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        """Note, durably and before anything is sent, that these may reach the ERP. Raises: Fenced."""
        ...

    async def finished(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        """Take commands off the queue, after their replies are committed. Raises: Fenced."""
        ...


class Consumer(Protocol):
    """Feeds an intake from a broker until stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
