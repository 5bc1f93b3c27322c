"""Whoever calls a host among others, whatever becomes of them, tells it what they would tell it alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from structlog.testing import capture_logs

from canonical.envelope import Event
from canonical.errors import Fenced, TransientFailure
from tests.properties.compared import assert_same
from tests.properties.generated import arbitrary, generated, seeds
from tests.properties.moving import Store, Town
from tests.world import World
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.history import Arrival
from twins.core.placement import Placement
from twins.ports import Publication, Rejected, Taken, Verdict
from twins.runtime import gathering, host
from twins.runtime.host import TwinHost

CALLERS = 6


class Troubled(Store):
    """Commits and reads fail: by the world's fault, before or after all is stored, and by ours."""

    at_rest = False

    def strikes(self, what: str, rate: float) -> bool:
        struck = not self.at_rest and self.random.random() < rate
        self.struck[what] += struck
        return struck

    async def load(self, *asked: Any, **more: Any) -> Any:
        if self.strikes("a bug in folding", 0.05):
            raise ZeroDivisionError
        return await super().load(*asked, **more)

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution],
        placement: Placement,
    ) -> None:
        if self.strikes("refused", 0.1):
            raise TransientFailure("the database is away")
        if self.strikes("a bug in committing", 0.05):
            raise ZeroDivisionError
        await super().commit(host, epoch, effects, delivered, placement)
        self.struck["together"] += len(effects.events) > 3
        self.struck["with mail"] += bool(effects.events and delivered)
        if self.strikes("in doubt", 0.1):
            raise TransientFailure("the database was away before it answered")


class Rush(Town):
    """Two hosts, and callers who all call at once, give up and come again."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.store: Troubled = Troubled(random)
        self.store.place(lambda _: Placement(2))
        self.new: Counter[str] = Counter()
        """Events that somebody was told were new."""

    async def tell(self, events: Sequence[Event]) -> None:
        for caller in self.callers:
            caller.placement = self.store.now
        told = [*events, *events]
        self.random.shuffle(told)
        await asyncio.gather(*(self._call(told[number::CALLERS]) for number in range(CALLERS)))
        self.store.at_rest = True
        await self._rest()

    async def _call(self, events: list[Event]) -> None:
        """Some at a time, all of one host, until they are taken."""
        while events:
            name = self.store.now.host_of(events[0].subject)
            size = self.random.randint(1, 3)
            batch = [one for one in events[:size] if self.store.now.host_of(one.subject) == name]
            events = [one for one in events if not any(one is other for other in batch)]
            while not await self._taken(self._host(name), batch):
                await self.store.dawdle()

    async def _taken(self, one: TwinHost, batch: list[Event]) -> bool:
        taking = asyncio.create_task(self._take(one, batch))
        if self._draws("given up", 0.2):
            for _ in range(self.random.randrange(12)):
                await asyncio.sleep(0)
            taking.cancel()
        await asyncio.wait([taking])
        if taking.cancelled():
            return False
        with suppress(TransientFailure):
            verdicts = taking.result()
            for event, verdict in zip(batch, verdicts, strict=True):
                if isinstance(verdict, Taken):
                    assert self.store.stored[_key(event)] == 1, "answered before it is stored"
                    self.new[_key(event)] += verdict.arrival is not Arrival.DUPLICATE
            return not any(isinstance(verdict, Rejected) for verdict in verdicts)
        return False

    async def _take(self, one: TwinHost, batch: list[Event]) -> list[Verdict]:
        if self._draws("as events", 0.5):
            return await one.take_events(batch)
        messages = [Publication(event.structured()) for event in batch]
        return await one.take(messages, may_wait=self._draws("may wait", 0.3))

    async def absorb(self, host: str, contributions: list[Contribution]) -> None:
        """A bug in taking it is logged by who sent it; it is swept, as what was lost."""
        with suppress(ZeroDivisionError, Fenced):
            await super().absorb(host, contributions)


def _key(event: Event) -> str:
    return f"{event.subject} {event.event_id} {event.digest().hex()}"


def test_calls_that_are_taken_together_end_as_facts_that_are_taken_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They fail, are given up and come again; nobody is answered early, and one at most is told of news."""
    monkeypatch.setattr(gathering, "TOGETHER_MAX", 8)
    monkeypatch.setattr(host, "AHEAD", 6)
    struck: Counter[str] = Counter()
    together, linger = host._together, host.TwinHost._linger

    def counted(group: Sequence[Any]) -> tuple[Effects, list[Contribution]]:
        struck["several batches in a commit"] += len(group) > 1
        return together(group)

    def lingering(one: TwinHost) -> None:
        struck["lingering"] += 1
        linger(one)

    monkeypatch.setattr(host, "_together", counted)
    monkeypatch.setattr(TwinHost, "_linger", lingering)
    monkeypatch.setattr(host, "LINGER_S", 0.002)

    @generated()
    @given(arbitrary, seeds)
    def check(events: list[Event], seed: int) -> None:
        rush = Rush(Random(seed))
        with capture_logs():
            asyncio.run(asyncio.wait_for(rush.tell(events), 60))
        assert_same(rush.all_twins(), World().take_each(events).twins)
        assert set(rush.store.stored.values()) <= {1}, "an event is stored once"
        assert set(rush.new.values()) <= {0, 1}, "one is told that it is new"
        struck.update(rush.store.struck)

    check()
    assert len(struck) == 12, struck
    assert min(struck.values()) > 10, struck
