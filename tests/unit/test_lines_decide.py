"""What one line has too much does not make up for what another lacks."""

from __future__ import annotations

from decimal import Decimal

from canonical.facts.order import OrderLine, OrderPlaced, PaymentCaptured
from canonical.facts.shipment import ShipmentDispatched, ShipmentLine
from canonical.postings import PostInvoice
from tests.stories import delivered
from tests.world import World, tell
from twins.core.rules import FreightCharge, Policy

ORDER = "order/SO-1"


def story() -> list[object]:
    """Twenty of A and one of B are ordered; 21 of A ship, which the tolerance allows, and arrive."""
    lines = (
        OrderLine(line_id="1", sku="A", quantity=20, unit_price="20.00"),
        OrderLine(line_id="2", sku="B", quantity=1, unit_price="20.00"),
    )
    shipped = ShipmentDispatched(
        location="DC-1",
        lines=(ShipmentLine(order_id="SO-1", line_id="1", sku="A", quantity=21),),
        carrier="ups",
        tracking_numbers=("1Z1",),
    )
    return [
        tell(ORDER, OrderPlaced(currency="USD", lines=lines, freight="21.00"), 0),
        tell(ORDER, PaymentCaptured(payment_id="P", amount="441.00", currency="USD"), 6),
        tell("shipment/SHP-1", shipped, 20, source="/test/wms"),
        delivered("1Z1", 100),
    ]


def world(**policy: object) -> World:
    return World(policy=Policy(require_master_data=False, **policy)).take_each(story()).confirm()  # type: ignore[arg-type]


def test_an_order_is_not_shipped_before_each_line_is() -> None:
    snapshot = world().snapshot(ORDER)
    assert snapshot.status == "partly-shipped"
    assert not snapshot.is_closed()


def invoiced_freight(**policy: object) -> Decimal:
    (invoice,) = (one for one in world(**policy).live().values() if isinstance(one, PostInvoice))
    return invoice.freight


def test_the_last_shipment_is_not_there_before_each_line_is() -> None:
    assert invoiced_freight(freight_charge=FreightCharge.FINAL_SHIPMENT) == 0


def test_freight_is_prorated_over_what_was_ordered_of_each_line() -> None:
    assert invoiced_freight() == Decimal("20.00")
