"""The audit trail: what people did by hand, on every database."""

from __future__ import annotations

from adapters.sql.store import SqlStore


async def test_what_was_done_is_told_newest_first_by_whom_and_why(store: SqlStore) -> None:
    await store.note("ops", "pause", "erp/main", {"reason": "month end"})
    await store.note("finance", "discard", "dead-letter/7", {"reason": "a test message"})
    newest, oldest = await store.audited(10)
    assert (newest.by, newest.action, newest.subject) == ("finance", "discard", "dead-letter/7")
    assert oldest.detail == {"reason": "month end"}
    assert oldest.at <= newest.at


async def test_the_audit_trail_of_one_thing_can_be_read_page_by_page(store: SqlStore) -> None:
    for number in range(3):
        await store.note("ops", f"step-{number}", "erp/main", {})
        await store.note("ops", "other", "erp/cloud", {})
    first = await store.audited(2, subject="erp/main")
    rest = await store.audited(2, subject="erp/main", before=first[-1].number)
    assert [one.action for one in first + rest] == ["step-2", "step-1", "step-0"]
