"""A change of master data is told to those who would do something about it, and to nobody else."""

from __future__ import annotations

from decimal import Decimal

import pytest

from canonical.envelope import Event
from canonical.facts.base import Fact, Retracted
from canonical.facts.reference import (
    CustomerDeactivated,
    CustomerUpserted,
    ItemDeactivated,
    ItemUpserted,
)
from canonical.identity import Kind, PostingKey, twin_ref
from canonical.postings import PostGoodsIssue
from tests.stories import CUSTOMER, SKU, dispatched, master_data, placed
from tests.world import World, tell
from twins.core.contributions import Contribution, CustomerCard, ItemCard
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin

LATER = 10_000


def dealing() -> World:
    """Two orders that have shipped, at 60 and 200, one that has not, and a shelf."""
    orders = [placed(10, number, f"SO-{number}") for number in (1, 2, 3)]
    shipments = [dispatched("SHP-1", 10, 60), dispatched("SHP-2", 10, 200, order="SO-2")]
    return World().take_each([*master_data(), *orders, *shipments])


def dearer(minute: int) -> Event:
    fact = ItemUpserted(revision=2, title="Widget", unit_cost="9.00", currency="USD")
    return tell(f"item/{SKU}", fact, minute)


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


def test_a_new_cost_is_told_to_shelves_and_to_nobody_who_had_dealt_before() -> None:
    effects = dealing().take([dearer(LATER)])
    assert {ref.kind for ref in effects.touched} == {Kind.ITEM, Kind.STOCK}


def test_a_cost_told_late_is_told_to_what_left_since_and_its_orders_hear_it_there() -> None:
    world = dealing()
    before = world.live()
    effects = world.take([dearer(100)])
    touched = {str(ref) for ref in effects.touched if ref.kind in (Kind.SHIPMENT, Kind.ORDER)}
    assert touched == {"shipment/SHP-2", "order/SO-2"}
    changed = {key for key, posting in world.live().items() if posting != before[key]}
    assert changed == {"goods-issue/SHP-2", "invoice/SHP-2/SO-2"}


def test_goods_that_left_at_another_moment_than_first_told_cost_what_held_then() -> None:
    world = dealing()
    world.take([dearer(100)])
    first = dispatched("SHP-2", 10, 200, order="SO-2")
    world.take([dispatched("SHP-2", 10, 90, order="SO-2")])
    world.take([tell(first.subject, Retracted(source=first.source, id=first.id, reason="wrong"), LATER)])
    goods_issue = world.live()[PostingKey("goods-issue/SHP-2")]
    assert isinstance(goods_issue, PostGoodsIssue)
    assert [line.cost for line in goods_issue.lines] == [Decimal(80)]


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
