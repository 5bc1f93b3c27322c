from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.simulated_erp.books import Books, Posted
from adapters.simulated_erp.journal import Journal
from adapters.simulated_erp.models import Change, Entered, Erased, PeriodClosing, StandardCosts
from tests.unit.test_simulated_erp_books import issue, told, undone


def written(path: Path, *changes: Change) -> None:
    journal = Journal(path)
    for change in changes:
        journal.append(change)
    journal.close()


def replayed(path: Path) -> Books:
    journal, books = Journal(path), Books()
    journal.replay(books)
    journal.close()
    return books


@pytest.fixture
def eventful() -> tuple[Books, list[Change]]:
    """Books with a document that was reversed, and the changes that led there."""
    books = Books()
    changes: list[Change] = [StandardCosts({"SKU-1": Decimal("8.00")})]
    books.apply(changes[0])
    for instruction in (told(issue("SHP-1", 6)), told(issue("SHP-2", 4)), undone(issue("SHP-1", 6))):
        outcome = books.take(instruction)
        assert isinstance(outcome, Posted)
        changes.append(Entered(outcome.document))
    changes.append(PeriodClosing(date(2026, 3, 31)))
    books.apply(changes[-1])
    return books, changes


def test_replayed_books_equal_the_books_that_were_kept(
    tmp_path: Path, eventful: tuple[Books, list[Change]]
) -> None:
    books, changes = eventful
    written(tmp_path / "journal", *changes)
    assert replayed(tmp_path / "journal") == books


def test_a_last_line_cut_short_is_forgotten_and_the_next_one_is_whole(
    tmp_path: Path, eventful: tuple[Books, list[Change]]
) -> None:
    path = tmp_path / "journal"
    written(path, *eventful[1][:-1])
    whole = path.read_bytes()
    written(path, eventful[1][-1])
    path.write_bytes(path.read_bytes()[:-5])
    replayed(path)
    assert path.read_bytes() == whole
    written(path, eventful[1][-1])
    assert replayed(path) == eventful[0]


def test_an_erased_erp_stays_erased_after_a_restart(
    tmp_path: Path, eventful: tuple[Books, list[Change]]
) -> None:
    written(tmp_path / "journal", *eventful[1], Erased())
    assert replayed(tmp_path / "journal") == Books()


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    assert replayed(tmp_path / "journal") == Books()
