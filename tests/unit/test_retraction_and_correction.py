"""What was told wrongly is taken back, or told anew: before and after the ERP has posted it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.shipment import ShipmentDispatched, ShipmentVoided
from canonical.facts.stock import StockAdjusted
from canonical.identity import PostingKey, twin_ref
from canonical.postings import Account, PostInvoice, entries
from tests.stories import LOCATION, ORDER, SKU, delivered, dispatched, master_data, placed
from tests.world import World, tell
from twins.core.ledger import Status

STOCK = f"stock/{SKU}@{LOCATION}"
GOODS_ISSUE, INVOICE = PostingKey("goods-issue/SHP-1"), PostingKey(f"invoice/SHP-1/{ORDER}")
BASE = [*master_data(), placed(10)]
SHIPPED = dispatched("SHP-1", 6, 60)
assert isinstance(SHIPPED.fact, ShipmentDispatched)
REALLY = replace(
    SHIPPED,
    id="corrected",
    fact=replace(SHIPPED.fact, lines=tuple(replace(one, quantity=Decimal(4)) for one in SHIPPED.fact.lines)),
)


def error_declaration(of: Event, *corrective: Event) -> Event:
    """As EPCIS 2.0 declares an error: which event, why, and which events tell it right."""
    fact = Retracted(
        source=of.source,
        id=of.id,
        reason="incorrect_data" if corrective else "did_not_occur",
        corrective_ids=tuple(one.id for one in corrective),
    )
    return tell(of.subject, fact, 9_000, id=f"error/{of.id}", source=of.source)


def versions(world: World, twin: str, key: PostingKey) -> list[str]:
    return [one.status.value for one in world.twins[twin_ref(twin)].ledger.records.get(key, ())]


def books(world: World) -> dict[Account, Decimal]:
    """Net debits of what is live; what was reversed has left nothing."""
    net: Counter[Account] = Counter()
    for posting in world.live().values():
        for entry in entries(posting):
            net[entry.account] += entry.debit - entry.credit  # type: ignore[assignment]
    return {account: amount for account, amount in net.items() if amount}  # type: ignore[misc]


def test_a_dispatch_taken_back_before_it_was_posted_is_annulled() -> None:
    """Never sent: the gateway drops the post together with the reversal that follows."""
    world = World().take_each([*BASE, SHIPPED, error_declaration(SHIPPED)])
    assert world.live() == {}
    assert versions(world, "shipment/SHP-1", GOODS_ISSUE) == [Status.REVERSING]
    assert [command.action for _, command in world.commands if command.key == GOODS_ISSUE] == [
        "post",
        "reverse",
    ]
    assert world.status(f"order/{ORDER}") == "placed"
    assert world.snapshot(STOCK).document()["on_hand"]["sellable"] == 100


def test_a_dispatch_taken_back_after_it_was_posted_is_reversed() -> None:
    world = World().take_each([*BASE, SHIPPED]).confirm()
    world.take_each([error_declaration(SHIPPED)]).confirm()
    assert versions(world, "shipment/SHP-1", GOODS_ISSUE) == [Status.REVERSED]
    assert versions(world, f"order/{ORDER}", INVOICE) == [Status.REVERSED]
    assert books(world) == {}


def test_a_retraction_that_comes_first_lets_nothing_be_posted() -> None:
    world = World().take_each([*BASE, error_declaration(SHIPPED), SHIPPED])
    assert world.commands == []
    (said,) = world.snapshot("shipment/SHP-1").explain()["retracted"]
    assert said.startswith(f"{SHIPPED.event_id}: did_not_occur by ")


def test_a_retraction_of_what_was_never_told_is_shown() -> None:
    world = World().take_each([*BASE, error_declaration(SHIPPED)])
    (said,) = world.snapshot("shipment/SHP-1").explain()["retracted"]
    assert said.endswith("it has not been told here")


@pytest.mark.parametrize("confirmed_after", range(4))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_corrected_quantity_is_posted_anew_whenever_what_comes(
    order: Sequence[int], confirmed_after: int
) -> None:
    """Dispatch of 6, its error declaration, the dispatch of 4 that really was: in every order, and with the
    ERP answering after each step."""
    told = [SHIPPED, error_declaration(SHIPPED, REALLY), REALLY]
    world = World().take_each(BASE)
    for number, index in enumerate(order):
        world.take([told[index]])
        if number == confirmed_after:
            world.confirm()
    world.confirm()
    invoice = world.live()[INVOICE]
    assert isinstance(invoice, PostInvoice)
    assert [one.quantity for one in invoice.lines] == [4]
    assert world.snapshot(STOCK).document()["on_hand"]["sellable"] == 96
    kept = [one for one in versions(world, f"order/{ORDER}", INVOICE) if one == Status.CONFIRMED]
    assert len(kept) == 1
    assert books(world) == books(World().take_each([*BASE, REALLY]).confirm())
    (said,) = world.snapshot("shipment/SHP-1").explain()["retracted"]
    assert said.endswith("told anew as corrected")


def test_a_delivery_that_the_carrier_takes_back_did_not_happen() -> None:
    wrong = delivered("1Z1", 2_000)
    parcel = dispatched("SHP-1", 10, 60, tracking="1Z1")
    world = World().take_each([*BASE, parcel, wrong])
    assert world.status(f"order/{ORDER}") == "delivered"
    world.take([error_declaration(wrong)])
    assert world.status(f"order/{ORDER}") == "shipped"


def test_an_adjustment_told_wrongly_and_told_anew_posts_the_difference_once() -> None:
    wrong = tell(STOCK, StockAdjusted(adjustment_id="A-1", delta=-30), 30, source="/wms", id="a1")
    right = tell(STOCK, StockAdjusted(adjustment_id="A-1", delta=-3), 30, source="/wms", id="a1-right")
    world = World().take_each([*BASE, wrong]).confirm()
    world.take_each([right]).confirm()
    assert [one["code"] for one in world.snapshot(STOCK).document()["findings"]] == ["sources-disagree"]
    world.take_each([error_declaration(wrong, right)]).confirm()
    key = PostingKey(f"stock-adjustment/A-1/{SKU}@{LOCATION}")
    assert versions(world, STOCK, key) == [Status.REVERSED, Status.CONFIRMED]
    assert books(world) == {Account.VARIANCE: Decimal("24.00"), Account.INVENTORY: Decimal("-24.00")}
    assert world.snapshot(STOCK).document()["findings"] == []


def test_a_shipment_voided_after_it_was_posted_is_reversed_and_ships_again() -> None:
    void = tell("shipment/SHP-1", ShipmentVoided(reason="label"), 90, source="/test/wms")
    world = World().take_each([*BASE, SHIPPED]).confirm()
    world.take_each([void]).confirm()
    assert books(world) == {}
    world.take_each([dispatched("SHP-2", 6, 120)]).confirm()
    again: dict[str, Any] = world.snapshot(f"order/{ORDER}").document()["lines"][0]
    assert (again["shipped"], again["invoiced"]) == (6, 6)


def test_a_void_that_is_itself_taken_back_lets_the_shipment_stand() -> None:
    void = tell("shipment/SHP-1", ShipmentVoided(), 90, source="/test/wms", id="v")
    world = World().take_each([*BASE, SHIPPED, void]).confirm()
    world.take_each([error_declaration(void)]).confirm()
    assert versions(world, f"order/{ORDER}", INVOICE)[-1] == Status.CONFIRMED
    assert books(world) == books(World().take_each([*BASE, SHIPPED]).confirm())
