"""How often twins settle while a batch comes to rest, and what they say before they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.order import OrderAllocated
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import item
from tests.stories import CUSTOMER, LOCATION, ORDER, SKU, delivered, dispatched, golden, master_data, placed
from tests.world import World, tell
from twins.core.contributions import Contribution, CostAsked
from twins.core.rules import Policy
from twins.core.twin import Twin


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Twin → how often it has settled."""
    counts: Counter[str] = Counter()
    settle = Twin.settle

    def counted(twin: Twin) -> list[Contribution]:
        counts[str(twin.ref)] += 1
        return settle(twin)

    monkeypatch.setattr(Twin, "settle", counted)
    return counts


def after(settled: Counter[str], events: Iterable[Event]) -> World:
    world = World().take_each(list(events))
    settled.clear()
    return world


def test_an_order_settles_once_where_its_master_data_is_known(settled: Counter[str]) -> None:
    world = after(settled, master_data())
    world.take(
        [placed(), tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=10))]
    )
    assert settled[f"order/{ORDER}"] == 1
    assert world.status(f"order/{ORDER}") == "allocated"


def test_a_day_told_at_once_settles_each_twin_but_once_a_turn(settled: Counter[str]) -> None:
    """Twice those who answer each other: what shipped is accepted, and what is accepted is invoiced."""
    world = after(settled, master_data())
    world.take([placed(), dispatched("SHP-1", 10, 60, tracking="1Z1"), delivered("1Z1", 2000)])
    assert settled == {
        f"customer/{CUSTOMER}": 1,
        f"item/{SKU}": 1,
        f"order/{ORDER}": 2,
        "shipment/SHP-1": 2,
        "tracking/ups:1Z1": 1,
        f"stock/{SKU}@{LOCATION}": 1,
    }


def test_what_is_told_twice_settles_nothing(settled: Counter[str]) -> None:
    world = after(settled, golden())
    world.take(golden())
    assert not settled


def test_a_question_is_newer_than_all_that_was_said_before() -> None:
    """Or whoever has heard that nobody asks any more would not answer."""
    void = tell("shipment/SHP-1", ShipmentVoided(reason="wrong box"), 70, source="/test/wms")
    twin = Twin.new(void.subject, Policy())
    left = dispatched("SHP-1", 10, 60)
    twin.accept(left)
    asked = twin.ask()
    twin.settle()
    twin.accept(void)
    taken_back = twin.settle()
    twin.accept(tell(void.subject, Retracted(source=void.source, id=void.id), 80))
    again = twin.ask()
    assert [one.target for one in asked] == [one.target for one in again] == [item(SKU)]
    assert max(one.version for one in taken_back if one.target == item(SKU)) < again[0].version
    assert twin.contributed[item(SKU)] == CostAsked(left.time)
