"""Whoever waits for news of a twin hears of it from its host, as soon as it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import replace
from typing import Any

import pytest

from canonical.envelope import Event
from canonical.errors import Elsewhere, TransientFailure
from canonical.facts.order import PaymentCaptured
from canonical.identity import TwinRef, order
from tests.stories import ORDER, placed
from tests.unit.test_host import FickleStore, host, messages
from tests.unit.test_host import store as store
from tests.unit.test_http_api import OneHost
from tests.world import tell
from twins.core.placement import Placement
from twins.core.twin import Stored
from twins.runtime.coalesce import LOOK_EVERY_S, Answer, CoalescedReads
from twins.runtime.host import Aspect, TwinHost
from twins.runtime.ingest import Directory

PATIENCE_S = 20.0
REF = order(ORDER)


def paid(minute: int) -> Event:
    fact = PaymentCaptured(payment_id=f"P-{minute}", amount="1", currency="USD")
    return tell(REF, fact, minute)


def news(one: TwinHost, known: int | None = None, patience_s: float = PATIENCE_S) -> asyncio.Task[Any]:
    return asyncio.create_task(one.news(Aspect.DOCUMENT, REF, known, patience_s))


async def version(one: TwinHost) -> int:
    (answer,) = await one.read(Aspect.DOCUMENT, [REF])
    assert answer is not None
    return answer[0]


async def still_waits(*asked: asyncio.Task[Any]) -> None:
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in asked)


async def soon(asked: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S / 4):
        return await asked


async def test_all_who_wait_for_a_twin_hear_of_it(store: FickleStore) -> None:
    one = host(store)
    asked = [news(one) for _ in range(3)]
    await still_waits(*asked)
    await one.take(messages(placed()))
    answers = [await soon(each) for each in asked]
    assert {answer[0] for answer in answers} == {await version(one)}


async def test_who_waits_for_what_nobody_has_told_of_looks_once(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, looked, load = host(store), 0, store.load

    async def loading(refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        nonlocal looked
        looked += 1
        return await load(refs, whole=whole)

    monkeypatch.setattr(store, "load", loading)
    asked = [news(one) for _ in range(3)]
    while looked < len(asked):
        await asyncio.sleep(0.01)
    await still_waits(*asked)
    assert looked == len(asked)
    for each in asked:
        each.cancel()
    await asyncio.wait(asked)


async def test_news_is_a_version_that_is_not_known(store: FickleStore) -> None:
    one = host(store)
    await one.take(messages(placed()))
    known = await version(one)
    assert (await soon(news(one, known - 1)))[0] == known
    asked = news(one, known)
    await still_waits(asked)
    await one.take(messages(placed(order="SO-OTHER")))
    await still_waits(asked)
    await one.take(messages(paid(5)))
    assert (await soon(asked))[0] > known


async def test_news_is_told_when_it_is_committed_and_not_before(store: FickleStore) -> None:
    one = host(store)
    store.gate = asyncio.Event()
    asked, taking = news(one), asyncio.create_task(one.take(messages(placed())))
    await still_waits(asked)
    store.let_pass()
    await taking
    assert await soon(asked)


async def test_patience_ends_with_what_there_is(store: FickleStore) -> None:
    one = host(store)
    assert await soon(news(one, patience_s=0.05)) is None
    await one.take(messages(placed()))
    known = await version(one)
    assert (await soon(news(one, known, 0.05)))[0] == known


async def test_nothing_is_kept_for_those_who_do_not_wait_any_more(store: FickleStore) -> None:
    one = host(store)
    gone = news(one)
    await still_waits(gone)
    gone.cancel()
    await asyncio.wait([gone])
    await soon(news(one, patience_s=0.01))
    assert not one._waiting
    assert not one._waiting_count


async def test_so_many_may_wait_at_a_host_that_others_are_answered(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twins.runtime.host.WAITING_MAX", 2)
    one = host(store)
    asked = [news(one), news(one)]
    await still_waits(*asked)
    assert await soon(news(one)) is None
    await one.take(messages(placed()))
    assert all([await soon(each) for each in asked])


async def test_what_a_failed_commit_may_have_written_is_looked_at(store: FickleStore) -> None:
    """Its answer was lost: nobody knows whether it stands until somebody looks."""
    one, commit = host(store), store.commit
    await one.take(messages(placed()))
    asked = news(one, await version(one))
    await still_waits(asked)

    async def commit_and_fail(*arguments: Any) -> None:
        await commit(*arguments)
        raise TransientFailure("the answer was lost")

    store.commit = commit_and_fail  # type: ignore[method-assign]
    with pytest.raises(TransientFailure):
        await one.take(messages(paid(5)))
    assert await soon(asked)


async def test_who_waits_for_a_twin_that_goes_elsewhere_is_told_where(store: FickleStore) -> None:
    one = host(store)
    await one.take(messages(placed()))
    asked = news(one, await version(one))
    await still_waits(asked)
    await store.place(lambda now: replace(now, pinned=now.pinned | {REF}))
    await one.look()
    with pytest.raises(Elsewhere):
        await soon(asked)


class TwoHosts(OneHost):
    """The twin has moved from the first to the second, and the first answers that."""

    def __init__(self, second: TwinHost, placement: Placement) -> None:
        super().__init__(second)
        self.placed = placement
        self.asked: list[str] = []

    async def news(self, host: str, aspect: Any, ref: TwinRef, known: Any, patience_s: float) -> Any:
        self.asked.append(host)
        if host != self.placed.host_of(ref):
            raise Elsewhere(self.placed)
        return await super().news(host, aspect, ref, known, patience_s)


async def test_a_twin_that_has_moved_is_followed(store: FickleStore) -> None:
    moved = replace(Placement(), version=1, pinned=frozenset({REF}))
    second = TwinHost(moved.host_of(REF), store, host(store)._clock, host(store)._policy, placement=moved)
    await store.place(lambda now: replace(now, pinned=now.pinned | {REF}))
    calls = TwoHosts(second, moved)
    asked = asyncio.create_task(Directory(Placement(), calls).news(Aspect.DOCUMENT, REF, None, PATIENCE_S))
    await still_waits(asked)
    await second.take(messages(placed()))
    assert await soon(asked)
    assert calls.asked == [Placement().host_of(REF), moved.host_of(REF)]


class NobodyWaits(OneHost):
    async def news(self, host: str, aspect: Any, ref: TwinRef, known: Any, patience_s: float) -> Any:
        return (await self.read(host, aspect, [ref]))[0]


class Looks(CoalescedReads):
    looks = 0

    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer:
        self.looks += 1
        return await super().read(aspect, ref)


async def test_where_nobody_may_wait_all_look_again_together(store: FickleStore) -> None:
    one = host(store)
    calls = NobodyWaits(one)
    reads = Looks(Directory(Placement(), calls))
    asked = [asyncio.create_task(reads.news(Aspect.DOCUMENT, REF, None, PATIENCE_S)) for _ in range(50)]
    async with asyncio.timeout(PATIENCE_S):
        while reads.looks < 5 * len(asked):
            await asyncio.sleep(LOOK_EVERY_S)
    assert calls.reads - len(asked) < reads.looks, "those who look again travel together"
    await one.take(messages(placed()))
    assert all([await soon(each) for each in asked])
    assert await reads.news(Aspect.DOCUMENT, order("SO-404"), None, 0.1) is None
