"""An ERP that refuses a command, fails, and takes it when it is told again has said both."""

from __future__ import annotations

from itertools import permutations

import pytest

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.erp import PostingConfirmed, PostingRejected, PostingResent
from canonical.facts.stock import StockAdjusted
from canonical.identity import PostingKey, stock
from canonical.postings import Action
from tests.stories import master_data
from tests.world import DAY, World, tell
from twins.core.ledger import Status

SHELF = stock("SKU-1", "DC-1")
KEY = PostingKey(f"stock-adjustment/a1/{SHELF.key}")
ONE = tell(SHELF, StockAdjusted(adjustment_id="a1", delta=-5), 10, id="one")
GONE = tell(SHELF, Retracted(source=ONE.source, id=ONE.id), 20)
TWO = tell(SHELF, StockAdjusted(adjustment_id="a1", delta=-4), 10, id="two")


def confirmed(version: int) -> Event:
    fact = PostingConfirmed(posting_key=KEY, version=version, action="post", document=f"D{version}")
    return Event("/erp", f"{version}/confirmed", SHELF, DAY, fact)


def refused(version: int) -> Event:
    fact = PostingRejected(posting_key=KEY, version=version, action="post", reason="closed")
    return Event("/erp", f"{version}/rejected", SHELF, DAY, fact)


def resent(version: int) -> Event:
    fact = PostingResent(posting_key=KEY, version=version, action="post", request="again", by="finance")
    return Event("/erp", f"{version}/resent", SHELF, DAY, fact)


def told(*events: Event) -> World:
    return World().take_each([*master_data(), ONE, *events])


def reversals(world: World) -> set[str]:
    """By idempotency key: one that is queued again before it is told is told once."""
    return {one.idempotency_key for _, one in world.commands if one.action is Action.REVERSE}


@pytest.mark.parametrize("events", list(permutations([refused(1), confirmed(1), GONE, TWO])))
def test_what_it_took_is_taken_back_whichever_it_says_first(events: tuple[Event, ...]) -> None:
    world = told(*events)
    first, second = world.twins[SHELF].ledger.records[KEY]
    assert (first.status, first.document) == (Status.REVERSING, "D1")
    assert second.status is Status.QUEUED
    assert reversals(world) == {f"{KEY}@1/reverse"}
    assert [posting.delta for posting in world.live().values()] == [-4]  # type: ignore[union-attr]


@pytest.mark.parametrize("events", list(permutations([refused(1), confirmed(1)])))
def test_what_is_still_desired_is_held_whichever_it_says_first(events: tuple[Event, ...]) -> None:
    world = told(*events)
    (record,) = world.twins[SHELF].ledger.records[KEY]
    assert (record.status, record.document) == (Status.CONFIRMED, "D1")
    assert reversals(world) == set()


def test_what_was_resent_and_had_been_taken_after_all_has_one_document() -> None:
    world = told(refused(1), resent(1), confirmed(2), confirmed(1))
    first, second = world.twins[SHELF].ledger.records[KEY]
    assert (first.status, second.status) == (Status.REVERSING, Status.CONFIRMED)
    assert reversals(world) == {f"{KEY}@1/reverse"}
