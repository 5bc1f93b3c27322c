"""A host that lost its epoch cannot commit, notices, and stops; on both databases."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json, to_json

from adapters.sql.engine import is_sqlite
from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.errors import Elsewhere, Fenced, TransientFailure
from canonical.facts.order import OrderAllocated
from canonical.identity import order
from tests.contracts.frozen_host import TUNING
from tests.stories import LOCATION, ORDER, dispatched, master_data, placed
from tests.unit.test_host import Clock, document
from tests.world import World, tell
from twins.core.history import Arrival
from twins.core.rules import Policy
from twins.ports import Publication, Taken
from twins.runtime.host import TwinHost


def incarnation(store: SqlStore) -> TwinHost:
    return TwinHost("host-0", store, Clock(), Policy())


def told(name: str) -> list[Publication]:
    return [Publication(placed(order=name).structured())]


async def test_the_newer_incarnation_commits_and_the_older_one_never_again(store: SqlStore) -> None:
    old, new = incarnation(store), incarnation(store)
    await old.take(told("SO-1"))
    await new.take(told("SO-2"))
    for _ in range(2):
        with pytest.raises(Fenced):
            await old.take(told("SO-3"))
    assert await new.take(told("SO-3")) == [Taken(Arrival.NEW)]
    assert await new.take(told("SO-1")) == [Taken(Arrival.DUPLICATE)]


async def test_an_idle_host_notices_that_it_was_replaced_and_forgets(store: SqlStore) -> None:
    old, new = incarnation(store), incarnation(store)
    await old.take(told("SO-1"))
    await new.take(told("SO-2"))
    with pytest.raises(Fenced):
        await asyncio.wait_for(old.run_timers(timedelta(milliseconds=10)), 10)
    assert old.resident_twins() == 0


@pytest.mark.parametrize("where", ["before", "within"])
async def test_a_host_that_froze_in_the_middle_and_comes_back_is_fenced(
    database_url: str, store: SqlStore, where: str
) -> None:
    """Its successor need not wait for it, unless it holds SQLite's only lock, which nobody can take away."""
    opened = SqlStore(database_url, tuning=TUNING)
    heir = incarnation(opened)
    async with frozen_host(database_url, where) as (child, outcomes):
        if is_sqlite(database_url) and where == "within":
            with pytest.raises(TransientFailure, match="locked"):
                await heir.take(told("NEW-1"))
        else:
            await takes(heir, "NEW-1")
        child.send_signal(signal.SIGCONT)
        await takes(heir, "NEW-1")
        await takes(heir, "NEW-2")
        assert await asyncio.wait_for(child.wait(), 60) == 0
        said = (await outcomes.read()).decode().split()
    assert said[-1] == "fenced"
    assert set(said[:-1]) <= {"taken", "transient"}
    committed = 1 + said.count("taken")
    found = [await document(heir, order(f"OLD-{number}")) for number in range(committed + 1)]
    assert [one is not None for one in found] == [True] * committed + [False]
    assert await document(heir, order("NEW-2")) is not None
    await opened.close()


async def takes(host: TwinHost, name: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await host.take(told(name))
            except TransientFailure:
                await asyncio.sleep(0.1)
            else:
                return


@asynccontextmanager
async def frozen_host(
    url: str, where: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """A host that has taken one order and froze as it committed the next; and what it says after that."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contracts.frozen_host", url, where, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        assert await asyncio.wait_for(child.stdout.readline(), 60) == b"taken\n"
        async with asyncio.timeout(30):
            while not is_stopped(child.pid):
                await asyncio.sleep(0.02)
        yield child, child.stdout
    finally:
        if child.returncode is None:
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_what_a_successor_read_before_it_took_over_is_not_what_it_folds_upon(store: SqlStore) -> None:
    """The older one may have gone on until then."""
    old, new = incarnation(store), incarnation(store)
    sold, allocated, shipped = story()
    await old.take(messages(*master_data(), sold))
    assert await document(new, ORDER_TWIN) is not None
    await old.take(messages(allocated))
    assert (await document(new, ORDER_TWIN))["lines"] == (await document(old, ORDER_TWIN))["lines"]
    await new.take(messages(shipped))
    await agrees(store, [*master_data(), sold, allocated, shipped])


async def test_a_commit_that_seemed_to_fail_has_ended_before_anything_is_folded_anew(
    database_url: str, store: SqlStore
) -> None:
    """Its connection was lost, and the server went on with it."""
    sold, allocated, shipped = story()
    slow = Slow(database_url)
    unsure = Unsure(database_url, slow)
    host = incarnation(unsure)
    await host.take(messages(*master_data(), sold))
    unsure.loses_its_connection = True
    with pytest.raises(TransientFailure):
        await host.take(messages(allocated))
    await host.take(messages(shipped))
    await unsure.close()
    await slow.close()
    await agrees(store, [*master_data(), sold, allocated, shipped])


async def test_a_commit_is_waited_for_that_seems_to_fail_while_it_is_asked_whose_twins_they_are(
    database_url: str, store: SqlStore
) -> None:
    sold, allocated, shipped = story()
    slow = Slow(database_url)
    unsure = Unsure(database_url, slow, fails_after_s=0.2)
    host = incarnation(unsure)
    await host.take(messages(*master_data(), sold))
    unsure.loses_its_connection = True
    failing = asyncio.create_task(host.take(messages(allocated)))
    await asyncio.to_thread(slow.is_writing.wait, 10)
    foreign = placed(order="SO-9")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(host, "_are_mine", lambda refs: foreign.subject not in set(refs))
        patched.setattr(host, "_look", host._rest)
        async with host._turn.mine():
            together = [asyncio.create_task(host.take(messages(one))) for one in (shipped, foreign)]
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(failing, *together, return_exceptions=True)
    assert [type(one) for one in answers] == [TransientFailure, list, Elsewhere]
    await unsure.close()
    await slow.close()
    await agrees(store, [*master_data(), sold, allocated, shipped])


ORDER_TWIN = order(ORDER)


def story() -> tuple[Event, Event, Event]:
    allocated = tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=10), 5)
    return placed(), allocated, dispatched("SHP-1", 4, 60)


class Slow(SqlStore):
    """A server that takes its time for a transaction, which holds the host's row meanwhile."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.is_writing = threading.Event()

    def _write(self, *what: Any) -> None:
        super()._write(*what)
        self.is_writing.set()
        time.sleep(0.5)


class Unsure(SqlStore):
    def __init__(self, url: str, slow: Slow, fails_after_s: float = 0.0) -> None:
        super().__init__(url)
        self.loses_its_connection = False
        self._fails_after_s = fails_after_s
        self._slow = slow
        self._goes_on: asyncio.Task[None] | None = None

    async def commit(self, *what: Any) -> None:
        if not self.loses_its_connection:
            return await super().commit(*what)
        self.loses_its_connection = False
        self._goes_on = asyncio.create_task(self._slow.commit(*what))
        await asyncio.to_thread(self._slow.is_writing.wait, 10)
        await asyncio.sleep(self._fails_after_s)
        raise TransientFailure("connection lost")

    async def close(self) -> None:
        if self._goes_on is not None:
            await self._goes_on
        await super().close()


async def agrees(store: SqlStore, events: Sequence[Event]) -> None:
    """All twins are what the core makes of the facts."""
    expected = World().take_each(events)
    reader = incarnation(store)
    for ref, twin in expected.twins.items():
        found = await document(reader, ref)
        assert found is not None, ref
        del found["version"]
        assert found == from_json(to_json(twin.snapshot().document())), ref
    live = await store.live_postings()
    assert {key: record.posting for key, record in live.items()} == expected.live()


def messages(*events: Event) -> list[Publication]:
    return [Publication(event.structured()) for event in events]
