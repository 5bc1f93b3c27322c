"""Master data: the newest revision of the owning system wins."""

from __future__ import annotations

from canonical.facts.base import Fact, Rank, closed
from canonical.identity import Kind
from canonical.types import Amount, Currency, GtinText, Identifier, Quantity, Text, Whole

_CUSTOMER = frozenset({Kind.CUSTOMER})
_ITEM = frozenset({Kind.ITEM})


@closed
class CustomerUpserted(Fact):
    TYPE = "io.twinsync.customer.upserted.v1"
    KINDS = _CUSTOMER
    RANK = Rank.MASTER

    revision: Whole
    name: Text
    country: Identifier | None = None
    """ISO 3166-1 alpha-2."""
    tax_id: Text | None = None
    price_list: Identifier | None = None


@closed
class CustomerDeactivated(Fact):
    TYPE = "io.twinsync.customer.deactivated.v1"
    KINDS = _CUSTOMER
    RANK = Rank.MASTER

    revision: Whole


@closed
class ItemUpserted(Fact):
    """An item as its owning system has it. The cost holds from the event's time on."""

    TYPE = "io.twinsync.item.upserted.v1"
    KINDS = _ITEM
    RANK = Rank.MASTER

    revision: Whole
    title: Text
    unit: Identifier = "EA"
    gtin: GtinText | None = None
    unit_cost: Amount | None = None
    currency: Currency | None = None
    tax_code: Identifier | None = None
    mass_g: Quantity | None = None
    length_mm: Quantity | None = None
    width_mm: Quantity | None = None
    height_mm: Quantity | None = None


@closed
class ItemDeactivated(Fact):
    TYPE = "io.twinsync.item.deactivated.v1"
    KINDS = _ITEM
    RANK = Rank.MASTER

    revision: Whole
