"""Ledgers are read page by page in one order, and reports are kept, on either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from adapters.sql.reconciliations import REPORTS_MAX
from adapters.sql.store import SqlStore
from canonical.identity import PostingKey, shipment, stock
from canonical.postings import Account
from tests.reconciled import System
from tests.stories import golden
from tests.world import World
from twins.core.reconcile.difference import Accept, Difference, Kind, Reverse
from twins.core.reconcile.report import Applied, Report

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
REPORT = Report("R-1", "ann", NOON, ("main",))


async def told(store: SqlStore) -> SqlStore:
    await System(store).tell(golden())
    return store


async def test_pages_hold_every_key_once_with_all_of_its_versions(store: SqlStore) -> None:
    await told(store)
    found: list[PostingKey] = []
    after: PostingKey | None = None
    while page := await store.ledger("main", after, 2):
        assert len({one.record.key for one in page}) <= 2
        found += dict.fromkeys(one.record.key for one in page)
        after = page[-1].record.key
    assert sorted(found) == sorted(World().take_each(golden()).live())
    assert len(found) == len(set(found))


async def test_a_ledger_is_that_of_one_erp(store: SqlStore) -> None:
    await told(store)
    assert await store.ledger("other", None, 10) == []


async def test_records_are_found_by_key_and_by_twin(store: SqlStore) -> None:
    await told(store)
    key = PostingKey("goods-issue/SHP-1")
    (by_key,) = await store.filed([key])
    assert (by_key.owner, by_key.record.key, by_key.record.version) == (shipment("SHP-1"), key, 1)
    assert by_key in await store.filed_by([shipment("SHP-1")])


async def test_who_has_told_of_a_twin_is_known(store: SqlStore) -> None:
    await told(store)
    assert await store.sources_of([shipment("SHP-1"), stock("SKU-1", "DC-01")]) == {"/test/wms", "/test/oms"}


async def test_what_is_accepted_of_an_account_replaces_what_was(store: SqlStore) -> None:
    await store.accept("main", Account.TAX, Decimal("1.10"))
    await store.accept("main", Account.TAX, Decimal("2.20"))
    await store.accept("other", Account.TAX, Decimal(5))
    assert await store.accepted("main") == {Account.TAX: Decimal("2.20")}


async def test_a_report_comes_back_as_it_was_saved_last(store: SqlStore) -> None:
    difference = Difference(
        Kind.AMOUNTS_DIFFER, "a/b", "erp/main", "1", "2", "why", (Reverse("main", "D1"), _accept())
    )
    await store.save(REPORT)
    done = replace(
        REPORT, state="done", differences=(difference,), applied={"x": Applied(NOON, "ann", "done")}
    )
    await store.save(done)
    assert await store.report("R-1") == done
    assert await store.report("R-2") is None


def _accept() -> Accept:
    return Accept("main", Account.TAX, Decimal("1.10"))


async def test_the_newest_reports_come_first_and_only_so_many_are_kept(store: SqlStore) -> None:
    for number in range(REPORTS_MAX + 3):
        started_at = NOON + timedelta(minutes=number)
        await store.save(Report(f"R-{number}", "ann", started_at, (), state="done"))
    assert [one.id for one in await store.reports(2)] == [f"R-{REPORTS_MAX + 2}", f"R-{REPORTS_MAX + 1}"]
    assert len(await store.reports(REPORTS_MAX + 3)) == REPORTS_MAX
