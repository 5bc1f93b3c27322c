"""A carrier's bills beside what was accrued: summed, divided over those who share a number, matched once."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from canonical.envelope import Event
from canonical.facts.shipment import ShipmentDispatched, ShipmentLine, ShipmentVoided
from canonical.facts.tracking import CarrierBilled, TrackingRegistered
from canonical.identity import twin_ref
from canonical.postings import AccrueFreight, MatchCarrierBill
from tests.stories import LOCATION, ORDER, SKU, dispatched, master_data, placed
from tests.world import World, tell
from twins.core.rules import Finding

DAYS = 24 * 60


def bill(
    bill_id: str,
    amount: str,
    day: int = 7,
    *,
    number: str = "1Z1",
    currency: str = "USD",
    source: str = "/test/ups",
) -> Event:
    fact = CarrierBilled(bill_id=bill_id, amount=amount, currency=currency)
    return tell(f"tracking/ups:{number}", fact, day * DAYS, id=f"{bill_id}/{number}", source=source)


def left(shipment: str, *numbers: str, cost: str | None, currency: str = "USD") -> Event:
    fact = ShipmentDispatched(
        location=LOCATION,
        lines=(ShipmentLine(order_id=ORDER, line_id="1", sku=SKU, quantity=2),),
        carrier="ups",
        tracking_numbers=numbers,
        freight_cost=cost,
        freight_currency=currency,
    )
    return tell(f"shipment/{shipment}", fact, 60, source="/test/wms")


def told(*events: Event) -> World:
    """The same in every order that is tried."""
    events = (*master_data(), placed(10), *events)
    world = World().take_each(events).confirm()
    for seed in range(8):
        random, again = Random(seed), list(events)
        again += random.sample(again, k=len(again) // 2)
        random.shuffle(again)
        other = World().take_each(again).confirm()
        assert other.documents_of_twins() == world.documents_of_twins(), f"shuffle {seed}"
        assert other.live() == world.live(), f"shuffle {seed}"
    return world


def matched(world: World) -> dict[tuple[str, str], tuple[str, str]]:
    """(bill, shipment) → what it comes to, and what of the accrual it clears."""
    return {
        (one.bill_id, one.shipment_id): (str(one.amount), str(one.accrued))
        for one in world.live().values()
        if isinstance(one, MatchCarrierBill)
    }


def found(world: World, twin: str = "shipment/SHP-1") -> dict[str, str]:
    return {one.code: one.text for one in findings(world, twin)}


def findings(world: World, twin: str) -> tuple[Finding, ...]:
    return world.snapshot(twin).findings


def test_several_bills_of_one_shipment_are_summed_against_its_accrual() -> None:
    """The base charge on one invoice and the fuel surcharge on the next."""
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", "7.00"), bill("B-2", "5.20", day=9))
    assert matched(world) == {("B-1", "SHP-1"): ("7.00", "7.00"), ("B-2", "SHP-1"): ("5.20", "5.00")}
    assert found(world) == {}


def test_bills_that_do_not_come_to_what_was_accrued_are_an_exception_each() -> None:
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", "5.00"), bill("B-2", "4.00", day=9))
    assert matched(world) == {}
    assert [(one.code, one.events) for one in findings(world, "shipment/SHP-1")] == [
        ("carrier-bill-mismatch", ("/test/ups#B-1/1Z1",)),
        ("carrier-bill-mismatch", ("/test/ups#B-2/1Z1",)),
    ]


def test_a_bill_that_comes_on_top_of_a_match_is_an_exception_and_undoes_nothing() -> None:
    """The whole of it is compared: two bills that would each fit are not both paid."""
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", "12.00"), bill("B-2", "12.00", day=9))
    assert matched(world) == {("B-1", "SHP-1"): ("12.00", "12.00")}
    assert found(world)["carrier-bill-mismatch"].endswith("24 billed by then, 12 accrued")


def test_a_small_bill_on_top_stays_within_the_tolerance_and_clears_no_more() -> None:
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", "12.00"), bill("B-2", "0.60", day=9))
    assert matched(world) == {("B-1", "SHP-1"): ("12.00", "12.00"), ("B-2", "SHP-1"): ("0.60", "0.00")}


def test_a_credit_of_the_carrier_is_summed_like_any_bill() -> None:
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", "15.00"), bill("B-2", "-3.00", day=9))
    assert matched(world) == {("B-1", "SHP-1"): ("15.00", "15.00"), ("B-2", "SHP-1"): ("-3.00", "-3.00")}


@pytest.mark.parametrize("first", ["12.00", "11.00", "12.90"])
def test_whatever_is_matched_clears_the_accrual_to_the_cent(first: str) -> None:
    world = told(left("SHP-1", "1Z1", cost="12.00"), bill("B-1", first), bill("B-2", "0.10", day=8))
    cleared = sum((Decimal(accrued) for _, accrued in matched(world).values()), Decimal(0))
    assert cleared == 12


def test_a_bill_in_another_currency_is_neither_matched_nor_added() -> None:
    world = told(
        left("SHP-1", "1Z1", cost="12.00"),
        bill("B-1", "12.00", currency="EUR"),
        bill("B-2", "6.00", day=8),
        bill("B-3", "6.00", day=9),
    )
    assert matched(world) == {("B-2", "SHP-1"): ("6.00", "6.00"), ("B-3", "SHP-1"): ("6.00", "6.00")}
    (one,) = findings(world, "shipment/SHP-1")
    assert one.code == "other-currency"
    assert one.events == ("/test/ups#B-1/1Z1",)
    assert "carrier-billed B-1: currency is EUR" in one.text


def test_lines_of_one_bill_in_two_currencies_are_not_added() -> None:
    world = told(
        left("SHP-1", "1Z1", "1Z2", cost="12.00"),
        bill("B-1", "6.00"),
        bill("B-1", "6.00", number="1Z2", currency="EUR"),
    )
    assert matched(world) == {}
    assert found(world).keys() == {"carrier-bill-mismatch", "other-currency"}


def test_a_bill_over_several_numbers_of_one_shipment_is_one_document() -> None:
    world = told(
        left("SHP-1", "1Z1", "1Z2", cost="12.00"), bill("B-1", "6.00"), bill("B-1", "6.30", number="1Z2")
    )
    assert matched(world) == {("B-1", "SHP-1"): ("12.30", "12.00")}


def test_shipments_that_share_a_number_share_its_bill_as_they_have_accrued() -> None:
    world = told(left("SHP-1", "1Z1", cost="4.00"), left("SHP-2", "1Z1", cost="8.00"), bill("B-1", "12.01"))
    assert matched(world) == {("B-1", "SHP-1"): ("4.00", "4.00"), ("B-1", "SHP-2"): ("8.01", "8.00")}


def test_a_cost_that_is_for_several_numbers_counts_for_each_by_its_part() -> None:
    world = told(
        left("SHP-1", "1Z1", "1Z2", cost="8.00"),
        left("SHP-2", "1Z2", cost="6.00"),
        bill("B-1", "10.00", number="1Z2"),
        bill("B-2", "4.00"),
    )
    assert matched(world) == {
        ("B-1", "SHP-1"): ("4.00", "4.00"),
        ("B-2", "SHP-1"): ("4.00", "4.00"),
        ("B-1", "SHP-2"): ("6.00", "6.00"),
    }


@pytest.mark.parametrize(("cost", "currency"), [(None, "USD"), ("9.00", "EUR")])
def test_who_has_accrued_nothing_in_a_bills_currency_has_no_part_in_it(
    cost: str | None, currency: str
) -> None:
    world = told(
        left("SHP-1", "1Z1", cost="4.00"),
        left("SHP-2", "1Z1", cost=cost, currency=currency),
        bill("B-1", "4.00"),
    )
    assert matched(world) == {("B-1", "SHP-1"): ("4.00", "4.00")}
    assert found(world) == found(world, "shipment/SHP-2") == {}


@pytest.mark.parametrize(("cost", "code"), [(None, "carrier-bill-mismatch"), ("9.00", "other-currency")])
def test_a_shared_bill_that_nobody_has_accrued_for_is_shown_at_its_number(
    cost: str | None, code: str
) -> None:
    world = told(
        left("SHP-1", "1Z1", cost=cost, currency="EUR"),
        left("SHP-2", "1Z1", cost=None),
        bill("B-1", "4.00"),
    )
    assert matched(world) == {}
    (one,) = findings(world, "tracking/ups:1Z1")
    assert (one.code, one.events) == (code, ("/test/ups#B-1/1Z1",))


def test_a_void_leaves_the_whole_bill_to_the_other() -> None:
    void = tell("shipment/SHP-2", ShipmentVoided(), 90, source="/test/wms")
    both = (left("SHP-1", "1Z1", cost="4.00"), left("SHP-2", "1Z1", cost="4.00"), bill("B-1", "4.00"))
    assert found(told(*both)).keys() == {"carrier-bill-mismatch"}
    assert matched(told(*both, void)) == {("B-1", "SHP-1"): ("4.00", "4.00")}


def test_a_carriers_own_word_on_whose_number_it_is_shares_no_bill_without_a_cost() -> None:
    registered = tell("tracking/ups:1Z1", TrackingRegistered(shipment_id="SHP-2"), 50, source="/test/ups")
    world = told(left("SHP-1", "1Z1", cost="4.00"), registered, bill("B-1", "4.00"))
    assert matched(world) == {("B-1", "SHP-1"): ("4.00", "4.00")}


def test_a_bill_for_a_shipment_that_was_voided_is_an_exception() -> None:
    registered = tell("tracking/ups:1Z1", TrackingRegistered(shipment_id="SHP-1"), 50, source="/test/ups")
    void = tell("shipment/SHP-1", ShipmentVoided(), 90, source="/test/wms")
    world = told(left("SHP-1", "1Z1", cost="4.00"), registered, void, bill("B-1", "4.00"))
    assert matched(world) == {}
    assert found(world).keys() == {"carrier-bill-mismatch"}


def test_a_bill_for_a_number_that_nobody_owns_is_shown() -> None:
    world = told(bill("B-1", "4.00"))
    (one,) = findings(world, "tracking/ups:1Z1")
    assert (one.code, one.events) == ("tracking-unbound", ("/test/ups#B-1/1Z1",))


def test_sources_that_tell_of_one_bill_otherwise_are_shown() -> None:
    other = bill("B-1", "5.00", day=8, source="/test/edi")
    world = told(dispatched("SHP-1", 2, 60, tracking="1Z1", cost="4.00"), bill("B-1", "4.00"), other)
    assert matched(world) == {("B-1", "SHP-1"): ("4.00", "4.00")}
    (one,) = findings(world, "tracking/ups:1Z1")
    assert (one.code, one.events) == ("sources-disagree", ("/test/edi#B-1/1Z1",))


def test_a_bill_of_nothing_makes_no_document() -> None:
    world = told(left("SHP-1", "1Z1", cost="4.00"), bill("B-1", "4.00"), bill("B-2", "0.00", day=8))
    assert matched(world) == {("B-1", "SHP-1"): ("4.00", "4.00")}
    assert found(world) == {}


def test_an_accrual_keeps_its_own_currency_and_so_does_its_bill() -> None:
    world = told(left("SHP-1", "1Z1", cost="12.00", currency="EUR"), bill("B-1", "12.00", currency="EUR"))
    posted = [one for one in world.live().values() if isinstance(one, AccrueFreight | MatchCarrierBill)]
    assert [one.currency for one in posted] == ["EUR", "EUR"]
    assert world.twins[twin_ref("shipment/SHP-1")].snapshot().findings == ()
