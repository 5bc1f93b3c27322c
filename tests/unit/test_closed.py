"""Which twins are closed: nothing but a correction is to come, and nothing is open."""

from __future__ import annotations

from canonical.envelope import Event
from canonical.facts.order import OrderCancelled, ReturnClosed
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import Kind
from tests.stories import ORDER, dispatched, golden, master_data, placed
from tests.world import World, tell
from twins.core.kinds import RULES

LIFE = [*golden(), tell(f"order/{ORDER}", ReturnClosed(return_id="RMA-1"), 5_000)]


def closed(world: World) -> set[str]:
    return {str(ref) for ref, twin in world.twins.items() if twin.snapshot().is_closed()}


def told(*events: Event) -> World:
    return World().take_each(list(events))


def test_an_order_is_closed_with_its_shipments_and_their_numbers_once_the_erp_has_taken_all() -> None:
    world = told(*LIFE)
    numbers = {"tracking/ups:1Z1", "tracking/ups:1Z2", "return/RMA-1"}
    assert closed(world) == numbers, "they post nothing"
    assert closed(world.confirm()) == numbers | {f"order/{ORDER}", "shipment/SHP-1", "shipment/SHP-2"}


def test_an_order_with_a_return_on_its_way_is_not_closed() -> None:
    assert f"order/{ORDER}" not in closed(told(*golden()).confirm())


def test_a_voided_shipment_is_closed_once_its_documents_are_reversed() -> None:
    world = told(*master_data(), placed(), dispatched("SHP-1", 6, 60)).confirm()
    world.take([tell("shipment/SHP-1", ShipmentVoided(), 90)])
    assert world.status("shipment/SHP-1") == "voided"
    assert "shipment/SHP-1" not in closed(world)
    assert "shipment/SHP-1" in closed(world.confirm())


def test_a_cancelled_order_is_closed() -> None:
    cancelled = tell(f"order/{ORDER}", OrderCancelled(cancel_id="C", lines=None), 10)
    assert closed(told(*master_data(), placed(), cancelled)) == {f"order/{ORDER}"}


def test_a_finding_keeps_a_twin_open() -> None:
    cancelled = tell(f"order/{ORDER}", OrderCancelled(cancel_id="C", lines=None), 10)
    assert closed(told(placed(), cancelled)) == set(), "its customer and item are unknown"


def test_shelves_and_master_data_never_close() -> None:
    """Nor does anything whose fold is kept in storage: its events are not read with those in the archive."""
    assert {kind for kind in Kind if RULES[kind].final} == {
        Kind.ORDER,
        Kind.SHIPMENT,
        Kind.TRACKING,
        Kind.RETURN,
    }
    assert not any(rules.final and rules.endless for rules in RULES.values())
