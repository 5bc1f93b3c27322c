"""846 Inventory Inquiry/Advice → stock.counted.

- A count is BIA03 at BIA04 and BIA05: partners use one reference every day.
- Each LIN loop counts one SKU; the place is its own N1*WH, or the heading's.
- The quantity is QTY with qualifier 17, on hand. What is merely available (33) leaves reservations out, and
  would be posted as a loss: the connection's setting ``count_qualifiers`` (``17,33``) takes it all the same,
  where there is no 17.
- Quantities of one SKU and place are added up, and refused where their units (QTY03) differ.
- An inquiry (BIA02 = IN) asks and tells nothing: it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from adapters.x12.document import Document, OneUnit, identifier, key
from adapters.x12.segments import Segment, before, first, loops, missing, only
from canonical.envelope import Event
from canonical.facts.stock import StockCounted
from canonical.identity import stock
from canonical.money import ZERO

_PRODUCT_IDS = range(2, 31, 2)
_PURPOSES = frozenset(("00", "05", "06", "07", "15"))
"""Element 353 in BIA01."""


def translate(document: Document) -> Iterator[Event]:
    bia = only(document.segments, "BIA")
    bia.code(1, _PURPOSES)
    counted_at = document.moment(bia.date(4), bia.time(5))
    count_id = identifier(f"{key(bia, 3)}/{counted_at:%Y%m%dT%H%M%S}", bia, 3)
    counted = loops(document.segments, "LIN")
    if not counted:
        raise missing("LIN")
    for (sku, location), quantity in _totals(document, counted).items():
        fact = StockCounted(count_id=count_id, quantity=quantity)
        yield document.event(count_id, stock(sku, location), counted_at, fact)


def _totals(document: Document, counted: Sequence[tuple[Segment, ...]]) -> dict[tuple[str, str], Decimal]:
    """(SKU, location) → quantity; the lots of one SKU are added up."""
    heading = before(document.segments, "LIN")
    totals: dict[tuple[str, str], Decimal] = {}
    one_unit = OneUnit()
    for loop in counted:
        lin = loop[0]
        place = loop if first(loop, "N1", "WH") is not None else heading
        sku, location = document.sku(lin, lin.pairs(*_PRODUCT_IDS)), document.location(place, "WH", "SF")
        for qty in _quantities(document, loop):
            one_unit.check(f"{sku} at {location}", qty, 3)
            totals[sku, location] = totals.get((sku, location), ZERO) + qty.quantity(2)
    return totals


def _quantities(document: Document, loop: Sequence[Segment]) -> Sequence[Segment]:
    """Those of the best qualifier. Raises: RefusedSet, also where it is not clear which place they are of."""
    wanted = document.connection.settings.get("count_qualifiers", "17").split(",")
    best = first(loop, "QTY", *(qualifier.strip() for qualifier in wanted))
    if best is None:
        raise loop[0].refuse(f"no QTY with qualifier {' or '.join(wanted)} (setting count_qualifiers)")
    found = [one for one in loop if one.id == "QTY" and one[1] == best[1]]
    places = [one for one in loop if one.id == "N1" and one[1] == "WH"]
    if len(found) > 1 and len(places) > 1:
        raise places[1].refuse("a second warehouse for the quantities of one LIN: each needs its own LIN")
    return found
