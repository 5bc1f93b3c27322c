"""What many wait to hear from one twin is told to a few at a time, and whoever else comes goes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from adapters.sql.engine import sqlite_url
from canonical.envelope import Event
from canonical.facts.reference import ItemUpserted
from canonical.identity import TwinRef, twin_ref
from tests.stories import SKU, dispatched, master_data, placed
from tests.unit.test_host import FickleStore, document, host, messages
from tests.world import World, tell
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.placement import UNPLACED, Placement
from twins.runtime.host import TwinHost

DEALERS, CROWD = 40, 6


class Watched(FickleStore):
    """Notes which twins each commit changes."""

    commits: list[set[TwinRef]]

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        await super().commit(host, epoch, effects, delivered, placement)
        self.commits.append(set(effects.touched))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    opened = Watched(sqlite_url(tmp_path))
    opened.commits = []
    await opened.migrate()
    yield opened
    await opened.close()


def dealings() -> list[Event]:
    """Orders and their shipments, all of one item."""
    names = [f"SO-{number}" for number in range(DEALERS)]
    orders = [placed(1, number, name) for number, name in enumerate(names)]
    shipments = [
        dispatched(f"SHP-{number}", 1, 100 + number, order=name) for number, name in enumerate(names)
    ]
    return [*master_data(), *orders, *shipments]


def dearer() -> Event:
    """Told late, of before all that was dispatched: each goods issue is to be posted anew."""
    return tell(f"item/{SKU}", ItemUpserted(revision=2, title="W", unit_cost="9.00", currency="USD"), -1)


async def at_rest(one: TwinHost, store: Watched) -> None:
    async with asyncio.timeout(20):
        while await store.mail(1):
            await one.sweep()
            await asyncio.sleep(0.01)


async def host_of_dealers(store: Watched) -> TwinHost:
    """All that deal in the item have heard of it."""
    one = host(store, crowd=CROWD)
    await one.take(messages(*dealings()))
    await at_rest(one, store)
    return one


async def is_as_if_all_were_told_at_once(one: TwinHost, store: Watched, events: list[Event]) -> None:
    expected = World().take_each(events)
    assert {key: one.posting for key, one in (await store.live_postings()).items()} == expected.live()
    for ref, twin in expected.twins.items():
        found, wanted = await document(one, ref), twin.snapshot().document()
        assert found is not None
        assert found["status"] == str(wanted["status"])
        assert found.get("findings") == wanted.get("findings")


async def test_a_crowd_is_told_a_few_at_a_time(store: Watched) -> None:
    one = await host_of_dealers(store)
    store.commits.clear()
    await one.take(messages(dearer()))
    await at_rest(one, store)
    assert store.commits[0] == {twin_ref(f"item/{SKU}")}
    assert max(map(len, store.commits)) < DEALERS
    assert len(store.commits) > DEALERS // CROWD
    await is_as_if_all_were_told_at_once(one, store, [*dealings(), dearer()])


async def test_whoever_comes_meanwhile_does_not_wait_for_the_whole_crowd(store: Watched) -> None:
    one = await host_of_dealers(store)
    await one.take(messages(dearer()))
    await one.take(messages(placed(1, 500, "SO-NEW")))
    assert len(await store.mail(DEALERS)) > DEALERS // 2
    await at_rest(one, store)
    await is_as_if_all_were_told_at_once(one, store, [*dealings(), dearer(), placed(1, 500, "SO-NEW")])


async def test_a_host_that_dies_while_it_tells_leaves_the_rest_to_its_successor(store: Watched) -> None:
    one = await host_of_dealers(store)
    await one.take(messages(dearer()))
    left = await store.mail(DEALERS)
    assert left
    successor = host(store, crowd=CROWD)
    await successor.take(messages(placed(1, 600, "SO-NEW")))
    await at_rest(successor, store)
    await is_as_if_all_were_told_at_once(successor, store, [*dealings(), dearer(), placed(1, 600, "SO-NEW")])


async def test_who_asks_in_the_batch_in_which_a_crowd_is_told_hears_it_at_once(store: Watched) -> None:
    one = await host_of_dealers(store)
    await one.take(
        messages(dearer(), placed(1, 500, "SO-NEW"), dispatched("SHP-NEW", 1, 700, order="SO-NEW"))
    )
    posted = await store.live_postings()
    await at_rest(one, store)
    assert [key for key in posted if "SHP-NEW" in key]
