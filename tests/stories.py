"""Ready-made histories that unit and property tests share."""

from __future__ import annotations

from decimal import Decimal

from canonical.envelope import Event
from canonical.facts.order import (
    InspectedLine,
    OrderAllocated,
    OrderLine,
    OrderPlaced,
    PaymentCaptured,
    RefundIssued,
    ReturnApproved,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
    ReturnRequested,
)
from canonical.facts.reference import CustomerUpserted, ItemUpserted
from canonical.facts.shipment import ShipmentDispatched, ShipmentLine
from canonical.facts.stock import StockCounted
from canonical.facts.tracking import Milestone, TrackingScanned
from tests.world import tell

SKU, LOCATION, ORDER, CUSTOMER = "SKU-1", "DC-01", "SO-1", "C-1"


def master_data() -> list[Event]:
    return [
        tell(f"item/{SKU}", ItemUpserted(revision=1, title="Widget", unit_cost="8.00", currency="USD"), -600),
        tell(f"customer/{CUSTOMER}", CustomerUpserted(revision=1, name="Ann"), -600),
        tell(f"stock/{SKU}@{LOCATION}", StockCounted(count_id="OPEN", quantity=100, opening=True), -500),
    ]


def placed(quantity: int = 10, minute: int = 0, order: str = ORDER) -> Event:
    line = OrderLine(
        line_id="1", sku=SKU, quantity=quantity, unit_price="20.00", tax=Decimal("1.65") * quantity
    )
    fact = OrderPlaced(customer_id=CUSTOMER, currency="USD", lines=(line,), freight="7.50")
    return tell(f"order/{order}", fact, minute)


def dispatched(
    shipment: str,
    quantity: int,
    minute: int,
    *,
    tracking: str | None = None,
    order: str = ORDER,
    cost: str = "4.00",
) -> Event:
    return tell(
        f"shipment/{shipment}",
        ShipmentDispatched(
            location=LOCATION,
            lines=(ShipmentLine(order_id=order, line_id="1", sku=SKU, quantity=quantity),),
            carrier="ups" if tracking else None,
            tracking_numbers=(tracking,) if tracking else (),
            freight_cost=cost,
            freight_currency="USD",
        ),
        minute,
        source="/test/wms",
    )


def delivered(tracking: str, minute: int) -> Event:
    fact = TrackingScanned(milestone=Milestone.DELIVERED, signed_by="Bob")
    return tell(f"tracking/ups:{tracking}", fact, minute, source="/test/ups")


def returned(quantity: int, minute: int, disposition: str = "sellable") -> list[Event]:
    lines = (ReturnLine(line_id="1", quantity=quantity),)
    inspected = InspectedLine(line_id="1", quantity=quantity, disposition=disposition, location=LOCATION)
    return [
        tell(f"order/{ORDER}", ReturnRequested(return_id="RMA-1", lines=lines), minute),
        tell(f"order/{ORDER}", ReturnApproved(return_id="RMA-1"), minute + 1),
        tell(f"order/{ORDER}", ReturnReceived(return_id="RMA-1", lines=lines), minute + 2),
        tell(
            f"order/{ORDER}",
            ReturnInspected(return_id="RMA-1", inspection_id="I-1", lines=(inspected,)),
            minute + 3,
        ),
    ]


def golden() -> list[Event]:
    """domain.md's golden run: 10 sold, shipped 6 and 4, 2 of them returned."""
    return [
        *master_data(),
        placed(10),
        tell(f"order/{ORDER}", OrderAllocated(line_id="1", location=LOCATION, quantity=10), 5),
        tell(f"order/{ORDER}", PaymentCaptured(payment_id="P-1", amount="224.00", currency="USD"), 6),
        dispatched("SHP-1", 6, 60, tracking="1Z1"),
        dispatched("SHP-2", 4, 120, tracking="1Z2"),
        delivered("1Z1", 2000),
        delivered("1Z2", 2100),
        *returned(2, 4000),
        tell(f"order/{ORDER}", RefundIssued(refund_id="R-1", amount="43.30", currency="USD"), 4100),
    ]
