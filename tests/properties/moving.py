"""Real hosts and directories over one shelf, while somebody changes where twins live."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from canonical.envelope import Event
from canonical.errors import Elsewhere, Fenced, Moving, TransientFailure
from canonical.identity import TwinRef
from tests.properties.hosts import CROWD, Shelf
from tests.unit.test_host import Clock
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.placement import UNPLACED, Placement, is_dedicated
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin
from twins.ports import Archived, Verdict
from twins.runtime.host import Aspect, Residency, TwinHost
from twins.runtime.ingest import Directory

HOSTS_MAX = 4
SWEEPS_MAX = 200


@dataclass
class Store:
    """A TwinStore without a database: as slow, in turns of the event loop, as it is drawn to be."""

    random: Random
    shelf: Shelf = field(default_factory=Shelf)
    now: Placement = UNPLACED
    stored: Counter[str] = field(default_factory=Counter)
    """Events that were new when they were committed, by id."""
    struck: Counter[str] = field(default_factory=Counter)

    async def dawdle(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    def place(self, change: Callable[[Placement], Placement]) -> None:
        self.now = replace(change(self.now), version=self.now.version + 1)

    async def placement(self) -> Placement:
        await self.dawdle()
        return self.now

    async def claim(self, host: str) -> int:
        return self.shelf.claim(host)

    async def assert_epoch(self, host: str, epoch: int) -> int:
        await self.dawdle()
        if self.shelf.epochs[host] != epoch:
            raise Fenced(host)
        return self.now.version

    async def load(self, refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        await self.dawdle()
        return {ref: self.shelf.fetch(ref, whole=whole) for ref in refs}

    async def known(self, told: Collection[Event]) -> set[TwinRef]:
        return {event.subject for event in told if self.shelf.holds(event)}

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution],
        placement: Placement,
    ) -> None:
        await self.dawdle()
        refs = {*effects.touched, *(one.target for one in delivered)}
        if placement.version != self.now.version:
            self.struck["committed by an older placement"] += 1
            if not placement.still_owns(host, refs, self.now):
                self.struck["refused"] += 1
                raise Elsewhere(self.now)
        for ref in refs:
            assert self.now.host_of(ref) == host, f"{host} commits {ref}"
        self.shelf.keep(host, epoch, effects, delivered)
        for event, _ in effects.events:
            self.stored[f"{event.subject} {event.event_id} {event.digest().hex()}"] += 1
        await self.dawdle()

    async def mail(self, limit: int, after: Contribution | None = None) -> list[Contribution]:
        waiting = sorted(self.shelf.mail.values(), key=_place)
        return [one for one in waiting if after is None or _place(one) > _place(after)][:limit]

    async def due(self, now: Any, limit: int) -> list[Any]:
        return []

    async def raised(self, refs: Any, now: Any) -> None:
        """Nothing is ever due."""

    async def closed(self, before: Any, after: Any, limit: int) -> list[Any]:
        return []

    async def archive(self, host: str, epoch: int, refs: Any, placement: Placement) -> Archived:
        raise NotImplementedError

    async def history(self, ref: TwinRef) -> list[Any]:
        raise NotImplementedError

    async def rows(self, wanted: Any, limit: int) -> list[Any]:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


class Town:
    """Hosts as they run, and how they are called: implements HostCalls."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.store = Store(random)
        self.hosts: dict[str, TwinHost] = {}
        self.callers = [Directory(UNPLACED, self) for _ in range(3)]
        """Each with its own idea of where twins live."""

    # --- calls

    async def placement(self) -> Placement:
        return await self._host("host-0").look()

    async def take(self, host: str, messages: Any, *, may_wait: bool) -> list[Verdict]:
        return await self._called(host, lambda one: one.take(messages, may_wait=may_wait))

    async def take_events(self, host: str, events: list[Event]) -> list[Verdict]:
        return await self._called(host, lambda one: one.take_events(events))

    async def absorb(self, host: str, contributions: list[Contribution]) -> None:
        if self._draws("mail lost", 0.2):
            return
        await self._called(host, lambda one: one.absorb(contributions))

    async def read(self, host: str, aspect: Aspect, refs: list[TwinRef]) -> list[tuple[int, bytes] | None]:
        return await self._called(host, lambda one: one.read(aspect, refs))

    async def _called(self, host: str, call: Callable[[TwinHost], Coroutine[Any, Any, Any]]) -> Any:
        await self.store.dawdle()
        one = self._host(host)
        answer = await call(one)
        if self.hosts.get(host) is not one and self.random.random() < 0.5:
            raise Moving("it ended before it could answer")
        return answer

    def _host(self, name: str) -> TwinHost:
        if name not in self.hosts:
            if not is_dedicated(name) and name not in self.store.now.pooled_names():
                raise Moving(f"no {name}")
            self.hosts[name] = TwinHost(
                name,
                self.store,
                Clock(),
                Policy(),
                residency=Residency(twins_max=self.random.choice([2, 1_000])),
                post=self.random.choice(self.callers).post,
                crowd=CROWD,
            )
        return self.hosts[name]

    # --- what happens

    async def tell(self, events: Sequence[Event]) -> None:
        """In any order and twice, by callers that give up only when it is taken."""
        told = [*events, *events]
        self.random.shuffle(told)
        batches = []
        while told:
            size = self.random.randint(1, 3)
            batches.append(told[:size])
            del told[:size]
        moving = asyncio.create_task(self._move([event.subject for event in events]))
        each = [batches[number :: len(self.callers)] for number in range(len(self.callers))]
        await asyncio.gather(*map(self._send, self.callers, each))
        moving.cancel()
        await asyncio.wait([moving])
        if not moving.cancelled():
            await moving
        await self._rest()

    async def _send(self, caller: Directory, batches: list[list[Event]]) -> None:
        for batch in batches:
            while True:
                try:
                    await caller.take_events(batch)
                    break
                except (TransientFailure, Fenced):
                    await self.store.dawdle()
            for _ in range(self.random.randrange(100)):
                await asyncio.sleep(0)
            if self._draws("read", 0.2):
                await caller.read(Aspect.DOCUMENT, [batch[0].subject])

    async def _move(self, refs: list[TwinRef]) -> None:
        hot = [ref for ref, _ in Counter(refs).most_common(2)]
        while True:
            for _ in range(self.random.randrange(60)):
                await asyncio.sleep(0)
            change = self._change(self.random.choice(hot))
            for _ in range(self.random.choice([1, 2])):
                self.store.place(change)
                self.store.struck["moved"] += 1
                for caller in self.callers:
                    if self._draws("heard", 0.5):
                        caller.placement = self.store.now
                for _ in range(self.random.choice([0, 10, 40])):
                    await asyncio.sleep(0)
            for name, host in list(self.hosts.items()):
                if self._draws("told", 0.3):
                    await host.look()
                if not self.store.now.names(name) and self._draws("ended", 0.5):
                    await host.drain()
                    self.hosts.pop(name, None)
                elif self._draws("died", 0.05):
                    self.hosts.pop(name, None)

    def _change(self, ref: TwinRef) -> Callable[[Placement], Placement]:
        """Mostly a twin that goes away, or comes back."""
        if self.random.random() < 0.3:
            count = self.random.randint(1, HOSTS_MAX)
            return lambda now: replace(now, pooled_hosts=count)
        return lambda now: replace(now, pinned=now.pinned ^ {ref})

    def _draws(self, what: str, rate: float) -> bool:
        struck = self.random.random() < rate
        self.store.struck[what] += struck
        return struck

    async def _rest(self) -> None:
        """Sweep until no letter is on its way."""
        for _ in range(SWEEPS_MAX):
            if not self.store.shelf.mail:
                return
            await self._host("host-0").sweep()
            for host in list(self.hosts.values()):
                while host._errands:
                    await asyncio.wait(host._errands)
        raise AssertionError(f"{len(self.store.shelf.mail)} letters are never taken")

    def all_twins(self) -> dict[TwinRef, Twin]:
        """Every twin as the shelf has it, read by nobody who remembers anything."""
        shelf = self.store.shelf
        return {ref: Twin.restore(ref, Policy(), shelf.fetch(ref)) for ref in sorted(shelf.versions)}


def _place(letter: Contribution) -> tuple[str, str]:
    return str(letter.target), str(letter.source)
