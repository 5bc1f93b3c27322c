"""Where twins live may change at any moment, and neither what they are nor what is told once comes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical.envelope import Event
from canonical.identity import TwinRef, order
from tests.properties.compared import assert_same
from tests.properties.generated import arbitrary, generated, seeds
from tests.properties.moving import Town
from tests.world import World
from twins.core.placement import HOSTS_MAX, Placement
from twins.runtime import ingest


def test_twins_that_move_while_events_come_end_as_those_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts come, go and die; callers do not know; mail is lost; a twin goes and comes back unnoticed."""
    monkeypatch.setattr(ingest, "MOVING_LOOK_S", 0)
    struck: Counter[str] = Counter()

    @generated()
    @given(arbitrary, seeds)
    def check(events: list[Event], seed: int) -> None:
        town = Town(Random(seed))
        asyncio.run(asyncio.wait_for(town.tell(events), 60))
        assert_same(town.all_twins(), World().take_each(events).twins)
        assert set(town.store.stored.values()) <= {1}, "an event is stored once"
        struck.update(town.store.struck)

    check()
    assert len(struck) == 9, struck
    assert min(struck.values()) > 10, struck


REFS = [order(f"SO-{number}") for number in range(2_000)]


@generated(0.1)
@given(st.integers(1, HOSTS_MAX))
def test_twins_are_spread_evenly(hosts: int) -> None:
    slots = Counter(Placement(hosts).host_of(ref) for ref in REFS)
    assert set(slots) <= set(Placement(hosts).pooled_names())
    assert max(slots.values()) <= 2_000 / hosts * 1.3 + 25


@generated(0.1)
@given(st.integers(1, HOSTS_MAX - 1))
def test_one_more_host_takes_its_share_and_no_twin_moves_otherwise(hosts: int) -> None:
    before, after = Placement(hosts), Placement(hosts + 1)
    moved = [ref for ref in REFS if before.host_of(ref) != after.host_of(ref)]
    assert {after.host_of(ref) for ref in moved} <= {f"host-{hosts}"}
    assert len(moved) <= 2_000 / (hosts + 1) * 1.3 + 25


@generated(0.1)
@given(st.integers(1, 9), st.sampled_from(REFS))
def test_a_pinned_twin_has_its_own_host_and_moves_no_other(hosts: int, ref: TwinRef) -> None:
    before = Placement(hosts)
    after = replace(before, pinned=frozenset({ref}))
    assert after.host_of(ref) == str(ref)
    assert [one for one in REFS if before.host_of(one) != after.host_of(one)] == [ref]
    assert after.names(str(ref))
    assert not before.names(str(ref))
