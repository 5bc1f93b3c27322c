"""Which adapters there are: how each reads, checks who signed, and answers what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from adapters.easypost.signature import verify as verify_easypost
from adapters.easypost.translate import translate as translate_easypost
from adapters.shopify.signature import verify as verify_shopify
from adapters.shopify.translate import translate as translate_shopify
from adapters.x12.translate import acknowledge_refusal as acknowledge_x12_refusal
from adapters.x12.translate import translate as translate_x12
from canonical.envelope import from_attributes, parse, parse_batch
from canonical.translation import Connection, Inbound, Translate, Translation


def translate_canonical(message: Inbound, connection: Connection) -> Translation:
    """Canonical CloudEvents need no translation: one event in either form, or a JSON array of them."""
    if message.body.lstrip()[:1] == b"[":
        return Translation(tuple(map(from_attributes, parse_batch(message.body))))
    return Translation((parse(message.body, message.headers, message.headers.get("content-type")),))


TRANSLATORS: Mapping[str, Translate] = {
    "canonical": translate_canonical,
    "easypost": translate_easypost,
    "shopify": translate_shopify,
    "x12": translate_x12,
}

SIGNATURES = {
    "easypost": ("x-hmac-signature", verify_easypost),
    "shopify": ("x-shopify-hmac-sha256", verify_shopify),
}
"""Adapter → the header that signs its webhooks, and how it is checked."""

REFUSALS: Mapping[str, Callable[[Inbound, Connection], bytes | None]] = {"x12": acknowledge_x12_refusal}
"""Adapter → the reply that its format has for a message that is refused."""
