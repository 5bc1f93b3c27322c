"""What is taken back has never been: E − retracted, as if nobody had ever sent the rest."""

from __future__ import annotations

from random import Random

from hypothesis import given

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.identity import TwinRef
from tests.properties.compared import digest, documents, live, words
from tests.properties.generated import generated, histories, seeds, standing
from tests.world import World, tell
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin


def worlds(events: list[Event], seed: int) -> tuple[World, World]:
    """One that was told everything in any order, and one that was told only what stands."""
    told = World().take_each(Random(seed).sample(events, k=len(events))).confirm()
    return told, World().take_each(standing(events)).confirm()


def untouched(ref: TwinRef) -> dict[str, object]:
    return Twin.restore(ref, Policy(), Stored()).snapshot().document()


@generated()
@given(histories(retractions_max=5), seeds)
def test_what_is_taken_back_leaves_no_trace(events: list[Event], seed: int) -> None:
    told, only = worlds(events, seed)
    found, expected = documents(told.twins), documents(only.twins)
    assert {ref: found.get(ref) for ref in expected} == expected
    assert digest({ref: found[ref] for ref in expected}) == digest(expected)
    assert words(told.twins) == words(only.twins)
    assert live(told.twins) == live(only.twins)


@generated()
@given(histories(retractions_max=5), seeds)
def test_a_twin_of_which_everything_was_taken_back_is_like_new(events: list[Event], seed: int) -> None:
    """It is shown, since something was said of it; but nothing follows from it."""
    told, only = worlds(events, seed)
    found, expected = documents(told.twins), documents(only.twins)
    for ref in found.keys() - expected.keys():
        assert told.twins[ref].live_postings() == {}
        assert told.twins[ref].contributed == {}
        assert found[ref] == untouched(ref)


@generated()
@given(histories(retractions_max=0), seeds)
def test_when_everything_is_taken_back_nothing_is_left(events: list[Event], seed: int) -> None:
    gone = [
        tell(event.subject, Retracted(source=event.source, id=event.id), id=f"r{number}", source="/r")
        for number, event in enumerate(events)
    ]
    told, _ = worlds(events + gone, seed)
    assert live(told.twins) == {}
    for ref, document in documents(told.twins).items():
        assert document == untouched(ref)
