"""Parts of Shopify's webhook payloads that twinsync reads (Admin REST resources, API 2024-01 or later)."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from adapters.webhooks import Many, MaybeText, Theirs, blank_is_none
from canonical.money import ZERO
from canonical.types import Amount, Currency, Identifier, Occurred, Quantity, Text

MaybeId = Annotated[Identifier | None, BeforeValidator(blank_is_none)]
MaybeCurrency = Annotated[Currency | None, BeforeValidator(blank_is_none)]


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


class ShippedGoods(Theirs):
    id: Identifier
    """The order line's id."""
    quantity: Quantity


class Shipped(Theirs):
    """A fulfilment as its order tells of it; its own webhook tells more."""

    created_at: Occurred
    status: MaybeText = None
    line_items: Many[ShippedGoods] = ()


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
    fulfillments: tuple[Shipped, ...] | None = None


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
