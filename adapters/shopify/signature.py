"""Whether a webhook comes from Shopify."""

from __future__ import annotations

import base64
import hashlib
import hmac

HEADER = "x-shopify-hmac-sha256"


def verify(body: bytes, header: str | None, secret: str) -> bool:
    """Compare in constant time; *body* is the raw bytes, before any decoding.

    Source: Shopify, "Deliver webhooks through HTTPS": HMAC-SHA256 keyed with the app's client secret, base64.
    """
    if not header or not secret:
        return False
    expected = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))
    return hmac.compare_digest(expected, header.strip().encode())
