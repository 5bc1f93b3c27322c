"""How many ingest actors there should be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from ops.settings import Settings
from twins.runtime.crew import PATIENCE_MAX, Crew, Seen, decide

CREW = Crew(least=1, most=3, deep=2_000, grow_after_s=10, shrink_after_s=120)
EVERY_S = 5.0


def played(waiting: Iterable[int], crew: Crew = CREW, running: int = 1) -> list[int]:
    """How many run after each look, where each decision is carried out at once."""
    seen, told = Seen(), []
    for look, depth in enumerate(waiting):
        running, seen = decide(crew, seen, depth, running, look * EVERY_S)
        told.append(running)
    return told


def test_one_more_comes_once_much_has_waited_for_a_while() -> None:
    assert played([5_000] * 3) == [1, 1, 2]


def test_the_next_one_comes_no_sooner_than_the_first_did_and_no_more_than_allowed() -> None:
    assert played([5_000] * 8) == [1, 1, 2, 2, 3, 3, 3, 3]


def test_a_peak_that_passes_changes_nothing() -> None:
    assert played([5_000, 5_000, 0] * 10) == [1] * 30


def test_as_deep_as_may_be_is_not_too_deep() -> None:
    assert played([2_000] * 10) == [1] * 10


def test_one_goes_after_little_has_waited_for_long() -> None:
    looks = int(120 / EVERY_S)
    assert played([0] * (looks + 1), running=2) == [2] * looks + [1]


def test_none_goes_while_what_waits_is_neither_much_nor_little() -> None:
    assert played([1_000] * 100, running=2) == [2] * 100
    assert played([0, 0, 1_000] * 100, running=2) == [2] * 300


def test_they_go_one_after_the_other_and_not_below_the_least() -> None:
    looks = int(120 / EVERY_S)
    assert played([0] * (4 * looks), running=3) == [3] * looks + [2] * looks + [1] * 2 * looks


@pytest.mark.parametrize("most", [2, 3])
def test_a_load_between_one_and_two_has_the_second_come_and_go_ever_more_seldom(most: int) -> None:
    """What one cannot carry waits; what two carry is taken. A fixed wait would flap some 600 times a day."""
    seen, running, waiting, alone_at = Seen(), 1, 0, []
    for look in range(int(86_400 / EVERY_S)):
        waiting = max(0, waiting + (2_000 if running == 1 else -2_000))
        before, now_s = running, look * EVERY_S
        running, seen = decide(replace(CREW, most=most), seen, waiting, running, now_s)
        if running == 1 < before:
            alone_at.append(now_s)
    stays = [later - sooner for sooner, later in pairwise(alone_at)]
    assert stays == sorted(stays)
    assert len(alone_at) < 86_400 / (CREW.shrink_after_s * PATIENCE_MAX) + 6


def test_who_was_not_missed_for_long_makes_nobody_stay_longer() -> None:
    looks = int(120 / EVERY_S)
    shrunk = played([0] * (looks + 1) + [0] * (looks + 1) + [5_000] * 3 + [0] * (looks + 1), running=2)
    assert shrunk[-looks - 2 :] == [2] * (looks + 1) + [1]


@pytest.mark.parametrize(("running", "bounded"), [(1, 2), (5, 3), (2, 2)])
def test_other_bounds_count_at_once(running: int, bounded: int) -> None:
    assert decide(Crew(least=2, most=3), Seen(), 500, running, 0.0)[0] == bounded


def test_there_is_no_crew_of_none() -> None:
    with pytest.raises(ValueError, match="no such number"):
        Crew(least=0, most=0)
    with pytest.raises(ValueError, match="no such number"):
        Crew(least=2, most=1)


@pytest.mark.parametrize(("hosts", "most"), [(1, 1), (2, 2), (3, 2), (4, 3), (8, 6)])
def test_as_shipped_there_are_at_most_two_ingests_for_three_hosts(hosts: int, most: int) -> None:
    """By what a message costs each; docs/capacity.md has since found that their calls are in scans' way."""
    assert Settings().crew(hosts) == Crew(1, most, 2_000, 10.0, 120.0)


def test_a_least_that_is_set_raises_the_most() -> None:
    assert (Settings(ingest_min=4).crew(1).least, Settings(ingest_min=4).crew(1).most) == (4, 4)
    assert Settings(ingest_max=7).crew(1).most == 7
