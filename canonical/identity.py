"""Who a fact is about: twin references, and the GS1 numbers that partners identify things by."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, NewType

import biip
from biip.gln import Gln
from biip.gtin import Gtin
from biip.sscc import Sscc

from canonical.errors import RejectedMessage

OrderId = NewType("OrderId", str)
LineId = NewType("LineId", str)
ShipmentId = NewType("ShipmentId", str)
ReturnId = NewType("ReturnId", str)
Sku = NewType("Sku", str)
LocationId = NewType("LocationId", str)
EventId = NewType("EventId", str)
"""``source`` and ``id`` of an event joined by ``#``: unique in the whole system."""
PostingKey = NewType("PostingKey", str)
"""Business identity of an ERP document, such as ``goods-issue/SHP-7``."""


def event_id_of(source: str, id: str) -> EventId:
    """Join the two; a ``#`` in a source, which is a URI reference and may have one, is escaped."""
    if "#" in source or "%" in source:
        source = source.replace("%", "%25").replace("#", "%23")
    return EventId(f"{source}#{id}")


def posting_key(command: str, *parts: str) -> PostingKey:
    """Join what names a document; a ``/`` within a part is escaped, so that no two names join to one key."""
    joined = "/".join((command, *parts))
    if "%" in joined or joined.count("/") > len(parts):
        joined = "/".join((command, *(part.replace("%", "%25").replace("/", "%2F") for part in parts)))
    return PostingKey(joined)


KEY_LENGTH_MAX = 257
"""Two identifiers of 128 characters, and what joins them."""
_KEY = re.compile(r"[^\x00-\x1f\x7f]+")


class Kind(StrEnum):
    ORDER = "order"
    STOCK = "stock"
    SHIPMENT = "shipment"
    TRACKING = "tracking"
    RETURN = "return"
    CUSTOMER = "customer"
    ITEM = "item"
    ERP = "erp"


_KINDS = {kind.value: kind for kind in Kind}


class TwinRef(NamedTuple):
    """Address of one twin; its text form ``kind/key`` is the CloudEvents ``subject``."""

    kind: Kind
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


@lru_cache(maxsize=65_536)
def twin_ref(subject: str) -> TwinRef:
    """Read ``kind/key``. Raises: RejectedMessage naming the field ``subject``."""
    kind, slash, key = subject.partition("/")
    if not slash or not key:
        raise RejectedMessage(f"expected kind/key, got {subject!r}", field="subject")
    if kind not in _KINDS:
        known = ", ".join(Kind)
        raise RejectedMessage(f"unknown twin kind {kind!r}; known: {known}", field="subject")
    if len(key) > KEY_LENGTH_MAX or not _KEY.fullmatch(key) or key != key.strip():
        raise RejectedMessage(
            f"a key has 1 to {KEY_LENGTH_MAX} printable characters and no outer spaces", field="subject"
        )
    ref = TwinRef(_KINDS[kind], key)
    if ref.kind is Kind.STOCK:
        sku_and_location(ref)
    return ref


def order(order_id: str) -> TwinRef:
    return TwinRef(Kind.ORDER, order_id)


@lru_cache(maxsize=65_536)
def stock(sku: str, location: str) -> TwinRef:
    return TwinRef(Kind.STOCK, f"{sku}@{location}")


def shipment(shipment_id: str) -> TwinRef:
    return TwinRef(Kind.SHIPMENT, shipment_id)


def tracking(carrier: str, number: str) -> TwinRef:
    """A tracking number is unique within its carrier; letters are compared without case."""
    return TwinRef(Kind.TRACKING, f"{carrier.strip().lower()}:{number.strip().upper()}")


def return_(return_id: str) -> TwinRef:
    return TwinRef(Kind.RETURN, return_id)


@lru_cache(maxsize=65_536)
def customer(customer_id: str) -> TwinRef:
    return TwinRef(Kind.CUSTOMER, customer_id)


@lru_cache(maxsize=65_536)
def item(sku: str) -> TwinRef:
    return TwinRef(Kind.ITEM, sku)


def sku_and_location(ref: TwinRef) -> tuple[Sku, LocationId]:
    """Split ``SKU@location``. Raises: RejectedMessage naming the field ``subject``."""
    sku, at, location = ref.key.rpartition("@")
    if not at or not sku or not location:
        raise RejectedMessage(f"a stock key is SKU@location, got {ref.key!r}", field="subject")
    return Sku(sku), LocationId(location)


def gtin(text: str) -> str:
    """Normalise a GTIN-8, -12, -13 or -14 to 14 digits; raises ValueError on a wrong check digit."""
    return str(_gs1(Gtin, text).as_gtin_14())


def gln(text: str) -> str:
    """Check a Global Location Number (13 digits); raises ValueError."""
    return str(_gs1(Gln, text).value)


def sscc(text: str) -> str:
    """Check a Serial Shipping Container Code (18 digits, optionally with its ``00`` prefix)."""
    return str(_gs1(Sscc, text.removeprefix("00") if len(text) == 20 else text).value)


def _gs1(number_type: Any, text: str) -> Any:
    try:
        return number_type.parse(text.strip())
    except biip.ParseError as error:
        raise ValueError(str(error)) from error
