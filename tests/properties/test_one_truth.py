"""Any order, any repetition, any batch: the same set of facts gives the same twins and the same postings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import given, settings

from canonical.envelope import Event
from canonical.facts.base import Retracted
from tests.properties.compared import assert_same
from tests.properties.generated import COUNTING, EXAMPLES, TOLD, arbitrary, generated, seeds
from tests.world import World
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin


def test_generated_histories_tell_every_fact_of_the_catalogue() -> None:
    """A property says nothing about facts, sources and clashes that no example has."""
    types: Counter[str] = Counter()
    met: Counter[str] = Counter()

    @settings(generated(), max_examples=max(EXAMPLES, 400), derandomize=True)
    @given(arbitrary)
    def collect(events: list[Event]) -> None:
        types.update(event.type for event in events)
        met.update(_met(events))

    collect()
    assert types.keys() == TOLD
    assert min(met[what] for what in _ALL_MET) >= 5, met


_ALL_MET = (
    "conflict",
    "gap",
    "clock behind its numbers",
    "retraction",
    "of an unknown id",
    "of a conflicted id",
    "of a retraction",
    "by another source",
    "told first",
)


def _met(events: list[Event]) -> set[str]:
    """What an example has of all that the generator is for."""
    met: set[str] = set()
    place = {}
    versions: dict[tuple[object, str], set[bytes]] = {}
    for number, event in enumerate(events):
        place.setdefault((event.subject, event.event_id), (number, event))
        versions.setdefault((event.subject, event.event_id), set()).add(event.digest())
    conflicted = {where for where, known in versions.items() if len(known) > 1}
    met |= {"conflict"} if conflicted else set()
    for number, event in enumerate(events):
        if not isinstance(event.fact, Retracted):
            continue
        target = (event.subject, f"{event.fact.source}#{event.fact.id}")
        first, gone = place.get(target, (number, None))
        met.add("retraction")
        met |= {"of an unknown id"} if gone is None else set()
        met |= {"of a conflicted id"} if target in conflicted else set()
        met |= {"of a retraction"} if gone is not None and isinstance(gone.fact, Retracted) else set()
        met |= {"by another source"} if event.source != event.fact.source else set()
        met |= {"told first"} if first > number else set()
    for source in COUNTING:
        told = sorted(
            ((one.sequence, one.time) for one in events if one.source == source and one.sequence is not None),
        )
        for (before, then), (after, later) in pairwise(told):
            met |= {"gap"} if after > before + 1 else set()
            met |= {"clock behind its numbers"} if later < then else set()
    return met


@generated()
@given(arbitrary, seeds)
def test_any_order_and_repetition_of_any_history_is_the_same_truth(events: list[Event], seed: int) -> None:
    random = Random(seed)
    ordered = World().take_each(sorted(events, key=lambda one: (one.time, one.event_id))).confirm()
    again = events + [_redelivered(one, random) for one in random.sample(events, k=len(events) // 2)]
    random.shuffle(again)
    shuffled = World()
    while again:
        size = random.randint(1, 6)
        shuffled.take(again[:size])
        again = again[size:]
        if random.random() < 0.3:
            shuffled.confirm()
    shuffled.confirm()
    assert_same(shuffled.twins, ordered.twins)


def _redelivered(event: Event, random: Random) -> Event:
    """The same fact once more, by another way now and then."""
    return random.choice([event, replace(event, traceparent=f"00-{random.getrandbits(128):032x}-1-01")])


@generated()
@given(arbitrary, seeds)
def test_all_at_once_is_the_same_truth_as_one_by_one(events: list[Event], seed: int) -> None:
    ordered = World().take_each(events).confirm()
    together = World()
    together.take(Random(seed).sample(events, k=len(events)))
    assert_same(together.confirm().twins, ordered.twins)


@generated()
@given(arbitrary)
def test_a_twin_restored_from_what_is_stored_is_the_twin_that_was(events: list[Event]) -> None:
    world = World().take_each(events)
    for ref, twin in world.twins.items():
        versions = [kept for known in twin.history._conflicts.values() for kept in known.values()]
        stored = Stored(
            twin.version,
            (*twin.history.all_events(), *versions, *twin.replies.values()),
            tuple(twin.registers.values()),
            tuple(twin.ledger),
        )
        again = Twin.restore(ref, Policy(), stored)
        assert again.snapshot().document() == twin.snapshot().document()
        assert again.contributed == twin.contributed
        assert again.live_postings() == twin.live_postings()
