"""Malformed messages, made from a seed: each with the field that its refusal must name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from canonical.envelope import BODY_BYTES_MAX

RAW = "@@"
"""Stands in an event for bytes that no JSON library would write."""
Spoil = Callable[[Random, dict[str, Any]], bytes | None]
"""Changes an event; answers what to put where it says RAW."""


@dataclass(frozen=True)
class Kind:
    name: str
    field: str
    """Empty: the whole message is at fault."""
    spoil: Spoil = lambda rng, event: None
    damage: Callable[[Random, bytes], bytes] = field(default=lambda rng, body: body)


@dataclass(frozen=True)
class Bad:
    kind: Kind
    event: dict[str, Any]
    """Attributes and data, for the routing key and the like."""
    structured: bytes
    headers: dict[str, str]
    data: bytes
    """*headers* and *data*: the same in binary form."""

    def names(self, at: str) -> bool:
        """Whether a refusal that names the field *at* names the right one."""
        return not self.kind.field or at == self.kind.field or at.startswith(self.kind.field + ".")


def bad_input(seed: int, count: int) -> Iterator[Bad]:
    """Every kind in turn."""
    rng = Random(seed)
    for number in range(count):
        yield _bad(KINDS[number % len(KINDS)], rng, f"bad-{seed}-{number}")


def good_event(name: str) -> dict[str, Any]:
    line = {"line_id": "1", "sku": "SKU-1", "quantity": "10", "unit_price": "20.00", "title": "Kettle"}
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/bad/input",
        "type": "io.twinsync.order.placed.v1",
        "subject": f"order/{name}",
        "time": "2025-03-02T08:00:00Z",
        "data": {"currency": "USD", "lines": [line], "freight": "7.50", "reference": "#1001"},
    }


def _bad(kind: Kind, rng: Random, name: str) -> Bad:
    event = good_event(name)
    raw = kind.spoil(rng, event)
    spelled = {key: _spelled(value, raw) for key, value in event.items()}
    members = b",".join(json.dumps(key).encode() + b":" + value for key, value in spelled.items())
    headers = {f"ce-{key}": _header(event[key], raw) for key in event if key != "data"}
    data = kind.damage(rng, spelled.get("data", b""))
    return Bad(kind, event, kind.damage(rng, b"{" + members + b"}"), headers, data)


def _spelled(value: Any, raw: bytes | None) -> bytes:
    said = json.dumps(value).encode()
    return said if raw is None else said.replace(json.dumps(RAW).encode(), raw)


def _header(value: Any, raw: bytes | None) -> str:
    return raw.decode("latin-1") if value == RAW and raw is not None else str(value)


# --- spoiling --------------------------------------------------------------------------------------------


def attribute(name: str, at: str, *values: Any) -> Kind:
    """An attribute that has one of these values."""

    def spoil(rng: Random, event: dict[str, Any]) -> None:
        event[at] = rng.choice(values)

    return Kind(name, at, spoil)


def lacking(name: str) -> Kind:
    def spoil(rng: Random, event: dict[str, Any]) -> None:
        del event[name]

    return Kind(f"lacks {name}", name, spoil)


def said(name: str, path: str, *values: Any) -> Kind:
    """A field of the data, such as ``lines.0.quantity``, that has one of these values; bytes are raw."""

    def spoil(rng: Random, event: dict[str, Any]) -> bytes | None:
        inner, value = event["data"], rng.choice(values)
        *steps, last = path.split(".")
        for step in steps:
            inner = inner[int(step)] if isinstance(inner, list) else inner[step]
        inner[last] = RAW if isinstance(value, bytes) else value
        return value if isinstance(value, bytes) else None

    return Kind(name, f"data.{path}", spoil)


def whole(name: str, damage: Callable[[Random, bytes], bytes], at: str = "") -> Kind:
    return Kind(name, at, damage=damage)


def _cut(rng: Random, body: bytes) -> bytes:
    return body[: rng.randrange(1, len(body) - 1)]


def large(name: str, size_bytes: int) -> Kind:
    def spoil(rng: Random, event: dict[str, Any]) -> None:
        event["data"]["reference"] = "x" * (size_bytes + rng.randrange(1_000))

    return Kind(name, "data", spoil)


def _endless(rng: Random, event: dict[str, Any]) -> bytes:
    """As an integer it has a gigabyte of digits."""
    event["sequence"] = RAW
    return b"1e999999999"


QUANTITY, PRICE = "lines.0.quantity", "lines.0.unit_price"
HUGE = "ten megabytes"
KINDS = (
    whole("truncated", _cut),
    whole("no JSON", lambda rng, body: rng.choice([b"hello", b"<order/>", b"\x00", b"'a'", b"ISA*00*"])),
    whole("empty", lambda rng, body: b""),
    whole("garbage", lambda rng, body: rng.randbytes(rng.randrange(1, 2_000))),
    whole("more after the end", lambda rng, body: body + b"}"),
    whole("a list", lambda rng, body: b"[[" + body + b"]]"),
    large("one and a half megabytes", BODY_BYTES_MAX * 3 // 2),
    large(HUGE, 10_000_000),
    said("a word for a number", QUANTITY, "many", "", "1,5", "0x10", "½"),
    said("another type", QUANTITY, True, None, [], {}, [1], {"value": 1}),
    said("a number for a word", "currency", 1, 1.5, True, None, ["USD"]),
    said("no such currency", "currency", "USDD", "usd", "ZZZ", ""),
    said("negative", QUANTITY, "-1", -1, b"-1e-3"),
    said("NaN", QUANTITY, b"NaN", "NaN", b"Infinity", b"-Infinity", "Infinity", "sNaN"),
    said("exponents", QUANTITY, b"1e999999999", b"-1e999999999", b"1e-999999999", "1e999999999"),
    said("exponents beyond any", PRICE, b"1e99999999999999999999", b"1E+400", b"9" * 5_000),
    said(
        "too many digits", PRICE, "0.123456789", b"1.123456789012345678", "9" * 100_000, b"0." + b"1" * 50_000
    ),
    said("a name twice", "currency", b'"USD","currency":"EUR"', b'"USD","x":[],"currency":"USD"'),
    said("a lone surrogate", "reference", b'"\\ud800"', b'"x\\udc00y"'),
    said("no UTF-8", "reference", b'"\xff"', b'"caf\xe9"', b'"\xed\xa0\x80"', b'"\xc0\xaf"'),
    said("a NUL", "reference", "\0", "a\0b"),
    said("a bare control character", "reference", b'"a\nb"', b'"\x00"', b'"\x1f"'),
    said(
        "control characters in an identifier", "customer_id", "a\nb", "\x7f", "a\0", "\t", " C-1", "C-1 ", ""
    ),
    said("a long text", "reference", "x" * 2_001, "ä" * 100_000),
    said("a long identifier", "customer_id", "x" * 129, "x" * 10_000),
    said(
        "deep", "lines", b"[" * 150_000 + b"]" * 150_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"[" * 500
    ),
    said("a field that nobody knows", "colour", "red", {}),
    said(
        "no moment",
        "promised_by",
        "tomorrow",
        5,
        "5",
        "2026-03-02",
        "2026-03-02T08:00:00",
        "10000-01-01T00:00Z",
    ),
    lacking("id"),
    lacking("source"),
    lacking("type"),
    lacking("subject"),
    lacking("time"),
    lacking("data"),
    lacking("specversion"),
    attribute("another specversion", "specversion", "0.3", "2.0", ""),
    attribute("no id", "id", "", "x" * 513, "a\nb", "a\0b"),
    attribute("no source", "source", "", "x" * 513, "\x1b[2J"),
    attribute("unknown type", "type", "order.placed", "io.twinsync.order.sung.v1", "", "x" * 600),
    attribute("unknown version", "type", *(f"io.twinsync.order.placed.v{one}" for one in (2, 0, 9**20))),
    attribute(
        "no subject", "subject", "SO-1", "order/", "/SO-1", "elephant/1", "order/ SO-1", "order/a\0b", ""
    ),
    attribute("another kind", "subject", "shipment/SHP-1", "stock/SKU-1@DC-01", "stock/SKU-1"),
    attribute("future", "time", "2126-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2999-01-01T00:00:00+14:00"),
    attribute("past", "time", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"),
    attribute(
        "no time", "time", "yesterday", "2026-03-02T08:00:00", "2026-13-01T00:00:00Z", "1772438400", ""
    ),
    attribute("no sequence", "sequence", -1, 1.5, "abc", 2**63, "1e9", "9" * 400, "٣"),
    Kind(
        "sequence of a gigabyte", "sequence", lambda rng, event: event.update(sequence=RAW) or b"1e999999999"
    ),
)
