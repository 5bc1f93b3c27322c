"""Whether a webhook comes from EasyPost."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata

HEADER = "x-hmac-signature"
_PREFIX = "hmac-sha256-hex="


def verify(body: bytes, header: str | None, secret: str) -> bool:
    """Compare in constant time; *body* is the raw bytes, before any decoding.

    Source: EasyPost, Webhooks Guide, and ``validate_webhook`` of its client libraries, which normalise the
    secret to Unicode form NFKD.
    """
    if not header or not secret:
        return False
    key = unicodedata.normalize("NFKD", secret).encode()
    expected = _PREFIX + hmac.digest(key, body, hashlib.sha256).hex()
    return hmac.compare_digest(expected.encode(), header.strip().encode())
