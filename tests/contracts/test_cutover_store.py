"""Cut-over on a real database: what is committed at the same time goes here or there, never to both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.sql import cutover
from adapters.sql.shadows import SqlShadow
from adapters.sql.store import SqlStore
from canonical.errors import RejectedMessage
from canonical.facts.erp import PostingConfirmed, PostingRejected
from tests.unit.gateways import Desk, payment, post, reverse
from tests.world import tell
from twins.core.ledger import Status
from twins.ports import Promotion


@pytest.fixture
async def shadow(database_url: str, store: SqlStore) -> AsyncIterator[SqlShadow]:
    opened = SqlShadow(database_url, "cloud")
    yield opened
    await opened.close()


@pytest.fixture
def desk(store: SqlStore) -> Desk:
    return Desk(store)


async def names(queue: SqlStore | SqlShadow, erp: str) -> list[str]:
    return [one.command.idempotency_key for one in await queue.queued(erp, 1_000)]


def confirmed(name: str) -> PostingConfirmed:
    return PostingConfirmed(posting_key=payment(name).key, version=1, action="post", document="D")


async def test_a_shadow_is_queued_the_same_commands(store: SqlStore, shadow: SqlShadow, desk: Desk) -> None:
    await desk.plan(post(payment("before")))
    await store.shadow("cloud", of="main")
    await desk.plan(post(payment("P")))
    await desk.plan(reverse(payment("P")), post(payment("P"), 2), reverse(payment("before")))
    copied = [f"payment/P/SO-1@{rest}" for rest in ("1", "1/reverse", "2")]
    assert await names(shadow, "cloud") == copied
    assert await names(store, "cloud") == []
    assert await shadow.statuses([payment("P").key, payment("before").key]) == {
        (payment("P").key, 1): Status.REVERSING,
        (payment("P").key, 2): Status.QUEUED,
        (payment("before").key, 1): Status.REVERSING,
    }


async def test_answers_of_a_shadow_stay_in_its_ledger(store: SqlStore, shadow: SqlShadow, desk: Desk) -> None:
    await store.shadow("cloud", of="main")
    await desk.plan(post(payment("P")))
    await shadow.reply([tell("order/SO-1", confirmed("P")), tell("order/SO-1", confirmed("unknown"))])
    assert await store.statuses([payment("P").key]) == {(payment("P").key, 1): Status.QUEUED}
    (copy,) = [one async for one in store.copies("cloud")]
    assert (copy.live.status, copy.shadow.status, copy.shadow.document) == (
        Status.QUEUED,
        Status.CONFIRMED,
        "D",
    )
    refusal = PostingRejected(posting_key=payment("P").key, version=1, action="post", reason="no")
    await desk.reply([tell("order/SO-1", refusal)])
    (copy,) = [one async for one in store.copies("cloud")]
    assert copy.difference == "live: refused it; shadow: holds it"


async def test_a_promotion_divides_what_was_sent_from_what_was_not(
    store: SqlStore, shadow: SqlShadow, desk: Desk
) -> None:
    sent, unsent, bound = (
        payment("sent"),
        payment("unsent"),
        payment("bound", requires=("payment/sent/SO-1",)),
    )
    await store.shadow("cloud", of="main")
    await desk.plan(post(sent), post(unsent), post(bound))
    first, *_ = await store.queued("main", 10)
    epoch = await store.claim("gateway-main")
    await store.sending("gateway-main", epoch, "main", [first.number])
    copies = await shadow.queued("cloud", 10)
    own = await shadow.claim("shadow-cloud")
    await shadow.sending("shadow-cloud", own, "cloud", [copies[1].number])
    assert await store.promote("cloud") == Promotion(moved=1, stay=2, taken_back=2)
    assert await names(store, "main") == [f"{sent.key}@1", f"{bound.key}@1"]
    (moved,) = await store.queued("cloud", 10)
    assert (moved.command.key, moved.sent) == (unsent.key, True), "the shadow was told: look it up"
    expected = {f"{one.key}@1{rest}" for rest in ("", "/reverse") for one in (sent, bound)}
    assert set(await names(shadow, "cloud")) == expected
    await desk.plan(reverse(sent), post(sent, 2))
    assert f"{sent.key}@1/reverse" in await names(store, "main")
    assert f"{sent.key}@2" not in await names(store, "cloud"), "its copy is still there"
    with pytest.raises(RejectedMessage):
        await store.promote("cloud")


async def test_a_shadow_is_told_nothing_by_its_own_gateway_that_is_being_moved(
    store: SqlStore, shadow: SqlShadow, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the instance, which is live now, would be told it a second time without being asked first."""
    await store.shadow("cloud", of="main")
    await desk.plan(post(payment("P")))
    own = await shadow.claim("shadow-cloud")
    (copy,) = await shadow.queued("cloud", 10)
    sending: list[asyncio.Task[set[int]]] = []
    looked = cutover._told_in_shadow

    async def then_its_gateway_goes_on(*arguments: Any) -> Any:
        told = await looked(*arguments)
        sending.append(asyncio.create_task(shadow.sending("shadow-cloud", own, "cloud", [copy.number])))
        await asyncio.sleep(0.3)
        return told

    monkeypatch.setattr(cutover, "_told_in_shadow", then_its_gateway_goes_on)
    await store.promote("cloud")
    (moved,) = await store.queued("cloud", 10)
    assert moved.sent or await sending[0] == set()


async def test_a_number_never_comes_again_in_a_shadows_queue(
    store: SqlStore, shadow: SqlShadow, desk: Desk
) -> None:
    """Its gateway may still tell what a promotion took from the queue."""
    await store.shadow("cloud", of="main")
    await desk.plan(post(payment("P")))
    (one,) = await shadow.queued("cloud", 10)
    epoch = await shadow.claim("shadow-cloud")
    await shadow.finished("shadow-cloud", epoch, [one.number])
    await desk.plan(post(payment("Q")))
    (other,) = await shadow.queued("cloud", 10)
    assert other.number > one.number


async def test_commits_beside_a_promotion_go_to_one_instance_each(store: SqlStore, shadow: SqlShadow) -> None:
    await store.shadow("cloud", of="main")
    desks = [Desk(store, host=f"host-{number}") for number in range(3)]

    async def plan(desk: Desk, name: str) -> None:
        for number in range(15):
            await desk.plan(post(payment(f"{name}-{number}")))

    async def promote() -> None:
        await asyncio.sleep(0.03)
        await store.promote("cloud")

    await asyncio.gather(*(plan(desk, f"P{n}") for n, desk in enumerate(desks)), promote())
    here, there = await names(store, "main"), await names(store, "cloud")
    assert here == [], "nothing had been sent: all of it moved, and what came after went to the new one"
    assert len(there) == len(set(there)) == 45
