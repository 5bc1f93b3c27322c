"""What the twins need of the outside world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, Protocol

from canonical.envelope import Event
from canonical.identity import Kind, PostingKey, TwinRef
from canonical.postings import Account, Action, Command, Posting
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.dispatch import QueuedCommand
from twins.core.gaps import Gap, Watch
from twins.core.history import Arrival
from twins.core.ledger import Status
from twins.core.placement import Placement
from twins.core.reconcile.documents import Filed
from twins.core.reconcile.report import Report
from twins.core.shadow import Said, difference, is_open
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

    @property
    def not_kept(self) -> frozenset[str]:
        """Commands that it confirms and makes no document for."""
        ...

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


class ErpCorrections(Protocol):
    """What an ERP instance does when a person asks for it. Both raise TransientFailure."""

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        """Find the document made for a command."""
        ...

    async def reverse(self, document: str, idempotency_key: str) -> Answer:
        """Mirror this very document, once for each idempotency key, whoever made it."""
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

    async def check(self) -> None:
        """Returns when it would take messages. Raises: TransientFailure."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """The message is committed. *arrival* says whether it told anything new."""

    arrival: Arrival


class Fault(StrEnum):
    """Whose a dead letter is."""

    SENDER = "sender"
    TWINSYNC = "twinsync"


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never be taken; it belongs among the dead letters, with this reason."""

    reason: str
    field: str = ""
    fault: Fault = Fault.SENDER


Verdict = Taken | Rejected


class Intake(Protocol):
    """Where deliveries end: when `take` returns, every taken message is committed."""

    def destination(self, message: Publication) -> str:
        """Messages that share one wait for the same host; ``""`` for those that no host takes."""
        ...

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        """Shape: one verdict a message, in order. *may_wait*: whatever else comes meanwhile goes first.

        Raises: TransientFailure, Overloaded: deliver all again.
        """
        ...


class LetterState(StrEnum):
    OPEN = "open"
    REPLAYED = "replayed"
    """Taken when it was sent again, as it was."""
    REPLACED = "replaced"
    """Somebody edited it: the edited letter stands for it."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused message but for its body and headers; what it tells of itself, as far as it can be read."""

    number: int
    state: LetterState
    fault: Fault
    reason: str
    field: str
    source: str | None
    type: str | None
    subject: str | None
    sequence: int | None
    size_bytes: int
    seen: int
    """How often it was delivered; replays by hand are in the audit trail."""
    first_seen: datetime
    last_seen: datetime
    closed_at: datetime | None
    closed_by: str | None
    why: str | None
    """Why it was discarded."""
    replaces: int | None
    """Number of the letter that this one is an edit of."""
    replaced_by: int | None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters; None: whichever."""

    state: LetterState | None = LetterState.OPEN
    reason: str | None = None
    """Part of the reason."""
    field: str | None = None
    fault: Fault | None = None
    source: str | None = None
    type: str | None = None
    since: datetime | None = None
    """Seen at or after."""
    before: int | None = None
    """Only smaller numbers."""
    numbered: bool = False
    """Only those to which their sources gave a number."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What somebody did with a letter, and what became of it."""

    number: int
    action: str
    state: LetterState
    refused: Rejected | None = None
    """Its new reason, where it was refused again."""
    why: str | None = None


class DeadLetters(Protocol):
    """Messages that were refused. One letter a body and headers, however often they come.

    A letter that comes again is seen once more. One that was replayed is open again, since what was taken
    once should have been taken again; one that was discarded or replaced stays closed, since somebody decided
    about this very content. All raise TransientFailure.
    """

    async def keep(self, letters: Sequence[tuple[Publication, Rejected]]) -> None:
        """Store refused messages with their reasons, durably."""
        ...

    async def letters(self, wanted: LetterFilter, limit: int) -> list[Letter]:
        """The newest first."""
        ...

    async def letter(self, number: int) -> tuple[Letter, Publication] | None: ...

    async def settle(self, by: str, settled: Sequence[Settled]) -> None:
        """Write what was done, and the audit trail of it, in one transaction."""
        ...

    async def replace(
        self, by: str, number: int, edited: Publication, refused: Rejected | None, diff: str
    ) -> int:
        """Close a letter as replaced by an edited one, which is open where it was *refused*, else replayed.

        Answers the number of the edited letter.
        """
        ...

    async def open_letters(self) -> tuple[int, datetime | None]:
        """How many are open, and since when the oldest is."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """An event as history shows it: with when it was committed, and whether it came late."""

    event: Event
    arrival: Arrival
    recorded_at: datetime
    number: int
    """Larger than of all that were committed of the same twin before."""


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
class Commit:
    """What one transaction made of twins."""

    number: int
    twins: tuple[TwinRow, ...]


@dataclass(frozen=True, slots=True)
class Commits:
    """Those that were found, ascending; see twins.core.following for the rest."""

    found: Sequence[Commit]
    oldest_running: int
    mark: int
    more: bool
    """There are some after these."""


class Changes(Protocol):
    """What became of twins, commit by commit, for a while. All raise TransientFailure."""

    async def commits(self, after: int, missing: Collection[int], limit: int) -> Commits:
        """Those of the *missing* that are there, and the first *limit* with a larger number, or fewer, where
        they changed many twins.
        """
        ...

    async def commits_kept(self) -> tuple[int, int]:
        """The smallest and the largest number that is there; (1, 0) before the first."""
        ...

    async def announced(self) -> int | None:
        """Up to which commit the broker has confirmed all changes; None: nothing was ever announced."""
        ...

    async def note_announced(self, number: int) -> None:
        """Never back."""
        ...

    async def forget_commits(self, before: datetime, limit: int, *, up_to: int | None) -> int:
        """Drop the first, at most *limit*, while they are of before a moment and *up_to* a number.

        None after one that stays, and never the newest. Answers how many.
        """
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """Twins that have changed. *settled*: who begins again after it misses nothing."""

    settled: int
    changed: Sequence[TwinRow]


class Expired(Exception):
    """Of the changes after what was heard last, some are forgotten."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the oldest commit that is kept is {oldest}")
        self.oldest = oldest


class Feed(Protocol):
    """Changes for any number of followers in one process."""

    def follow(self, after: int | None, patience_s: float) -> AsyncGenerator[Heard]:
        """What has changed *after*, and from then on; the first says where it begins. None: from now on.

        Each change at least once, and of a twin that changes often not each. One without changes comes at
        least every *patience_s*. It ends where the follower does not keep up, or the store cannot be read.
        Raises: Expired, Overloaded, TransientFailure, all before the first is heard.
        """
        ...


class Announcements(Protocol):
    """Where changes are told to whoever listens."""

    async def announce(self, changed: Sequence[TwinRow]) -> None:
        """Returns when none can be lost. Raises: TransientFailure, with any part of them told."""
        ...

    async def close(self) -> None: ...


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


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed twin, and since when nothing has changed about it."""

    ref: TwinRef
    since: datetime


@dataclass(frozen=True, slots=True)
class Archived:
    """How many twins and events went to the archive, and how many bytes it holds of these twins now."""

    twins: int
    events: int
    bytes: int

    def __add__(self, other: Archived) -> Archived:
        return Archived(self.twins + other.twins, self.events + other.events, self.bytes + other.bytes)


class TwinStore(Protocol):
    """Where twins are kept. One commit is one transaction, and stands only for the newest epoch of a host."""

    async def claim(self, host: str) -> int:
        """Take the next epoch of a host; whoever held the one before can commit no more."""
        ...

    async def assert_epoch(self, host: str, epoch: int) -> int:
        """Answers the version of the placement that holds.

        Raises: Fenced where a newer incarnation has claimed the host.
        """
        ...

    async def placement(self) -> Placement:
        """Where twins live by now."""
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
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution],
        placement: Placement,
    ) -> None:
        """Write a batch; *delivered*: mail of other hosts that it took in; *placement*: what it goes by.

        Raises: Fenced where the epoch has passed; Elsewhere where another host owns, or has owned, a twin of
        it since; TransientFailure where the database is away.
        """
        ...

    async def mail(self, limit: int, after: Contribution | None = None) -> list[Contribution]:
        """Contributions that wait to be delivered, by target and source; those that follow *after*."""
        ...

    async def due(self, now: datetime, limit: int) -> list[TwinRow]:
        """Twins with a finding whose deadline has passed."""
        ...

    async def raised(self, refs: Sequence[TwinRef], now: datetime) -> None:
        """Note that the deadlines of these twins up to *now* have been reported."""
        ...

    async def closed(self, before: datetime, after: Closed | None, limit: int) -> list[Closed]:
        """Twins that have been closed since *before*, with events that are not archived and no waiting mail.

        Ascending by time and twin, those after *after*.
        """
        ...

    async def archive(
        self, host: str, epoch: int, refs: Collection[TwinRef], placement: Placement
    ) -> Archived:
        """Move the events of twins that this host owns to the archive; nothing else about them changes.

        While no commit of the same host is under way. Raises: Fenced, Elsewhere, TransientFailure.
        """
        ...

    async def history(self, ref: TwinRef, *, after: int = 0, limit: int | None = None) -> list[Told]:
        """In the order of commits, those with a larger number than *after*; the first *limit*, or all."""
        ...

    async def rows(self, wanted: TwinFilter, limit: int) -> list[TwinRow]:
        """Ascending by twin."""
        ...

    async def close(self) -> None: ...


class Placements(Protocol):
    """Where twins live, decided while they are running. All raise TransientFailure."""

    async def placement(self) -> Placement: ...

    async def place(self, change: Callable[[Placement], Placement]) -> Placement:
        """Decide what comes after the present one, whatever that is by now; answers it.

        When it returns, every commit under way has ended, and each later one goes by the new placement.
        """
        ...

    async def configure(self, settings: Placement) -> Placement:
        """Make the settings hold if they were changed since they were last made to; answers what holds.

        Twins that are pinned stay so.
        """
        ...


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

    async def queued(self, erp: str, limit: int) -> list[QueuedCommand]:
        """The first *limit* by priority, and the oldest, by a share of *limit*; in the order of commits.

        Of each posting key, no command is left out that comes before one that is there.
        """
        ...

    async def statuses(self, keys: Collection[PostingKey]) -> dict[tuple[PostingKey, int], Status]:
        """Every version of each key, with its status in the ledger."""
        ...

    async def under(self, prefix: str) -> dict[tuple[PostingKey, int], Status]:
        """The same for all keys that begin with *prefix*, which ends in a slash."""
        ...

    async def claim(self, host: str) -> int:
        """Take the next epoch of a gateway; whoever held the one before can send no more."""
        ...

    async def sending(self, gateway: str, epoch: int, erp: str, numbers: Collection[int]) -> set[int]:
        """Note, durably and before anything is sent, that these may reach the ERP. Raises: Fenced.

        Answers those that were noted: the others have gone to another ERP since they were read.
        """
        ...

    async def stumbled(self, gateway: str, epoch: int, troubles: Mapping[int, str]) -> None:
        """Note why the last attempt at a command had no answer. Raises: Fenced."""
        ...

    async def finished(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        """Take commands off the queue, after their replies are committed. Raises: Fenced."""
        ...


class Ledgers(Protocol):
    """The ledgers of all twins, as whoever compares reads them. All raise TransientFailure."""

    async def ledger(self, erp: str, after: PostingKey | None, limit: int) -> list[Filed]:
        """All versions of the next *limit* keys of an ERP, in one order from page to page."""
        ...

    async def filed(self, keys: Collection[PostingKey]) -> list[Filed]:
        """All versions of those keys, ascending."""
        ...

    async def filed_by(self, refs: Collection[TwinRef]) -> list[Filed]: ...

    async def sources_of(self, refs: Collection[TwinRef]) -> set[str]:
        """Who has told anything of one of them."""
        ...

    async def accepted(self, erp: str) -> Mapping[Account, Decimal]:
        """What accounts hold beside our documents, and rightly so."""
        ...

    async def accept(self, erp: str, account: Account, amount: Decimal) -> None: ...


class Reports(Protocol):
    """Where reconciliations are kept. All raise TransientFailure."""

    async def save(self, report: Report) -> None:
        """Store it anew, or in place of what it was."""
        ...

    async def report(self, report_id: str) -> Report | None: ...

    async def reports(self, limit: int) -> list[Report]:
        """The newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """An ERP instance is told nothing, by whose word and why."""

    erp: str
    since: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """Commands that an ERP instance has not answered."""

    queued: int = 0
    sent: int = 0
    """Told at least once."""
    troubled: int = 0
    """Told, and the last attempt failed."""
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A post, or a reversal, that the ERP refused and that nothing has settled since."""

    key: PostingKey
    version: int
    action: Action
    again: int
    reason: str
    since: datetime
    owner: TwinRef
    erp: str
    posting: Posting


@dataclass(frozen=True, slots=True)
class RejectionFilter:
    """None: whatever it is. *key*, *version*: of that alone; *after*: the last of the page before."""

    erp: str | None = None
    command: str | None = None
    reason: str | None = None
    """Part of the reason."""
    key: str | None = None
    version: int | None = None
    after: tuple[str, int] | None = None


class ErpControl(Protocol):
    """What people see of the way to each ERP instance, and how they hold it. All raise TransientFailure."""

    async def pause(self, pause: Pause) -> None: ...

    async def resume(self, erp: str) -> bool:
        """False where it was not paused."""
        ...

    async def pauses(self) -> dict[str, Pause]: ...

    async def backlogs(self) -> dict[str, Backlog]: ...

    async def refusals(self) -> dict[str, int]:
        """ERP instance → how many of its refusals nothing has settled."""
        ...

    async def oldest(self, erp: str, limit: int) -> list[QueuedCommand]:
        """Commands that have waited longest."""
        ...

    async def rejections(self, wanted: RejectionFilter, limit: int) -> list[Rejection]:
        """Ascending by key and version."""
        ...


@dataclass(frozen=True, slots=True)
class Cutover:
    """An ERP instance that is, or was, in shadow of another."""

    erp: str
    of: str
    state: Literal["shadow", "promoted", "abandoned"]
    since: datetime
    promoted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of the commands that were not finished, and of the copies."""

    moved: int
    """Commands that go to the new instance: they cannot have reached the old one."""
    stay: int
    """Commands that end where they began, or build on what stays there."""
    taken_back: int
    """Copies of what the old instance keeps; the new one is told to reverse them."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One version of a posting, in the ledger and in that of a shadow."""

    key: PostingKey
    version: int
    erp: str
    """The instance that holds the posting."""
    live: Said
    shadow: Said

    @property
    def difference(self) -> str | None:
        """In words; None: alike, or too early to say."""
        return difference(self.live, self.shadow)

    @property
    def is_open(self) -> bool:
        """One of the two has not answered."""
        return is_open(self.live) or is_open(self.shadow)

    @property
    def is_standing(self) -> bool:
        """The shadow has it, or may, and has not reversed it."""
        return self.shadow.status in (Status.QUEUED, Status.CONFIRMED, Status.REVERSING)


class Cutovers(Protocol):
    """From one ERP instance to another. All raise TransientFailure; RejectedMessage where it cannot be."""

    async def cutovers(self) -> list[Cutover]: ...

    async def shadow(self, erp: str, of: str) -> None:
        """From now on *erp* is told what *of* is told, and nothing depends on its answers."""
        ...

    async def abandon(self, erp: str) -> int:
        """End its time in shadow, and have it reverse its copies. Answers how many there are."""
        ...

    async def promote(self, erp: str) -> Promotion:
        """From this moment on, what would go to the instance beside which it was goes to it."""
        ...

    def copies(self, erp: str) -> AsyncIterator[Copy]:
        """Ascending by key and version."""
        ...


@dataclass(frozen=True, slots=True)
class Audited:
    """One thing that somebody did by hand."""

    number: int
    at: datetime
    by: str
    """Name of the API key that asked for it."""
    action: str
    subject: str
    detail: Mapping[str, Any]


class Audit(Protocol):
    """What was done by hand, by whom, when and why. Nothing of it is ever changed."""

    async def note(self, by: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """*detail*: JSON. Raises: TransientFailure."""
        ...

    async def audited(
        self, limit: int, *, subject: str | None = None, before: int | None = None
    ) -> list[Audited]:
        """The newest first; *before*: only those with a smaller number."""
        ...


class Consumer(Protocol):
    """Feeds an intake from a broker until stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def figures(self) -> dict[str, float]:
        """Messages that it has *consumed*, those of them that were *redelivered*, and those that it has
        *held* back for the next batch now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages in the queues of events that no consumer holds."""

    events: int
    bulk: int
    """Scans, which come in masses and may wait."""

    @property
    def total(self) -> int:
        return self.events + self.bulk


class Queues(Protocol):
    """What a broker says of its queues."""

    async def waiting(self) -> Waiting:
        """Raises: TransientFailure."""
        ...
