"""What people do to an ERP behind twinsync's back; for tests of whoever must find it.

A document that is dropped leaves no trace: its entries go from the totals, and what it reversed stands again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from adapters.simulated_erp.models import Copied, Document, Dropped, Journalled, Rescaled, Tampering
from canonical.postings import Entry

if TYPE_CHECKING:
    from adapters.simulated_erp.books import Books


def tamper(books: Books, what: Tampering) -> None:
    """Raises: ValueError where there is no such document."""
    match what:
        case Dropped(number=number):
            books.drop(number)
        case Copied(number=number):
            books.enter(replace(books.document(number), number=books.next_number(), reversed_by=None))
        case Rescaled(number=number, factor=factor):
            document = books.document(number)
            made = tuple(
                Entry(one.account, one.debit * factor, one.credit * factor) for one in document.entries
            )
            _rewrite(books, document, made)
        case Journalled(entries=entries, company=company, currency=currency):
            for entry in entries:
                books.add(company, currency, entry)
        case _:
            assert_never(what)


def _rewrite(books: Books, document: Document, made: tuple[Entry, ...]) -> None:
    company, currency = document.posting.company, document.posting.currency
    for entry in document.entries:
        books.take_away(company, currency, entry)
    for entry in made:
        books.add(company, currency, entry)
    books.put(replace(document, entries=made))
