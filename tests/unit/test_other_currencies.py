"""What is in different currencies is never added: it is shown, by the fact and the field; nothing is lost."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import pytest

from canonical.envelope import Event
from canonical.facts.order import OrderLine, OrderPlaced, PaymentCaptured, RefundIssued
from canonical.facts.reference import ItemUpserted
from canonical.facts.shipment import ShipmentDispatched, ShipmentLine
from canonical.facts.stock import StockAdjusted, TransferredOut
from canonical.identity import PostingKey
from tests.stories import LOCATION, ORDER, SKU, delivered, dispatched, master_data, placed, returned
from tests.world import World, tell
from twins.core.rules import Finding

ORDER_REF, SHELF = f"order/{ORDER}", f"stock/{SKU}@{LOCATION}"


def told(*events: Event) -> World:
    """The same in every order that is tried."""
    world = World().take_each(events).confirm()
    for seed in range(8):
        random, again = Random(seed), list(events)
        again += random.sample(again, k=len(again) // 2)
        random.shuffle(again)
        other = World().take_each(again).confirm()
        assert other.documents_of_twins() == world.documents_of_twins(), f"shuffle {seed}"
        assert other.live() == world.live(), f"shuffle {seed}"
    return world


def captured(amount: str, currency: str, payment: str = "P-1", minute: int = 6) -> Event:
    fact = PaymentCaptured(payment_id=payment, amount=amount, currency=currency)
    return tell(ORDER_REF, fact, minute, id=payment)


def refunded(amount: str, currency: str, refund: str = "R-1") -> Event:
    return tell(ORDER_REF, RefundIssued(refund_id=refund, amount=amount, currency=currency), 5000, id=refund)


def costs(amount: str, currency: str | None, revision: int, minute: int, sku: str = SKU) -> Event:
    fact = ItemUpserted(revision=revision, title="Widget", unit_cost=amount, currency=currency)
    return tell(f"item/{sku}", fact, minute, id=f"{sku}/{revision}")


def other_currencies(world: World, twin: str) -> list[Finding]:
    return [one for one in world.snapshot(twin).findings if one.code == "other-currency"]


def payment(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.snapshot(ORDER_REF).document()["payment"]
    return found


def live(world: World, key: str) -> Any:
    return world.live()[PostingKey(key)]


SOLD = (*master_data(), placed(10), dispatched("SHP-1", 10, 60, tracking="1Z1"), delivered("1Z1", 2000))

# --- payments --------------------------------------------------------------------------------------------


def test_a_payment_in_another_currency_pays_nothing_of_the_order_and_is_shown() -> None:
    world = told(*SOLD, captured("224.00", "EUR"))
    assert (payment(world)["captured"], payment(world)["balance_due"]) == (0, Decimal("224.00"))
    assert (payment(world)["status"], world.status(ORDER_REF)) == ("unpaid", "delivered")
    (one,) = other_currencies(world, ORDER_REF)
    assert one.events == ("/test/oms#P-1",)
    assert "payment-captured P-1: currency is EUR" in one.text


def test_the_money_that_came_in_is_posted_in_its_own_currency() -> None:
    """It is in the account, and the document says in what; what it settles is for somebody to say."""
    posted = live(told(*SOLD, captured("224.00", "EUR")), f"payment/P-1/{ORDER}")
    assert (posted.amount, posted.currency) == (Decimal("224.00"), "EUR")


def test_a_payment_of_each_currency_is_counted_by_its_own() -> None:
    world = told(*SOLD, captured("224.00", "USD"), captured("5.00", "EUR", "P-2"))
    assert (payment(world)["captured"], payment(world)["balance_due"]) == (Decimal("224.00"), 0)
    assert payment(world)["captures"]["P-2"]["currency"] == "EUR"
    assert world.status(ORDER_REF) == "delivered"  # somebody owes five euros


def test_money_of_another_currency_that_was_given_back_keeps_nothing_open() -> None:
    world = told(*SOLD, captured("224.00", "USD"), captured("5.00", "EUR", "P-2"), refunded("5.00", "EUR"))
    assert world.status(ORDER_REF) == "closed"
    assert (payment(world)["status"], payment(world)["refunded"]) == ("paid", 0)
    assert world.snapshot(ORDER_REF).findings == ()


def test_a_refund_in_another_currency_is_not_set_against_what_was_captured() -> None:
    world = told(*SOLD, *returned(2, 4000), captured("224.00", "USD"), refunded("300", "EUR"))
    assert {one.code for one in world.snapshot(ORDER_REF).findings} == {"other-currency"}
    assert payment(world)["balance_due"] == Decimal("-43.30")
    (one,) = other_currencies(world, ORDER_REF)
    assert "refund-issued R-1: currency is EUR" in one.text


# --- costs of what leaves --------------------------------------------------------------------------------


def test_a_cost_in_another_currency_is_left_to_the_erp() -> None:
    """To buy in one currency and to sell in another is no exception: its shipments are closed, too."""
    world = told(*SOLD, costs("7.00", "EUR", 2, 30))
    assert [one.cost for one in live(world, "goods-issue/SHP-1").lines] == [None]
    assert [one.cost for one in live(world, f"invoice/SHP-1/{ORDER}").lines] == [None]
    assert other_currencies(world, "shipment/SHP-1") == []


def test_what_comes_back_of_goods_whose_cost_was_left_to_the_erp_is_left_to_it_too() -> None:
    world = told(*SOLD, costs("7.00", "EUR", 2, 30), *returned(2, 4000))
    assert live(world, f"return-receipt/RMA-1/1/{ORDER}").goods[0].cost is None
    assert live(world, f"credit-note/RMA-1/1/{ORDER}").cost is None


def test_a_cost_that_names_no_currency_is_in_that_of_the_posting() -> None:
    world = told(*SOLD, costs("7.00", None, 2, 30))
    assert [one.cost for one in live(world, "goods-issue/SHP-1").lines] == [70]


def test_a_cost_of_another_currency_from_later_on_changes_nothing_of_what_left() -> None:
    world = told(*SOLD, costs("7.00", "EUR", 2, 90))
    assert [one.cost for one in live(world, "goods-issue/SHP-1").lines] == [80]
    assert other_currencies(world, "shipment/SHP-1") == []


@pytest.mark.parametrize("cost_in", ["USD", "EUR"])
def test_orders_of_two_currencies_in_one_shipment_add_no_costs(cost_in: str) -> None:
    """The goods issue is in the first one's; what the other's cost is left to the ERP, in its invoice too."""
    line = OrderLine(line_id="1", sku="SKU-2", quantity=2, unit_price="20.00")
    other = tell("order/SO-2", OrderPlaced(currency="EUR", lines=(line,)), 1)
    both = ShipmentDispatched(
        location=LOCATION,
        lines=(
            ShipmentLine(order_id=ORDER, line_id="1", sku=SKU, quantity=3),
            ShipmentLine(order_id="SO-2", line_id="1", sku="SKU-2", quantity=2),
        ),
    )
    world = told(
        *master_data(),
        placed(10),
        other,
        costs("5.00", cost_in, 1, -600, "SKU-2"),
        tell("shipment/SHP-1", both, 60, source="/test/wms"),
    )
    issue = live(world, "goods-issue/SHP-1")
    assert (issue.currency, [one.cost for one in issue.lines]) == ("USD", [24, None])
    invoices = [live(world, f"invoice/SHP-1/{name}") for name in (ORDER, "SO-2")]
    assert [(one.currency, one.lines[0].cost) for one in invoices] == [("USD", 24), ("EUR", None)]
    (one,) = other_currencies(world, "shipment/SHP-1")
    assert "SO-2" in one.text


# --- costs of what is on the shelf -----------------------------------------------------------------------


def test_what_moves_on_a_shelf_is_in_the_currency_of_its_cost_at_that_moment() -> None:
    adjusted = [
        tell(SHELF, StockAdjusted(adjustment_id=name, delta=2), minute)
        for name, minute in (("A", 5), ("B", 50))
    ]
    out = tell(SHELF, TransferredOut(transfer_id="T", to_location="DC-2", quantity=3), 60)
    world = told(*master_data(), costs("7.00", "EUR", 2, 30), *adjusted, out)
    before = live(world, f"stock-adjustment/A/{SKU}@{LOCATION}")
    after = live(world, f"stock-adjustment/B/{SKU}@{LOCATION}")
    assert (before.currency, before.cost) == ("USD", Decimal("16.00"))
    assert (after.currency, after.cost) == ("EUR", Decimal("14.00"))
    assert live(world, f"transfer/T/{SKU}@{LOCATION}/out").currency == "EUR"


def test_an_item_whose_cost_changes_its_currency_is_shown() -> None:
    world = told(*master_data(), costs("7.00", "EUR", 2, 30))
    (one,) = other_currencies(world, f"item/{SKU}")
    assert "item-upserted revision 2: currency is EUR" in one.text
    assert told(*master_data(), costs("7.00", "USD", 2, 30)).snapshot(f"item/{SKU}").findings == ()
