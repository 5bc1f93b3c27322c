"""Shelves and orders compared with snapshots and with an ERP's stock: what is found, and why likely so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.simulated_erp.models import Dropped, StockOpened
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.facts.order import OrderCancelled
from canonical.facts.stock import StockAdjusted, StockCounted, StockStatus
from canonical.identity import order, stock
from tests.reconciled import System
from tests.stories import golden, placed
from tests.world import DAY, tell
from twins.core.reconcile.difference import Adjust, AskSource, Difference, Kind
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import LineRow, OrderRow, ShelfRow, Snapshot

SHELF = stock("SKU-1", "DC-01")
WEEK_LATER = DAY + timedelta(days=7)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    store = SqlStore(sqlite_url(tmp_path))
    await store.migrate()
    opened = System(store)
    await opened.tell(golden())
    await opened.settle()
    yield opened
    await store.close()


def shelf(quantity: int, as_of: datetime = WEEK_LATER, **more: bool) -> Snapshot:
    return Snapshot({SHELF: {StockStatus.SELLABLE: ShelfRow(Decimal(quantity), as_of)}}, **more)


def orders(row: OrderRow, **more: bool) -> Snapshot:
    return Snapshot(orders={order("SO-1"): row}, **more)


def only(report: Report) -> Difference:
    (difference,) = report.differences
    return difference


# --- shelves ---------------------------------------------------------------------------------------------


async def test_a_shelf_is_compared_as_of_the_snapshots_moment(system: System) -> None:
    before_the_second_shipment = DAY + timedelta(minutes=90)
    assert not (await system.reconcile(shelf(94, before_the_second_shipment))).differences
    assert not (await system.reconcile(shelf(92))).differences
    wrong = only(await system.reconcile(shelf(92, before_the_second_shipment)))
    assert (wrong.kind, wrong.ours) == (Kind.STOCK_DIFFERS, "94 sellable")


async def test_a_shelf_that_equals_by_chance_now_is_still_compared_as_of_then(system: System) -> None:
    """Now 92 are there; at the snapshot's moment 94 were, and they said 92 then."""
    assert (await system.reconcile(shelf(92, DAY + timedelta(minutes=90)))).differences


async def test_a_difference_of_exactly_one_document_names_it(system: System) -> None:
    wrong = only(await system.reconcile(shelf(98)))
    assert "exactly what goods-issue/SHP-1 moved" in wrong.cause
    assert wrong.corrections == (Adjust("SKU-1", "DC-01", StockStatus.SELLABLE, Decimal(98), WEEK_LATER),)


async def test_a_count_that_they_do_not_know_of_is_blamed(system: System) -> None:
    await system.tell([tell(f"stock/{SHELF.key}", StockCounted(count_id="C-2", quantity=80), 5000)])
    assert "our count of 2026-03-05" in only(await system.reconcile(shelf(92))).cause


async def test_a_gap_in_the_numbers_of_who_speaks_of_a_shelf_is_blamed_and_asked_for(system: System) -> None:
    numbered = [
        tell(
            f"stock/{SHELF.key}",
            StockAdjusted(adjustment_id=f"A-{number}", delta=-1),
            5000 + number,
            source="/wms/1",
            sequence=number,
        )
        for number in range(3)
    ]
    await system.tell([numbered[0], numbered[2]])
    system.untold = {("/wms/1", 1): numbered[1]}
    report = await system.reconcile(shelf(89))
    wrong = only(report)
    assert "a message was lost: /wms/1 left out 1" in wrong.cause
    assert isinstance(wrong.corrections[0], AskSource)
    await system.apply(report)
    assert not (await system.reconcile(shelf(89))).differences


async def test_a_difference_without_evidence_says_so(system: System) -> None:
    assert "nothing here tells" in only(await system.reconcile(shelf(77))).cause


async def test_what_a_whole_snapshot_leaves_out_is_not_there(system: System) -> None:
    elsewhere = {stock("SKU-9", "DC-01"): {StockStatus.SELLABLE: ShelfRow(Decimal(0), WEEK_LATER)}}
    assert only(await system.reconcile(Snapshot(elsewhere))).subject == str(SHELF)
    assert not (await system.reconcile(Snapshot(elsewhere, is_whole=False))).differences


async def test_a_shelf_that_nobody_told_us_of_differs(system: System) -> None:
    strange = {stock("SKU-9", "DC-02"): {StockStatus.SELLABLE: ShelfRow(Decimal(5), WEEK_LATER)}}
    assert only(await system.reconcile(Snapshot(strange))).ours == "0 sellable"


async def test_a_shelf_in_the_erp_is_compared_beside_what_documents_explain(system: System) -> None:
    system.erp.books.apply(StockOpened({"SKU-1": {"DC-01": Decimal(100)}}))
    assert not (await system.reconcile()).differences
    issue = next(one for one in system.erp.books.documents if one.posting_key == "goods-issue/SHP-1")
    system.erp.books.apply(Dropped(issue.number))
    assert only(await system.reconcile()).kind is Kind.DOCUMENT_MISSING
    system.erp.books.apply(StockOpened({"SKU-1": {"DC-01": Decimal(103)}}))
    wrong = [one for one in (await system.reconcile()).differences if one.kind is Kind.STOCK_DIFFERS]
    assert [(one.subject, one.theirs) for one in wrong] == [(str(SHELF), "+3 beside that")]


# --- orders ----------------------------------------------------------------------------------------------


async def test_an_order_is_compared_as_far_as_the_snapshot_says(system: System) -> None:
    lines = {"1": LineRow("SKU-1", {"ordered": Decimal(10), "shipped": Decimal(10)})}
    assert not (await system.reconcile(orders(OrderRow(WEEK_LATER)))).differences
    assert not (await system.reconcile(orders(OrderRow(WEEK_LATER, None, Decimal(224), lines)))).differences


@pytest.mark.parametrize(
    ("row", "ours", "theirs"),
    [
        (OrderRow(WEEK_LATER, "lost"), "status delivered", "status lost"),
        (OrderRow(WEEK_LATER, None, Decimal(225)), "total 224", "total 225"),
        (
            OrderRow(WEEK_LATER, lines={"1": LineRow("SKU-1", {"shipped": Decimal(9)})}),
            "line 1 shipped 10",
            "line 1 shipped 9",
        ),
        (OrderRow(WEEK_LATER, lines={"1": LineRow("SKU-2", {})}), "line 1 sku SKU-1", "line 1 sku SKU-2"),
        (OrderRow(WEEK_LATER, lines={"2": LineRow("SKU-2", {})}), "line 2 none", "line 2 SKU-2"),
    ],
)
async def test_status_total_lines_and_quantities_of_an_order_are_compared(
    system: System, row: OrderRow, ours: str, theirs: str
) -> None:
    wrong = only(await system.reconcile(orders(row)))
    assert (wrong.kind, wrong.ours, wrong.theirs) == (Kind.ORDER_DIFFERS, ours, theirs)


async def test_an_order_is_compared_as_of_the_snapshots_moment(system: System) -> None:
    await system.tell([placed(1, 5000, "SO-2")])
    await system.tell([tell("order/SO-2", OrderCancelled(cancel_id="C"), 6000)])
    rows = {
        order("SO-1"): OrderRow(DAY + timedelta(minutes=5500)),
        order("SO-2"): OrderRow(DAY + timedelta(minutes=5500), "placed"),
    }
    assert not (await system.reconcile(Snapshot(orders=rows))).differences


async def test_an_order_placed_after_the_snapshot_is_not_missing_there(system: System) -> None:
    await system.tell([placed(1, 60 * 24 * 8, "SO-2")])
    assert not (await system.reconcile(orders(OrderRow(WEEK_LATER)))).differences


async def test_an_order_that_the_oms_does_not_know_is_reported_unless_the_snapshot_is_partial(
    system: System,
) -> None:
    await system.tell([placed(1, 10, "SO-2")])
    wrong = only(await system.reconcile(orders(OrderRow(WEEK_LATER))))
    assert (wrong.kind, wrong.subject) == (Kind.ORDER_UNKNOWN, "order/SO-2")
    assert not (await system.reconcile(orders(OrderRow(WEEK_LATER), is_whole=False))).differences
