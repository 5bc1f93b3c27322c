"""Each thing that can befall a document is found, named, and mended on request. SQLite and books are real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.simulated_erp.books import Posted
from adapters.simulated_erp.models import Copied, Dropped, Instruction, Journalled, Rescaled
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import PostingKey
from canonical.postings import Account, Action, Entry
from tests.reconciled import System
from tests.stories import golden
from tests.world import tell
from twins.core.reconcile.difference import Kind
from twins.core.reconcile.report import Report

INVOICE = PostingKey("invoice/SHP-1/SO-1")
ISSUE = PostingKey("goods-issue/SHP-1")


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    store = SqlStore(sqlite_url(tmp_path))
    await store.migrate()
    yield System(store)
    await store.close()


@pytest.fixture
async def rested(system: System) -> System:
    await system.tell(golden())
    await system.settle()
    return system


def number(system: System, key: str = INVOICE) -> str:
    return next(one.number for one in system.erp.books.documents if one.posting_key == key)


def found(report: Report) -> list[tuple[Kind, str]]:
    return [(one.kind, one.subject) for one in report.differences]


async def mended(system: System, report: Report) -> None:
    """Applied, at rest, and compared again: nothing is left, and each key has one live document."""
    applied = await system.apply(report)
    assert {one.outcome for one in applied.applied.values()} == {"done"}
    await system.settle()
    assert found(await system.reconcile()) == []
    live = await system.store.live_postings()
    assert system.erp.books.live_documents().doubled == {}
    assert system.erp.books.live_documents().total == len(live)


async def test_where_all_is_well_nothing_is_reported(rested: System) -> None:
    report = await rested.reconcile()
    assert (report.state, found(report), report.not_compared) == ("done", [], ())


async def test_a_document_deleted_in_the_erp_is_missing_and_posted_anew(rested: System) -> None:
    rested.erp.books.apply(Dropped(number(rested)))
    report = await rested.reconcile()
    assert found(report) == [(Kind.DOCUMENT_MISSING, INVOICE)]
    assert "deleted there" in report.differences[0].cause
    await mended(rested, report)


async def test_what_an_erp_makes_no_documents_for_is_not_missing_there(rested: System) -> None:
    payment = PostingKey("payment/P-1/SO-1")
    rested.erp.books.apply(Dropped(number(rested, payment)))
    assert found(await rested.reconcile()) == [(Kind.DOCUMENT_MISSING, payment)]
    rested.erp.not_kept = frozenset({"payment"})
    assert found(await rested.reconcile()) == []


async def test_a_document_reversed_by_hand_is_named_with_its_reversal(rested: System) -> None:
    made = rested.erp.books.reverse(number(rested, ISSUE), "by hand")
    assert isinstance(made, Posted)
    report = await rested.reconcile()
    assert found(report) == [(Kind.REVERSED_ELSEWHERE, ISSUE)]
    assert made.document.number in report.differences[0].cause
    await mended(rested, report)


async def test_a_document_posted_twice_is_doubled_and_the_second_is_reversed(rested: System) -> None:
    first = number(rested)
    rested.erp.books.apply(Copied(first))
    report = await rested.reconcile()
    assert found(report) == [(Kind.DOCUMENT_DOUBLED, INVOICE)]
    await mended(rested, report)
    assert rested.erp.books.document(first).live


async def test_altered_amounts_are_found_by_account_and_put_right(rested: System) -> None:
    rested.erp.books.apply(Rescaled(number(rested), Decimal("1.1")))
    report = await rested.reconcile()
    assert found(report) == [(Kind.AMOUNTS_DIFFER, INVOICE)]
    assert "receivable 134.40" in report.differences[0].ours
    await mended(rested, report)


async def test_a_document_entered_anew_under_another_number_is_found(rested: System) -> None:
    first = number(rested)
    rested.erp.books.apply(Copied(first))
    rested.erp.books.apply(Dropped(first))
    report = await rested.reconcile()
    assert found(report) == [(Kind.DOCUMENT_NUMBER_DIFFERS, INVOICE)]
    await mended(rested, report)


async def test_a_document_that_nobody_here_asked_for_is_an_orphan(rested: System) -> None:
    strange = replace(rested.erp.books.documents[0].posting, key=PostingKey("invoice/X/Y"))
    rested.erp.books.take(Instruction("X", Action.POST, 1, strange))
    report = await rested.reconcile()
    assert found(report) == [(Kind.DOCUMENT_ORPHANED, "invoice/X/Y")]
    assert "entered by hand" in report.differences[0].cause
    await mended(rested, report)


async def test_a_reversal_that_was_deleted_leaves_an_orphan(rested: System) -> None:
    await rested.tell([tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)])
    await rested.settle()
    assert found(await rested.reconcile()) == []
    undone = next(
        one for one in rested.erp.books.documents if one.reverses and "goods-issue" in one.posting_key
    )
    rested.erp.books.apply(Dropped(undone.number))
    report = await rested.reconcile()
    assert found(report) == [(Kind.DOCUMENT_ORPHANED, "goods-issue/SHP-2")]
    await mended(rested, report)


async def test_an_answer_that_never_came_is_taken_from_the_erp_itself(system: System) -> None:
    system.erp.unheard = {f"{ISSUE}@1"}
    await system.tell(golden())
    await system.settle()
    report = await system.reconcile()
    assert found(report) == [(Kind.CONFIRMATION_LOST, ISSUE)]
    await mended(system, report)
    assert number(system, INVOICE), "it waited for its goods issue"


async def test_a_reversal_whose_answer_never_came_is_taken_from_the_erp_itself(rested: System) -> None:
    rested.erp.unheard = {"goods-issue/SHP-2@1/reverse"}
    await rested.tell([tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)])
    await rested.settle()
    report = await rested.reconcile()
    assert found(report) == [(Kind.CONFIRMATION_LOST, "goods-issue/SHP-2")]
    await mended(rested, report)


async def test_an_entry_beside_our_documents_is_found_by_account_and_can_be_accepted(rested: System) -> None:
    some = Decimal("7.00")
    made = (Entry(Account.REVENUE, some, Decimal(0)), Entry(Account.CASH_CLEARING, Decimal(0), some))
    rested.erp.books.apply(Journalled(made))
    report = await rested.reconcile()
    assert found(report) == [(Kind.BALANCE_DIFFERS, "cash-clearing"), (Kind.BALANCE_DIFFERS, "revenue")]
    await mended(rested, report)


async def test_what_is_queued_while_they_look_is_no_difference(system: System) -> None:
    await system.tell(golden())
    assert found(await system.reconcile()) == []
    await system.gateway.work()
    assert found(await system.reconcile()) == []


async def test_what_was_mended_meanwhile_is_left_alone(rested: System) -> None:
    rested.erp.books.apply(Copied(number(rested)))
    report = await rested.reconcile()
    (double,) = report.differences
    rested.erp.books.reverse(rested.erp.books.documents[-1].number, "by hand")
    before = len(rested.erp.books.documents)
    applied = await rested.apply(report)
    assert applied.applied[double.id].outcome != "done"
    assert len(rested.erp.books.documents) == before


async def test_what_was_applied_is_in_the_trail_and_is_not_applied_again(rested: System) -> None:
    rested.erp.books.apply(Copied(number(rested)))
    applied = await rested.apply(await rested.reconcile())
    (noted,) = await rested.store.audited(10, subject=INVOICE)
    assert (noted.by, noted.action) == ("tests", "reconcile-reverse")
    assert await rested.apply(applied) == applied
    assert len(await rested.store.audited(10)) == 1
