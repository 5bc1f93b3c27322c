"""domain.md's golden run as a shop and a warehouse tell it, and the trial balance of the table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from canonical import identity
from canonical.envelope import STRUCTURED, Event
from canonical.facts.base import Fact
from canonical.facts.order import InspectedLine, ReturnInspected, ReturnLine, ReturnReceived
from canonical.money import ZERO
from canonical.postings import Account
from canonical.translation import Connection
from ops.demo import shop, warehouse
from ops.demo.day import MIDNIGHT, Day, Message, after
from ops.demo.goods import CURRENCY, Parcel, Pick, SoldLine, SoldOrder
from twins.ports import Balance, HeldDocument

SKU, LOCATION, RETURN = "SKU-1", "DC-01", "880001"
LINE = SoldLine("51000000011", SKU, 10, Decimal("20.00"))
ORDER = SoldOrder("5100000001", 1001, "7001", after(MIDNIGHT, hours=8), (LINE,), Decimal("7.50"))
OPENING = {Account.INVENTORY: Balance(Decimal("800.00"), ZERO)}
"""100 at 8.00, from a supplier, before anything is told."""

CONNECTIONS = {
    (one.adapter, one.name): one
    for one in (
        Connection("shopify", "shop", {"currency": CURRENCY}),
        Connection("x12", "warehouse", {"location": LOCATION, "carrier.UPSN": "ups"}),
        Connection("canonical", "returns"),
    )
}

COLUMNS = {
    "receivable": Account.RECEIVABLE,
    "inventory": Account.INVENTORY,
    "interim out": Account.COST_INTERIM,
    "cost of goods": Account.COST_OF_GOODS,
    "revenue": Account.REVENUE,
    "freight": Account.FREIGHT_INCOME,
    "tax": Account.TAX,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: after which documents it stands, and debit/credit by column."""

    after: str
    documents: tuple[str, ...]
    cells: tuple[str, ...]


ORDER_ID = ORDER.order_id
TABLE = (
    Row("ship 6", ("goods-issue/SHP-1",), ("–", "800/48", "48/0", "–", "–", "–", "–")),
    Row(
        "invoice 6",
        (f"invoice/SHP-1/{ORDER_ID}",),
        ("129.90/0", "800/48", "48/48", "48/0", "0/120", "–", "0/9.90"),
    ),
    Row(
        "ship and invoice 4, freight",
        ("goods-issue/SHP-2", f"invoice/SHP-2/{ORDER_ID}"),
        ("224/0", "800/80", "80/80", "80/0", "0/200", "0/7.50", "0/16.50"),
    ),
    Row(
        "return 2, credit",
        (
            f"return-receipt/{RETURN}/{LINE.line_id}/{ORDER_ID}",
            f"credit-note/{RETURN}/{LINE.line_id}/{ORDER_ID}",
        ),
        ("224/43.30", "816/80", "80/80", "80/16", "40/200", "0/7.50", "3.30/16.50"),
    ),
)
"""domain.md's: freight is charged with the final shipment."""
PRORATED = (
    TABLE[0],
    replace(TABLE[1], cells=("134.40/0", "800/48", "48/48", "48/0", "0/120", "0/4.50", "0/9.90")),
    *TABLE[2:],
)
"""The same where freight is prorated: 4.50 of the 7.50 belong to the first six pieces."""


def messages() -> tuple[Message, ...]:
    """As it happened: master data, 100 pieces, an order of 10, two parcels, two pieces back."""
    first, second = _parcel(1, 6, hours=3), _parcel(2, 4, hours=27)
    return (
        _shopify("products/create", _product(), hours=-6),
        _shopify("customers/create", shop.customer_body("7001", "Ann", "Lee", MIDNIGHT), hours=-6),
        _x12(warehouse.received("RCV-1", LOCATION, {SKU: 100}, after(MIDNIGHT, hours=2)), hours=-6),
        _shopify("orders/create", shop.order_body(ORDER, ORDER.placed_at), hours=0),
        *_shipped(first, 3),
        *_shipped(second, 27),
        _shopify("returns/approve", shop.return_body(RETURN, ORDER, [(LINE, 2)], "open"), hours=96),
        _canonical("received", _received(), 120),
        _canonical("inspected", _inspected(), 121),
    )


def day() -> Day:
    return Day(messages(), CONNECTIONS, {})


def _shipped(parcel: Parcel, hours: float) -> tuple[Message, ...]:
    """Told to the warehouse by 940; told by it in a 945 and, of the same goods, in an 856."""
    number = int(parcel.shipment_id[-1])
    release = warehouse.release(ORDER_ID, parcel.shipment_id, LOCATION, parcel.picks, parcel.left_at)
    return (
        _x12(release, hours - 1),
        _x12(warehouse.advice(parcel, number), hours),
        _x12(warehouse.ship_notice(parcel, number), hours + 0.1),
    )


def _parcel(number: int, quantity: int, hours: float) -> Parcel:
    picks = (Pick(LINE, quantity, quantity, SKU),)
    left = after(ORDER.placed_at, hours=hours)
    return Parcel(f"SHP-{number}", ORDER_ID, LOCATION, f"1Z{number:016}", picks, left, Decimal("9.20"))


def _product() -> bytes:
    """A shop does not say what its goods cost: the ERP knows."""
    variant = {"id": 2, "sku": SKU, "title": "Default Title", "updated_at": MIDNIGHT.isoformat()}
    product = {"id": 1, "title": "Widget", "updated_at": MIDNIGHT.isoformat(), "variants": [variant]}
    return json.dumps(product).encode()


def _received() -> Fact:
    return ReturnReceived(return_id=RETURN, lines=(ReturnLine(line_id=LINE.line_id, quantity=2),))


def _inspected() -> Fact:
    part = InspectedLine(line_id=LINE.line_id, quantity=2, disposition="sellable", location=LOCATION)
    return ReturnInspected(return_id=RETURN, inspection_id="I-1", lines=(part,))


def _shopify(topic: str, body: bytes, hours: float) -> Message:
    at = after(ORDER.placed_at, hours=hours)
    headers = {"x-shopify-topic": topic, "x-shopify-triggered-at": at.isoformat()}
    return Message("shopify", "shop", headers, body, at)


def _x12(body: bytes, hours: float) -> Message:
    return Message("x12", "warehouse", {}, body, after(ORDER.placed_at, hours=hours))


def _canonical(id: str, fact: Fact, hours: float) -> Message:
    at = after(ORDER.placed_at, hours=hours)
    event = Event("/returns/portal", id, identity.order(ORDER_ID), at, fact)
    return Message("canonical", "returns", {"content-type": STRUCTURED}, event.structured(), at)


# --- the table


def cells(balances: Mapping[Account, Balance]) -> tuple[str, ...]:
    return tuple(_cell(balances.get(role)) for role in COLUMNS.values())


def cumulated(documents: Iterable[HeldDocument]) -> dict[Account, Balance]:
    """Debits and credits of documents, on top of the opening balance."""
    found = dict(OPENING)
    for document in documents:
        for role, amount in document.amounts.items():
            before = found.get(role, Balance(ZERO, ZERO))
            found[role] = Balance(before.debit + max(amount, ZERO), before.credit + max(-amount, ZERO))
    return found


def printed(table: Sequence[Row], computed: Sequence[tuple[str, ...]]) -> str:
    """Computed over expected, row by row."""
    lines = [_line("after", tuple(COLUMNS))]
    for row, cells_found in zip(table, computed, strict=True):
        verdict = "equal" if cells_found == row.cells else "DIFFERENT"
        lines += [_line(row.after, row.cells), _line(f"  in Tryton: {verdict}", cells_found)]
    return "\n".join(lines)


def _line(head: str, cells_shown: Sequence[str]) -> str:
    return f"{head:30}" + "".join(f"{cell:>15}" for cell in cells_shown)


def _cell(balance: Balance | None) -> str:
    return "–" if balance is None else f"{_short(balance.debit)}/{_short(balance.credit)}"


def _short(amount: Decimal) -> str:
    """As the table writes it: whole amounts without cents."""
    return str(int(amount)) if amount == int(amount) else f"{amount:.2f}"
