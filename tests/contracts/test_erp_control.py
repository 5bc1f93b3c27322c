"""What the gateways and the people who hold them need of a database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapters.sql.store import SqlStore
from canonical.facts.erp import PostingRejected
from canonical.identity import PostingKey
from canonical.postings import Action
from tests.unit.gateways import Desk, adjustment, credit_note, payment, post, reverse
from tests.world import tell
from twins.core.ledger import Status
from twins.ports import Backlog, Pause, RejectionFilter

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def control(store: SqlStore) -> SqlStore:
    return store


@pytest.fixture
def desk(store: SqlStore) -> Desk:
    return Desk(store)


async def refuse(desk: Desk, key: PostingKey, action: str = "post") -> None:
    fact = PostingRejected(posting_key=key, version=1, action=action, reason="no account 4711")  # type: ignore[arg-type]
    await desk.reply([tell("order/SO-1", fact)])


async def test_a_pause_is_kept_with_who_and_why_until_it_is_lifted(control: SqlStore) -> None:
    await control.pause(Pause("main", NOON, "bob", "first"))
    kept = Pause("main", NOON, "ann", "month end")
    await control.pause(kept)
    assert await control.pauses() == {"main": kept}
    assert await control.resume("main")
    assert not await control.resume("main")
    assert await control.pauses() == {}


async def test_the_backlog_counts_what_waits_and_since_when(
    store: SqlStore, control: SqlStore, desk: Desk
) -> None:
    assert await control.backlogs() == {}
    await desk.plan(post(payment("P-1")))
    await desk.plan(post(payment("P-2")))
    first, second = await store.queued("main", 10)
    epoch = await store.claim("gateway-main")
    await store.sending("gateway-main", epoch, "main", [first.number])
    await store.stumbled("gateway-main", epoch, {first.number: "503"})
    assert await control.backlogs() == {"main": Backlog(2, 1, 1, first.queued_at)}
    assert [one.trouble for one in await control.oldest("main", 10)] == ["503", None]
    assert [one.number for one in await control.oldest("main", 1)] == [first.number]
    assert first.queued_at is not None
    assert second.queued_at is not None


async def test_a_window_holds_the_urgent_and_the_oldest(store: SqlStore, desk: Desk) -> None:
    await desk.plan(*(post(adjustment(f"A-{n}")) for n in range(20)), post(credit_note("R")))
    window = [one.command.key for one in await store.queued("main", 8)]
    assert window[-1] == "credit-note/R/1/SO-1"
    assert window[0].startswith("stock-adjustment/A-0/")
    assert len(window) == 8


async def test_what_went_to_another_erp_is_not_marked_as_sent(store: SqlStore, desk: Desk) -> None:
    await desk.plan(post(payment("P-1")))
    (one,) = await store.queued("main", 10)
    epoch = await store.claim("gateway-cloud")
    assert await store.sending("gateway-cloud", epoch, "cloud", [one.number]) == set()
    assert not (await store.queued("main", 10))[0].sent


async def test_a_reversal_goes_to_the_erp_that_has_the_document(database_url: str) -> None:
    routes = {"acme": "legacy"}
    store = SqlStore(database_url, erp_of=lambda company: routes[company])
    await store.migrate()
    desk = Desk(store)
    posting = payment("P-1", company="acme")
    await desk.plan(post(posting))
    routes["acme"] = "cloud"
    await desk.plan(reverse(posting), post(posting, 2))
    assert [one.command.idempotency_key for one in await store.queued("legacy", 10)] == [
        "payment/P-1/SO-1@1",
        "payment/P-1/SO-1@1/reverse",
    ]
    assert [one.command.idempotency_key for one in await store.queued("cloud", 10)] == ["payment/P-1/SO-1@2"]
    await refuse(desk, posting.key, "reverse")
    (rejection,) = await store.rejections(RejectionFilter(), 10)
    assert rejection.erp == "legacy", "a record stays with the ERP that it was told to"
    await store.close()


async def test_rejections_are_listed_with_all_that_a_person_needs(control: SqlStore, desk: Desk) -> None:
    refused, taken = payment("P-1"), payment("P-2")
    await desk.plan(post(refused), post(taken))
    await refuse(desk, refused.key)
    (one,) = await control.rejections(RejectionFilter(), 10)
    assert (one.key, one.version, one.action, one.again) == (refused.key, 1, Action.POST, 0)
    assert (one.reason, one.erp, one.posting) == ("no account 4711", "main", refused)
    assert str(one.owner) == "order/SO-1"


async def test_a_refused_reversal_is_a_rejection_and_an_annulled_post_is_none(
    control: SqlStore, desk: Desk
) -> None:
    first, second = payment("P-1"), payment("P-2")
    await desk.plan(post(first), post(second))
    await refuse(desk, second.key)
    await desk.plan(reverse(first), reverse(second))
    await refuse(desk, first.key, "reverse")
    await refuse(desk, second.key)
    assert desk.status(second) is Status.ANNULLED
    (one,) = await control.rejections(RejectionFilter(), 10)
    assert (one.key, one.action) == (first.key, Action.REVERSE)


async def test_rejections_are_filtered_and_paged(control: SqlStore, desk: Desk) -> None:
    many = [payment(f"P-{n}") for n in range(5)]
    await desk.plan(*map(post, many), post(credit_note("R")))
    for one in (*many, credit_note("R")):
        await refuse(desk, one.key)

    async def keys(wanted: RejectionFilter, limit: int = 10) -> list[str]:
        return [one.key for one in await control.rejections(wanted, limit)]

    assert await control.refusals() == {"main": 6}
    page = await keys(RejectionFilter(), 4)
    rest = await keys(RejectionFilter(after=(page[-1], 1)))
    assert page + rest == sorted(one.key for one in (*many, credit_note("R")))
    assert await keys(RejectionFilter(command="credit-note")) == [credit_note("R").key]
    assert await keys(RejectionFilter(key=many[2].key, version=1)) == [many[2].key]
    assert await keys(RejectionFilter(key=many[2].key, version=2)) == []
    assert len(await keys(RejectionFilter(reason="account 47"))) == 6
    assert await keys(RejectionFilter(reason="account_47")) == []
    assert await keys(RejectionFilter(erp="cloud")) == []
