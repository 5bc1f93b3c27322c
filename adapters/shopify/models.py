"""The parts of Shopify's webhook payloads that twinsync reads (Admin REST resources, API 2024-01 and later).

Whole numbers are kept as text and fractions as decimals: neither a 64-bit id nor an amount passes through a
float. What Shopify sends as ``null`` or ``""`` where it has nothing to say is None, or an empty tuple.
"""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from canonical.errors import RejectedMessage
from canonical.money import ZERO
from canonical.types import Amount, Currency, Identifier, Occurred, Quantity, Text

T = TypeVar("T")


def read(body: bytes) -> dict[str, Any]:
    """Decode a body. Raises: RejectedMessage for all that is not one JSON object."""
    if not body.strip():
        raise RejectedMessage("empty body")
    try:
        found = json.loads(body, parse_int=str, parse_float=Decimal, parse_constant=_not_a_number)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise RejectedMessage(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RejectedMessage("expected a JSON object")
    return found


def rejected(error: ValidationError) -> RejectedMessage:
    """The first fault, under the path of its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    reason = first["msg"].removeprefix("Value error, ")
    return RejectedMessage(reason + more, field=".".join(map(str, first["loc"])))


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _blank_is_none(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _null_is_empty(value: Any) -> Any:
    return () if value is None else value


MaybeId = Annotated[Identifier | None, BeforeValidator(_blank_is_none)]
MaybeText = Annotated[Text | None, BeforeValidator(_blank_is_none)]
MaybeCurrency = Annotated[Currency | None, BeforeValidator(_blank_is_none)]
Many = Annotated[tuple[T, ...], BeforeValidator(_null_is_empty)]


class Theirs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TaxLine(Theirs):
    price: Amount


class DiscountAllocation(Theirs):
    amount: Amount


class Charge(Theirs):
    """A priced thing. Taxes and discounts are for all of it, refunded and removed pieces included."""

    price: Amount
    tax_lines: Many[TaxLine] = ()
    discount_allocations: Many[DiscountAllocation] = ()

    @property
    def tax(self) -> Decimal:
        return sum((line.price for line in self.tax_lines), ZERO)

    @property
    def discount(self) -> Decimal:
        return sum((allocation.amount for allocation in self.discount_allocations), ZERO)


class Goods(Theirs):
    """A quantity of what one order line sells."""

    id: Identifier
    """The order line's id, in orders and in fulfilments alike."""
    quantity: Quantity
    sku: MaybeId = None
    variant_id: MaybeId = None
    product_id: MaybeId = None

    @property
    def our_sku(self) -> str:
        """Shopify demands no SKU: without one, the narrowest id that other lines can share."""
        if self.sku is not None:
            return self.sku
        if self.variant_id is not None:
            return f"variant/{self.variant_id}"
        return f"line/{self.id}" if self.product_id is None else f"product/{self.product_id}"


class LineItem(Goods, Charge):
    title: MaybeText = None
    current_quantity: Quantity | None = None
    """What is left after removals and refunds (changelog of 2023-12-05)."""
    fulfillment_status: MaybeText = None
    """None: nothing of the line has shipped."""


class ShippingLine(Charge):
    is_removed: bool = False


class ShopMoney(Theirs):
    currency_code: MaybeCurrency = None


class MoneyBag(Theirs):
    shop_money: ShopMoney | None = None


class RefundLineItem(Theirs):
    line_item_id: Identifier
    quantity: Quantity
    restock_type: MaybeText = None
    subtotal_set: MoneyBag | None = None


class Kind(StrEnum):
    """Of a transaction (Admin REST, Transaction, ``kind``)."""

    AUTHORIZATION = "authorization"
    EMV_AUTHORIZATION = "emv_authorization"
    CAPTURE = "capture"
    SALE = "sale"
    REFUND = "refund"
    VOID = "void"
    CHANGE = "change"


class Transaction(Theirs):
    id: Identifier
    kind: Kind
    status: str
    amount: Amount
    created_at: Occurred
    order_id: MaybeId = None
    currency: MaybeCurrency = None
    gateway: MaybeId = None


class Refund(Theirs):
    id: Identifier
    created_at: Occurred
    order_id: MaybeId = None
    refund_line_items: Many[RefundLineItem] = ()
    transactions: Many[Transaction] = ()
    total_duties_set: MoneyBag | None = None

    @property
    def shop_currency(self) -> str | None:
        bags = [line.subtotal_set for line in self.refund_line_items] + [self.total_duties_set]
        moneys = [bag.shop_money for bag in bags if bag is not None and bag.shop_money is not None]
        return next((money.currency_code for money in moneys if money.currency_code), None)


class Buyer(Theirs):
    id: MaybeId = None


class Order(Theirs):
    id: Identifier
    created_at: Occurred
    updated_at: Occurred
    currency: Currency
    """The shop's: the currency of every amount that is not in a ``_set``."""
    line_items: Many[LineItem]
    shipping_lines: Many[ShippingLine] = ()
    taxes_included: bool = False
    name: MaybeText = None
    source_name: MaybeId = None
    customer: Buyer | None = None
    cancelled_at: Occurred | None = None
    cancel_reason: MaybeText = None
    refunds: Many[Refund] = ()


class FulfillmentStatus(StrEnum):
    """Admin REST, Fulfillment, ``status``."""

    PENDING = "pending"
    OPEN = "open"
    SUCCESS = "success"
    CANCELLED = "cancelled"
    ERROR = "error"
    FAILURE = "failure"


class Fulfillment(Theirs):
    id: Identifier
    order_id: Identifier
    status: FulfillmentStatus
    created_at: Occurred
    updated_at: Occurred
    line_items: Many[Goods]
    location_id: MaybeId = None
    tracking_company: MaybeText = None
    tracking_number: MaybeId = None
    tracking_numbers: Many[MaybeId] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """Tracking numbers, each once; the singular field is the older spelling of the first."""
        told = (*self.tracking_numbers, self.tracking_number)
        return tuple(dict.fromkeys(number for number in told if number is not None))


class LineReference(Theirs):
    id: Identifier


class FulfillmentLineItem(Theirs):
    line_item: LineReference


class ReturnLineItem(Theirs):
    quantity: Quantity
    fulfillment_line_item: FulfillmentLineItem
    return_reason: MaybeText = None


class Decline(Theirs):
    reason: MaybeText = None
    note: MaybeText = None


class OrderReference(Theirs):
    id: Identifier


class Return(Theirs):
    """The payload dates nothing: only the header ``x-shopify-triggered-at`` says when."""

    id: Identifier
    order: OrderReference
    return_line_items: Many[ReturnLineItem] = ()
    decline: Decline | None = None


class InventoryLevel(Theirs):
    inventory_item_id: Identifier
    location_id: MaybeId = None
    available: Amount | None
    """None where the item is not tracked; below zero where it is oversold."""
    updated_at: Occurred


class Variant(Theirs):
    id: Identifier
    sku: MaybeId = None
    title: MaybeText = None
    barcode: MaybeText = None
    grams: Quantity | None = None
    updated_at: Occurred | None = None


class Product(Theirs):
    id: Identifier
    title: Text
    updated_at: Occurred
    variants: Many[Variant]


class Address(Theirs):
    company: MaybeText = None
    country_code: MaybeId = None


class Customer(Theirs):
    id: Identifier
    updated_at: Occurred
    first_name: MaybeText = None
    last_name: MaybeText = None
    default_address: Address | None = None

    @property
    def full_name(self) -> str:
        """The person's name, or their company's, or at least the number."""
        person = " ".join(name for name in (self.first_name, self.last_name) if name)
        company = self.default_address.company if self.default_address else None
        return person or company or self.id
