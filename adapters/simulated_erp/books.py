"""The ERP itself: documents, the rules by which it refuses, and its totals. Pure; replayed from `Change`s.

A document is never altered, only marked as reversed; its reversal is the exact mirror of the entries as they
were posted, whatever the goods would cost today. Refusing is a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import assert_never

from adapters.simulated_erp.models import (
    BalanceRow,
    Change,
    Copied,
    Document,
    Dropped,
    Entered,
    Erased,
    Instruction,
    Journalled,
    LiveDocuments,
    Page,
    PeriodClosing,
    Rescaled,
    StandardCosts,
    StockOpened,
    TrialBalance,
)
from adapters.simulated_erp.tampering import tamper
from canonical import money
from canonical.identity import PostingKey
from canonical.money import ZERO
from canonical.movements import Shelf, movements
from canonical.postings import Account, Action, Entry, Posting, entries, mirrored
from canonical.valuation import valued

_NUMBER = "DOC-"


@dataclass(frozen=True, slots=True)
class Manners:
    """How careful this ERP is by itself; the real ones differ, and twinsync must do without."""

    one_live_document: bool = False
    """Refuse a second live document of a posting key. Tryton accepts the same reference twice."""
    idempotent: bool = True
    """Answer a repeated idempotency key with the document it made. False: post it again."""


@dataclass(frozen=True, slots=True)
class Posted:
    document: Document
    again: bool
    """The document was there already, and nothing was posted."""


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str
    """Stable name of the rule, such as ``period-closed``."""
    reason: str


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """What a page shows; None: any."""

    idempotency_key: str | None = None
    posting_key: str | None = None
    command: str | None = None
    action: Action | None = None
    live: bool | None = None

    def shows(self, document: Document) -> bool:
        return (
            self.idempotency_key in (None, document.idempotency_key)
            and self.posting_key in (None, document.posting_key)
            and self.command in (None, document.posting.command)
            and self.action in (None, document.action)
            and self.live in (None, document.live)
        )


@dataclass(slots=True)
class Books:
    manners: Manners = Manners()
    booked: Callable[[Posting], tuple[Entry, ...]] = entries
    """This ERP's way of booking a posting whose goods are valued."""
    standard_costs: dict[str, Decimal] = field(default_factory=dict)
    closed_through: dict[str, date] = field(default_factory=dict)
    """Company → last closed day."""
    opened: dict[Shelf, Decimal] = field(default_factory=dict)
    """What its own purchases brought; empty: it keeps no stock."""
    documents: list[Document] = field(default_factory=list)
    """By number. Those that were dropped keep their places."""
    dropped: set[str] = field(default_factory=set)
    _by_idempotency_key: dict[str, list[int]] = field(default_factory=dict)
    """Positions in *documents*, ascending; so below."""
    _by_posting_key: dict[PostingKey, list[int]] = field(default_factory=dict)
    _totals: dict[tuple[str, str, Account], tuple[Decimal, Decimal]] = field(default_factory=dict)
    _live: Counter[PostingKey] = field(default_factory=Counter)

    # --- what is told

    def take(self, told: Instruction) -> Posted | Refusal:
        """Post or reverse, once or not at all."""
        known = self.find(told.idempotency_key)
        if known and self.manners.idempotent:
            return _repeated(known[0], told)
        draft = self._posting(told) if told.action is Action.POST else self._reversal(told)
        if isinstance(draft, Refusal):
            return draft
        if (objection := self._objection(draft)) is not None:
            return objection
        self.apply(Entered(draft))
        return Posted(draft, again=False)

    def reverse(self, number: str, idempotency_key: str) -> Posted | Refusal:
        """Mirror one very document, once for each idempotency key. Raises: ValueError: no such document."""
        known = self.find(idempotency_key)
        if known:
            return Posted(known[0], again=True)
        target = self.document(number)
        if not target.live:
            return Refusal("not-live", f"{number} was reversed by {target.reversed_by}")
        told = Instruction(idempotency_key, Action.REVERSE, target.version, target.posting)
        draft = self._draft(told, mirrored(target.entries), number)
        if (objection := self._objection(draft)) is not None:
            return objection
        self.apply(Entered(draft))
        return Posted(draft, again=False)

    def _posting(self, told: Instruction) -> Document | Refusal:
        try:
            money.currency(told.posting.currency)
        except ValueError as error:
            return Refusal("currency-missing", str(error))
        if self.manners.one_live_document and self._live[told.posting.key]:
            return Refusal("already-posted", f"{told.posting.key} has a live document already")
        try:
            made = self.booked(valued(told.posting, self.standard_costs))
        except KeyError as error:
            return Refusal("account-missing", f"there is no account for {error}")
        return self._draft(told, made, None)

    def _reversal(self, told: Instruction) -> Document | Refusal:
        key = told.posting.key
        of_version = [one for one in self._versions(key) if one.version == told.version]
        target = next((one for one in of_version if one.live), None)
        if target is not None:
            return self._draft(told, mirrored(target.entries), target.number)
        if of_version:
            by = of_version[-1].reversed_by
            return Refusal("already-reversed", f"{key}@{told.version} was reversed by {by}")
        return Refusal("nothing-to-reverse", f"there is no document of {key}@{told.version}")

    def _versions(self, key: PostingKey) -> Iterator[Document]:
        """The documents that were posted for a key, without their reversals."""
        found = self._at(self._by_posting_key.get(key, ()))
        return (document for document in found if document.action is Action.POST)

    def _draft(self, told: Instruction, made: tuple[Entry, ...], reverses: str | None) -> Document:
        return Document(
            number=self.next_number(),
            idempotency_key=told.idempotency_key,
            action=told.action,
            version=told.version,
            posting=told.posting,
            posting_date=told.posting_date or told.posting.event_date,
            entries=made,
            reverses=reverses,
        )

    def _objection(self, draft: Document) -> Refusal | None:
        if off := imbalance(draft.entries):
            return Refusal("unbalanced", f"debits exceed credits by {off} {draft.posting.currency}")
        closed = self.closed_through.get(draft.posting.company)
        if closed is not None and draft.posting_date <= closed:
            return Refusal(
                "period-closed",
                f"{draft.posting.company} is closed through {closed}, not {draft.posting_date}",
            )
        return None

    # --- what changes

    def apply(self, change: Change) -> None:
        match change:
            case Entered(document=document):
                self.enter(document)
            case StandardCosts(costs=costs):
                self.standard_costs |= costs
            case PeriodClosing(closed_through=day, company=company):
                self.closed_through[company] = day
            case StockOpened(quantities=quantities):
                self.opened |= {
                    (sku, place): quantity
                    for sku, places in quantities.items()
                    for place, quantity in places.items()
                }
            case Dropped() | Copied() | Rescaled() | Journalled():
                tamper(self, change)
            case Erased():
                self._erase()
            case _:
                assert_never(change)

    def enter(self, document: Document) -> None:
        position = len(self.documents)
        self.documents.append(document)
        self._by_idempotency_key.setdefault(document.idempotency_key, []).append(position)
        self._by_posting_key.setdefault(document.posting_key, []).append(position)
        self._live[document.posting_key] += 1 if document.reverses is None else -1
        if document.reverses is not None:
            self._mark_reversed(document.reverses, document.number)
        for entry in document.entries:
            self.add(document.posting.company, document.posting.currency, entry)

    def _mark_reversed(self, number: str, by: str | None) -> None:
        self.put(replace(self.document(number), reversed_by=by))

    def put(self, document: Document) -> None:
        self.documents[position_of(document.number)] = document

    def add(self, company: str, currency: str, entry: Entry) -> None:
        place = company, currency, entry.account
        debit, credit = self._totals.get(place, (ZERO, ZERO))
        self._totals[place] = debit + entry.debit, credit + entry.credit

    def take_away(self, company: str, currency: str, entry: Entry) -> None:
        self.add(company, currency, Entry(entry.account, -entry.debit, -entry.credit))

    def drop(self, number: str) -> None:
        """Raises: ValueError where there is no such document."""
        document = self.document(number)
        for entry in document.entries:
            self.take_away(document.posting.company, document.posting.currency, entry)
        self._live[document.posting_key] -= 1 if document.live else 0
        if document.reverses is not None and document.reverses not in self.dropped:
            self._mark_reversed(document.reverses, None)
            self._live[document.posting_key] += 1
        self.dropped.add(number)

    def _erase(self) -> None:
        for store in (
            self.standard_costs,
            self.closed_through,
            self.opened,
            self.documents,
            self.dropped,
            self._by_idempotency_key,
            self._by_posting_key,
            self._totals,
            self._live,
        ):
            store.clear()

    # --- what is asked

    def find(self, idempotency_key: str) -> tuple[Document, ...]:
        """Oldest first; more than one only where the ERP is not idempotent."""
        return tuple(self._at(self._by_idempotency_key.get(idempotency_key, ())))

    def document(self, number: str) -> Document:
        """Raises: ValueError where there is none of that number."""
        position = position_of(number)
        if position >= len(self.documents) or number in self.dropped:
            raise ValueError(f"there is no document {number}")
        return self.documents[position]

    def next_number(self) -> str:
        return _number(len(self.documents))

    def _at(self, positions: Iterable[int]) -> Iterator[Document]:
        found = (self.documents[position] for position in positions)
        return (document for document in found if document.number not in self.dropped)

    def page(self, wanted: DocumentFilter, after: str | None, limit: int) -> Page:
        """Documents in the order of posting. Raises: ValueError where *after* is no document number."""
        start = 0 if after is None else position_of(after) + 1
        found = tuple(islice(filter(wanted.shows, self._candidates(wanted, start)), limit + 1))
        shown = found[:limit]
        return Page(shown, shown[-1].number if len(found) > limit else None)

    def _candidates(self, wanted: DocumentFilter, start: int) -> Iterator[Document]:
        positions: Iterable[int] = range(start, len(self.documents))
        if wanted.idempotency_key is not None:
            positions = self._by_idempotency_key.get(wanted.idempotency_key, ())
        elif wanted.posting_key is not None:
            positions = self._by_posting_key.get(PostingKey(wanted.posting_key), ())
        return self._at(position for position in positions if position >= start)

    def trial_balance(self) -> TrialBalance:
        return TrialBalance(tuple(BalanceRow(*place, *self._totals[place]) for place in sorted(self._totals)))

    def stock(self) -> dict[Shelf, Decimal]:
        """What it opened with, and what its live documents moved; empty where it was told no opening."""
        held = dict(self.opened)
        if held:
            for document in self._at(range(len(self.documents))):
                for shelf, quantity in movements(document.posting) if document.live else ():
                    held[shelf] = held.get(shelf, ZERO) + quantity
        return held

    def live_documents(self) -> LiveDocuments:
        not_one = {key: count for key, count in sorted(self._live.items()) if count != 1}
        return LiveDocuments(self._live.total(), not_one)


def imbalance(made: Iterable[Entry]) -> Decimal:
    """By how much debits exceed credits."""
    return sum((entry.debit - entry.credit for entry in made), ZERO)


def position_of(number: str) -> int:
    """Raises: ValueError where it is no document number."""
    digits = number.removeprefix(_NUMBER)
    if digits == number or not digits.isdecimal():
        raise ValueError(f"{number!r} is not a document number")
    return int(digits) - 1


def _number(position: int) -> str:
    return f"{_NUMBER}{position + 1:06d}"


def _repeated(known: Document, told: Instruction) -> Posted | Refusal:
    same = (told.action, told.version, told.posting) == (known.action, known.version, known.posting)
    if same:
        return Posted(known, again=True)
    return Refusal(
        "idempotency-key-reused", f"{told.idempotency_key} made {known.number}, which has another content"
    )
