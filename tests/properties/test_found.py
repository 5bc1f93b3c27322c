"""Small histories in which the product breaks a rule: found by the properties of this folder, and shrunk."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.order import (
    InspectedLine,
    OrderAllocated,
    OrderAmended,
    OrderHeld,
    OrderHoldReleased,
    OrderLine,
    OrderPlaced,
    ReturnInspected,
    ReturnLine,
    ReturnReceived,
    ReturnRequested,
)
from canonical.facts.reference import CustomerUpserted, ItemUpserted
from canonical.facts.shipment import ShipmentDispatched, ShipmentLine, ShipmentVoided
from canonical.facts.stock import StockReceived
from canonical.identity import PostingKey
from canonical.postings import PostInvoice
from tests.properties.compared import digest, documents, words
from tests.properties.test_invariants import Gateway
from tests.world import World, tell

ORDER = "order/SO-1"
CARDS = [
    tell("item/A", ItemUpserted(revision=1, title="A", unit_cost="2.00", currency="USD"), -9),
    tell("customer/C-1", CustomerUpserted(revision=1, name="Ann"), -9),
]


def placed(quantity: str = "4", line_id: str = "1", order: str = ORDER) -> Event:
    line = OrderLine(line_id=line_id, sku="A", quantity=quantity, unit_price="10.00")
    return tell(order, OrderPlaced(customer_id="C-1", currency="USD", lines=(line,)), id=f"placed {order}")


def allocated(quantity: str, minute: int = 1, line_id: str = "1", order: str = ORDER) -> Event:
    fact = OrderAllocated(line_id=line_id, location="DC-1", quantity=quantity)
    return tell(order, fact, minute, id=f"allocated {order} {minute}")


def dispatched(shipment: str, quantity: str, minute: int) -> Event:
    lines = (ShipmentLine(order_id="SO-1", line_id="1", sku="A", quantity=quantity),)
    return tell(f"shipment/{shipment}", ShipmentDispatched(location="DC-1", lines=lines), minute)


def brought_back(quantity: str) -> list[Event]:
    line = InspectedLine(line_id="1", quantity=quantity, disposition="sellable", location="DC-1")
    asked = (ReturnLine(line_id="1", quantity=quantity),)
    return [
        tell(ORDER, ReturnRequested(return_id="R", lines=asked), 50),
        tell(ORDER, ReturnReceived(return_id="R", lines=asked), 51),
        tell(ORDER, ReturnInspected(return_id="R", inspection_id="I", lines=(line,)), 52),
    ]


def ends(events: Sequence[Event]) -> set[str]:
    """Digests of all that readers see, one for each order of arrival that ends otherwise."""
    worlds = (World().take_each(arriving) for arriving in permutations(events))
    return {digest(documents(world.twins)) for world in worlds}


def test_fractions_that_came_and_went_leave_no_trace_in_how_a_quantity_is_spelled() -> None:
    """`0` and `0.0` are two documents to an ETag, and to a reader who compares text."""
    assert len(ends([placed(), allocated("0.5", 1), allocated("2", 2)])) == 1


def test_an_invoice_is_the_same_document_however_its_quantity_was_spelled_first() -> None:
    """Half a piece twice is one piece: an acceptance of 1.0 that is now 1 must not stay what it was."""
    half = ShipmentLine(order_id="SO-1", line_id="1", sku="A", quantity="0.5")
    witness = tell(
        "shipment/SHP-1", ShipmentDispatched(location="DC-1", lines=(half, half)), 20, source="/edi"
    )
    told = [*CARDS, placed(), dispatched("SHP-1", "1", 10)]
    assert World().take_each([*told, witness]).live() == World().take_each([witness, *told]).live()


def test_a_retracted_receipt_does_not_make_its_stock_ask_for_the_item() -> None:
    """E − retracted: an item that nobody deals in has no exception that twins wait for it."""
    received = tell("stock/A@DC-1", StockReceived(receipt_id="G", quantity=1), id="typo")
    taken_back = tell("stock/A@DC-1", Retracted(source=received.source, id=received.id), id="never mind")
    world = World().take_each([received, taken_back])
    assert words(world.twins) == {}
    assert "item/A" not in {str(ref) for ref in documents(world.twins)}


def test_a_credit_note_not_sent_yet_waits_for_the_invoices_that_supply_it_now() -> None:
    """Its content stays the same when another shipment supplies the goods; what it requires does not."""
    gateway = Gateway(World())
    shipped = [dispatched("SHP-1", "2", 10), dispatched("SHP-2", "2", 20)]
    gateway.world.take([*CARDS, placed(), *shipped])
    gateway.world.take(brought_back("2"))
    gateway.world.take([tell("shipment/SHP-1", ShipmentVoided(), 30)])
    gateway.drain()
    assert [one.command.key for one in gateway.queue] == []
    assert gateway.documents == gateway.world.live()


def test_goods_that_shipped_are_invoiced_at_their_price_though_amended_to_none_later() -> None:
    """Quantities already shipped cannot be amended away, and neither can their price."""
    none = OrderLine(line_id="1", sku="A", quantity=0, unit_price="10.00")
    amended = tell(ORDER, OrderAmended(revision=1, lines=(none,)), 40)
    world = World().take_each([*CARDS, placed(), dispatched("SHP-1", "2", 10), amended]).confirm()
    invoice = world.live()[PostingKey("invoice/SHP-1/SO-1")]
    assert isinstance(invoice, PostInvoice)
    assert invoice.total == Decimal("20.00")


def test_the_numbers_of_a_source_overrule_the_ranks_of_its_facts() -> None:
    """Within a source that numbers its events the numbers rule, where its clock says the same for both."""
    events = [
        placed(),
        tell(ORDER, OrderHeld(hold_id="H", reason="fraud"), 1, source="/crm", sequence=1),
        tell(ORDER, OrderHoldReleased(hold_id="H"), 5, source="/crm", sequence=2),
        tell(ORDER, OrderHeld(hold_id="H", reason="again"), 5, source="/crm", sequence=3, id="again"),
    ]
    document = World().take_each(events).snapshot(ORDER).document()
    assert document["holds"] == {"H": "again"}


def test_two_lines_whose_names_join_to_the_same_text_have_a_document_each() -> None:
    """Identifiers may hold a slash: line `1/1` of SO-1 is not line `1` of SO-1/1."""
    twice = [
        *CARDS,
        tell("stock/A@DC-1", StockReceived(receipt_id="G", quantity=9)),
        placed(line_id="1/1"),
        allocated("1", line_id="1/1"),
        placed(order="order/SO-1/1"),
        allocated("1", order="order/SO-1/1"),
    ]
    world = World().take_each(twice)
    assert len(world.live()) == 2


def test_two_sources_whose_names_join_to_the_same_text_are_two_sources() -> None:
    """A CloudEvents source is a URI reference and may hold a `#`; (source, id) is an event's identity."""
    first = tell("stock/A@DC-1", StockReceived(receipt_id="G1", quantity=1), source="/wms#1", id="7")
    other = tell("stock/A@DC-1", StockReceived(receipt_id="G2", quantity=1), source="/wms", id="1#7")
    world = World().take_each([first, other])
    assert world.snapshot("stock/A@DC-1").document()["on_hand"]["sellable"] == 2
    assert len(world.snapshot("stock/A@DC-1").conflicts) == 0
