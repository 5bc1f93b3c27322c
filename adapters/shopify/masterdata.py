"""Products and customers: the newest ``updated_at`` is the newest revision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from adapters.shopify.models import Customer, Product, Variant
from adapters.shopify.telling import Telling, revision
from canonical import identity
from canonical.envelope import Event
from canonical.facts.reference import CustomerUpserted, ItemUpserted


def product_events(payload: Any, telling: Telling) -> Iterator[Event]:
    product = Product.model_validate(payload)
    for variant in product.variants:
        if variant.sku is None:
            continue
        updated = max(product.updated_at, variant.updated_at or product.updated_at)
        event_id = f"products/{product.id}/variants/{variant.id}/{updated.isoformat()}"
        yield telling.event(event_id, identity.item(variant.sku), updated, _item(product, variant, updated))


def _item(product: Product, variant: Variant, updated: datetime) -> ItemUpserted:
    plain = variant.title in (None, "Default Title")
    return ItemUpserted(
        revision=revision(updated),
        title=product.title if plain else f"{product.title} - {variant.title}",
        gtin=_gtin(variant.barcode),
        mass_g=variant.grams,
    )


def _gtin(barcode: str | None) -> str | None:
    """Merchants type what they like into a barcode; only a number with a right check digit is one."""
    try:
        return None if barcode is None else identity.gtin(barcode)
    except ValueError:
        return None


def customer_events(payload: Any, telling: Telling) -> Iterator[Event]:
    customer = Customer.model_validate(payload)
    fact = CustomerUpserted(
        revision=revision(customer.updated_at),
        name=customer.full_name,
        country=customer.default_address.country_code if customer.default_address else None,
    )
    event_id = f"customers/{customer.id}/{customer.updated_at.isoformat()}"
    yield telling.event(event_id, identity.customer(customer.id), customer.updated_at, fact)
