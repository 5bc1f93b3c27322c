"""Each shortcut of the fold ends where the full fold ends: increments, checkpoints, twins read in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical.envelope import Event
from canonical.identity import Kind, twin_ref
from tests.properties.compared import spelled
from tests.properties.generated import (
    ONE_OF_EACH,
    arbitrary,
    generated,
    histories_of,
    plain_histories_of,
    seeds,
    sort,
    sort_key,
    standing,
    stock_histories,
)
from tests.world import World
from twins.core.history import Checkpoint, Folded, Held, History
from twins.core.kinds import RULES
from twins.core.rules import Policy, Waiting
from twins.core.twin import Stored, Twin

EVERY = (1, 2, 3, 32)
"""Events between two checkpoints."""


def history(kind: Kind, every: int = 32, base: Checkpoint[Any] | None = None) -> History[Any]:
    return History(RULES[kind].initial, RULES[kind].evolve, RULES[kind].slip_in, every, base)


def told_at_once(kind: Kind, events: Sequence[Event]) -> History[Any]:
    whole = history(kind)
    for event in events:
        whole.add(event)
    return whole


def seen(fold: Folded[Any]) -> tuple[object, list[tuple[str, str]]]:
    return fold.state, [(held.event.event_id, held.waits_for) for held in fold.held]


# --- increments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_every_step_of_the_fast_path_is_the_full_fold(kind: Kind) -> None:
    @generated(0.3)
    @given(histories_of(kind), seeds)
    def check(events: list[Event], seed: int) -> None:
        random = Random(seed)
        arriving = random.sample(events, k=len(events)) + random.sample(events, k=len(events) // 4)
        quick = [history(kind, every) for every in EVERY]
        for number, event in enumerate(arriving, start=1):
            whole = told_at_once(kind, arriving[:number])
            arrivals = {one.add(event) for one in quick}
            for one in quick:
                assert seen(one.folded()) == seen(whole.folded())
                assert one.conflicts == whole.conflicts
                assert one.retracted == whole.retracted
                assert len(one) == len(whole)
            assert len(arrivals) == 1, "how often checkpoints are made says nothing about what is late"

    check()


@pytest.mark.parametrize("kind", Kind)
def test_the_fold_is_over_what_stands_and_sorted_by_content(kind: Kind) -> None:
    @generated(0.3)
    @given(histories_of(kind))
    def check(events: list[Event]) -> None:
        assert seen(told_at_once(kind, events).folded()) == seen(folded(kind, sort(standing(events))))

    check()


def folded(kind: Kind, ordered: Sequence[Event]) -> Folded[Any]:
    """The rule, with no shortcut: whatever is not enabled yet is tried again after each event that is."""
    state, held = RULES[kind].initial, list[Held]()
    for event in ordered:
        after = RULES[kind].evolve(state, event)
        if isinstance(after, Waiting):
            held.append(Held(event, after.what))
            continue
        state, enabled = after, True
        while enabled:
            enabled, again, held = False, held, []
            for one in again:
                after = RULES[kind].evolve(state, one.event)
                if isinstance(after, Waiting):
                    held.append(Held(one.event, after.what))
                else:
                    state, enabled = after, True
    return Folded(state, tuple(held))


@pytest.mark.parametrize("kind", Kind)
def test_what_is_discarded_was_never_added(kind: Kind) -> None:
    """As when another twin no longer hands an event on."""

    @generated(0.2)
    @given(histories_of(kind), seeds, st.sampled_from(EVERY))
    def check(events: list[Event], seed: int, every: int) -> None:
        random = Random(seed)
        quick, kept = history(kind, every), list[Event]()
        for event in events:
            quick.add(event)
            kept.append(event)
            quick.folded()
            gone = random.choice(kept).event_id if kept else event.event_id
            if random.random() < 0.3 and gone not in quick.conflicts:
                quick.discard(gone)
                kept = [one for one in kept if one.event_id != gone]
            assert seen(quick.folded()) == seen(told_at_once(kind, kept).folded())

    check()


# --- checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_checkpoint_and_what_sorts_after_it_is_the_full_fold(kind: Kind) -> None:
    made: Counter[str] = Counter()

    @generated(0.4)
    @given(st.one_of(plain_histories_of(kind), histories_of(kind)), seeds, st.integers(1, 4))
    def check(events: list[Event], seed: int, every: int) -> None:
        arriving = Random(seed).sample(events, k=len(events))
        half = len(arriving) // 2 + 1
        whole = history(kind, every)
        for event in arriving[:half]:
            whole.add(event)
            whole.folded()
        checkpoint = whole.checkpoint()
        if checkpoint is None:
            return
        made["checkpoint"] += 1
        assert checkpoint.folded == whole_fold(kind, arriving[:half], checkpoint)
        partly = history(kind, every, checkpoint)
        for event in arriving[:half]:
            if sort_key(event, arriving[:half]) > checkpoint.at:
                partly.add(event)
        assert seen(partly.folded()) == seen(whole.folded())
        assert len(partly) == len(whole)
        for event in arriving[half:]:
            if not partly.covers(event) or event.event_id in {one.event_id for one in arriving[:half]}:
                continue
            made["after it"] += 1
            assert partly.add(event) == whole.add(event)
            assert seen(partly.folded()) == seen(whole.folded())
            assert len(partly) == len(whole)

    check()
    assert min(made["checkpoint"], made["after it"]) > 0, made


def whole_fold(kind: Kind, events: Sequence[Event], checkpoint: Checkpoint[Any]) -> Folded[Any]:
    before = [event for event in events if sort_key(event, events) <= checkpoint.at]
    assert len(before) == checkpoint.count
    return told_at_once(kind, before).folded()


# --- what has not changed is not looked at again ---------------------------------------------------------


@generated()
@given(arbitrary, seeds, st.integers(1, 4))
def test_a_twin_that_looks_at_what_has_changed_is_one_that_looks_at_everything(
    events: list[Event], seed: int, size: int
) -> None:
    """After each batch: it shows, has said and has posted what it would if it were read anew."""
    world, arriving = World(), Random(seed).sample(events, k=len(events))
    for start in range(0, len(arriving), size):
        for ref in world.take(arriving[start : start + size]).touched:
            twin = world.twins[ref]
            anew = Twin.restore(ref, Policy(), stored_whole(twin))
            _assert_alike(twin, anew)
            assert anew.settle_postings() == ([], [])


# --- a stock twin that is read in part -------------------------------------------------------------------


def stored_whole(twin: Twin) -> Stored:
    versions = [kept for known in twin.history._conflicts.values() for kept in known.values()]
    events = {
        (event.event_id, event.digest()): event
        for event in (*twin.history.all_events(), *versions, *twin.replies.values())
    }
    return Stored(
        twin.version, tuple(events.values()), tuple(twin.registers.values()), tuple(twin.ledger), None
    )


def stored_partly(twin: Twin, checkpoint: Checkpoint[Any]) -> Stored:
    """What storage reads where it has a checkpoint: what the checkpoint does not stand for, and replies."""
    whole = stored_whole(twin)
    after = tuple(
        event for event in whole.events if event.event_id in twin.replies or checkpoint.precedes(event)
    )
    return Stored(whole.version, after, whole.registers, whole.records, checkpoint, is_whole=False)


class Short(World):
    """A world whose twins make checkpoints often, and keep them as storage would."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.kept: dict[object, Checkpoint[Any] | None] = {}

    def take(self, events: Any) -> Any:
        for twin in self.twins.values():
            twin.history.checkpoint_every = self.every
        effects = super().take(events)
        self.kept |= effects.checkpoints
        return effects


@generated()
@given(
    st.one_of(stock_histories, plain_histories_of(Kind.STOCK), histories_of(Kind.STOCK)),
    seeds,
    st.integers(1, 3),
)
def test_a_stock_twin_read_from_its_checkpoint_goes_on_as_the_whole_one(
    events: list[Event], seed: int, every: int
) -> None:
    """After each event; and with every event that follows and that it can place without its past."""
    world = Short(every)
    arriving = Random(seed).sample(events, k=len(events))
    for number, event in enumerate(arriving):
        world.take([event])
        for ref, checkpoint in world.kept.items():
            if checkpoint is None or ref != event.subject:
                continue
            twin = world.twins[ref]
            partly = Twin.restore(ref, Policy(), stored_partly(twin, checkpoint))
            whole = Twin.restore(ref, Policy(), stored_whole(twin))
            _assert_alike(partly, whole)
            for later in arriving[number + 1 :]:
                if later.subject != ref or not partly.history.covers(later) or twin.history.knows(later):
                    continue
                assert partly.accept(later) == whole.accept(later)
                assert partly.settle() == whole.settle()
                assert partly.settle_postings() == whole.settle_postings()
                _assert_alike(partly, whole)


def _assert_alike(partly: Twin, whole: Twin) -> None:
    assert partly.snapshot().document() == whole.snapshot().document()
    assert spelled(partly.snapshot().document()) == spelled(whole.snapshot().document())
    assert partly.live_postings() == whole.live_postings()
    assert partly.contributed == whole.contributed
    assert len(partly.history) == len(whole.history)


def test_generated_stock_twins_do_keep_checkpoints() -> None:
    """Or the property above would say nothing."""
    kept: Counter[bool] = Counter()

    @generated()
    @given(plain_histories_of(Kind.STOCK), st.integers(1, 3))
    def collect(events: list[Event], every: int) -> None:
        world = Short(every)
        world.take_each(events)
        kept[world.kept.get(twin_ref(ONE_OF_EACH[Kind.STOCK])) is not None] += 1

    collect()
    assert kept[True] > kept[False], kept
