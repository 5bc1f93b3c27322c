"""The theorem: the same set of facts gives the same twins and the same live postings."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from canonical.envelope import Event
from tests.stories import golden
from tests.world import World

IN_ORDER = World().take_each(golden()).confirm()


@settings(max_examples=150, deadline=None)
@given(st.permutations(golden()), st.lists(st.sampled_from(golden()), max_size=6))
def test_any_order_and_repetition_gives_the_same_twins_and_postings(
    events: list[Event], again: list[Event]
) -> None:
    world = World().take_each([*events, *again]).confirm()
    assert world.documents_of_twins() == IN_ORDER.documents_of_twins()
    assert world.live() == IN_ORDER.live()


@settings(max_examples=50, deadline=None)
@given(st.permutations(golden()), st.integers(1, 15), st.booleans())
def test_batching_and_confirming_between_leave_no_trace(
    events: list[Event], size: int, confirm: bool
) -> None:
    world = World()
    for start in range(0, len(events), size):
        world.take(events[start : start + size])
        if confirm:
            world.confirm()
    world.confirm()
    assert world.documents_of_twins() == IN_ORDER.documents_of_twins()
    assert world.live() == IN_ORDER.live()
