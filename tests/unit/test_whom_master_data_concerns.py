"""A change of master data is told to those who would do something about it, and to nobody else."""

from __future__ import annotations

import pytest

from canonical.facts.base import Fact, Retracted
from canonical.facts.reference import (
    CustomerDeactivated,
    CustomerUpserted,
    ItemDeactivated,
    ItemUpserted,
)
from canonical.identity import Kind, twin_ref
from tests.stories import CUSTOMER, SKU, dispatched, master_data, placed
from tests.world import World, tell
from twins.core.contributions import Contribution, CustomerCard, ItemCard
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin

LATER = 10_000


def dealing() -> World:
    """An order that has shipped, one that has not, and a shelf."""
    return World().take_each([*master_data(), placed(10), dispatched("SHP-1", 10, 60), placed(10, 5, "SO-2")])


@pytest.mark.parametrize(
    ("subject", "fact"),
    [
        (f"item/{SKU}", ItemUpserted(revision=2, title="Better widget", unit_cost="8.00", currency="USD")),
        (f"item/{SKU}", ItemDeactivated(revision=2)),
        (f"customer/{CUSTOMER}", CustomerUpserted(revision=2, name="Ann Other")),
        (f"customer/{CUSTOMER}", CustomerDeactivated(revision=2)),
    ],
)
def test_what_nothing_follows_from_is_told_to_nobody(subject: str, fact: Fact) -> None:
    effects = dealing().take([tell(subject, fact, LATER)])
    assert [str(ref) for ref in effects.touched] == [subject]


def test_a_new_cost_is_told_to_shipments_and_shelves_but_to_no_order() -> None:
    dearer = ItemUpserted(revision=2, title="Widget", unit_cost="9.00", currency="USD")
    effects = dealing().take([tell(f"item/{SKU}", dearer, LATER)])
    assert {ref.kind for ref in effects.touched} == {Kind.ITEM, Kind.SHIPMENT, Kind.STOCK}


def test_an_order_hears_of_its_item_when_it_comes_and_when_it_is_taken_back() -> None:
    item, *others = master_data()
    world = World().take_each([*others, placed(10)])
    waits = world.snapshot("order/SO-1").document()
    assert [one["code"] for one in waits["findings"]] == ["unknown-master-data"]
    world.take([item])
    assert not world.snapshot("order/SO-1").document()["findings"]
    world.take([tell(item.subject, Retracted(source=item.source, id=item.id, reason="did_not_occur"), LATER)])
    assert world.snapshot("order/SO-1").document() == waits


def test_an_order_that_earlier_code_told_more_of_its_item_knows_it() -> None:
    event = placed(10)
    told = Contribution(twin_ref(f"item/{SKU}"), event.subject, 7, ItemCard(()))
    customer = Contribution(twin_ref(f"customer/{CUSTOMER}"), event.subject, 7, CustomerCard())
    order = Twin.restore(event.subject, Policy(), Stored(3, (event,), (told, customer)))
    assert not order.snapshot().findings
