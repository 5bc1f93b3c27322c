"""CloudEvents 1.0: the envelope every fact travels in.

Two forms on the wire (CloudEvents 1.0.2, JSON format and protocol bindings): *structured*, one JSON object
that holds attributes and data; *binary*, attributes in ``ce-`` headers and the data alone as the body.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import jiter
from pydantic import ValidationError
from pydantic_core import to_json

from canonical.catalogue import entry, schema_uri
from canonical.damaged import place
from canonical.errors import RejectedMessage
from canonical.facts.base import Fact, Rank
from canonical.facts.order import OrderAllocated, OrderReleased, ReturnInspected
from canonical.facts.shipment import ShipmentCreated, ShipmentDispatched
from canonical.facts.stock import TransferredIn, TransferredOut
from canonical.identity import EventId, TwinRef, event_id_of, twin_ref
from canonical.types import EARLIEST

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
HEADER_PREFIX = "ce-"
BODY_BYTES_MAX = 1_048_576
"""A fact is small; whatever is larger is a file in the wrong place."""
BATCH_BYTES_MAX, BATCH_LENGTH_MAX = 8 * BODY_BYTES_MAX, 10_000

_TEXT_LENGTH_MAX = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""In no attribute, as in no key or identifier (CloudEvents 1.0.2, 3.1): PostgreSQL could not store a NUL."""
_WHOLE = re.compile(r"-?[0-9]{1,32}")
_ATTRIBUTES = frozenset(
    [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
        "data",
        "sequence",
        "correlationid",
        "causationid",
        "traceparent",
        "tracestate",
    ]
)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact as one source told it. *time* is when it happened (kept in UTC), never when it arrived."""

    source: str
    id: str
    subject: TwinRef
    time: datetime
    fact: Fact
    sequence: int | None = None
    """The source's own numbering, where it has one: within a source it overrules the clock."""
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    event_id: EventId = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.time.tzinfo not in (UTC, None):
            object.__setattr__(self, "time", self.time.astimezone(UTC))
        object.__setattr__(self, "event_id", event_id_of(self.source, self.id))

    @property
    def type(self) -> str:
        return self.fact.TYPE

    @property
    def rank(self) -> Rank:
        return self.fact.RANK

    def data_json(self) -> bytes:
        """The fact in its one canonical spelling, made when it is asked for: events stay in memory."""
        return self.fact.ADAPTER.dump_json(self.fact, exclude_defaults=True)

    def digest(self, data_json: bytes | None = None) -> bytes:
        """SHA-256 of what the event says; how it travelled (trace, causation) is left out.

        *data_json*: where it is at hand.
        """
        said = f"{self.type}\n{self.subject}\n{self.time.isoformat()}\n{self.sequence}\n".encode()
        return hashlib.sha256(said + (self.data_json() if data_json is None else data_json)).digest()

    def attributes(self) -> dict[str, str]:
        """All context attributes but ``data``, as CloudEvents names and strings."""
        found: dict[str, str | None] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": str(self.subject),
            "time": self.time.isoformat().replace("+00:00", "Z"),
            "dataschema": schema_uri(self.type),
            "sequence": None if self.sequence is None else str(self.sequence),
            "correlationid": self.correlation_id,
            "causationid": self.causation_id,
            "traceparent": self.traceparent,
        }
        return {name: value for name, value in found.items() if value is not None}

    def structured(self) -> bytes:
        """The event as one JSON object, on one line."""
        head = to_json(self.attributes() | {"datacontenttype": "application/json"})
        return head[:-1] + b',"data":' + self.data_json() + b"}"

    def binary(self) -> tuple[dict[str, str], bytes]:
        """Headers with ``ce-`` names, and the body."""
        return {HEADER_PREFIX + name: value for name, value in self.attributes().items()}, self.data_json()


def is_binary(headers: Mapping[str, Any] | None, content_type: str | None) -> bool:
    """Whether the attributes are in the headers."""
    if not headers or (content_type or "").startswith(STRUCTURED):
        return False
    return any(name.lower().startswith(HEADER_PREFIX) for name in headers)


def parse(body: bytes, headers: Mapping[str, Any] | None = None, content_type: str | None = None) -> Event:
    """Read one event in either form. Raises: RejectedMessage naming the field at fault."""
    if headers is None or not is_binary(headers, content_type):
        return parse_structured(body)
    return parse_binary(headers, body)


def parse_structured(body: bytes) -> Event:
    """Read the JSON form. Raises: RejectedMessage naming the field at fault."""
    return from_attributes(_json(body))


def parse_batch(body: bytes) -> list[Any]:
    """Read a JSON array; its members are read one by one with `from_attributes`, each failing alone."""
    members = _json(body, size_max=BATCH_BYTES_MAX)
    if not isinstance(members, list):
        raise RejectedMessage("a batch is a JSON array of events")
    if len(members) > BATCH_LENGTH_MAX:
        raise RejectedMessage(f"{len(members)} events; at most {BATCH_LENGTH_MAX} in a batch")
    return members


def parse_binary(headers: Mapping[str, Any], body: bytes) -> Event:
    """Read the AMQP or HTTP binary form. Raises: RejectedMessage naming the field at fault."""
    attributes: dict[str, Any] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower.startswith(HEADER_PREFIX):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            attributes[lower.removeprefix(HEADER_PREFIX)] = text
    attributes["data"] = _json(body, "data")
    return from_attributes(attributes)


def from_attributes(attributes: Any) -> Event:
    """Check a decoded event and build it. Raises: RejectedMessage naming the field at fault."""
    if not isinstance(attributes, dict):
        raise RejectedMessage(f"an event is a JSON object, got {type(attributes).__name__}")
    if attributes.get("specversion") != "1.0":
        raise RejectedMessage(f"expected '1.0', got {attributes.get('specversion')!r}", field="specversion")
    event_type = _text(attributes, "type")
    source = _text(attributes, "source")
    event_id = _text(attributes, "id")
    subject = twin_ref(_text(attributes, "subject"))
    time = _moment(attributes)
    found = entry(event_type)
    if subject.kind not in found.model.KINDS:
        takes = ", ".join(sorted(found.model.KINDS))
        raise RejectedMessage(f"{event_type} is about {takes}, not {subject.kind}", field="subject")
    sequence = _sequence(attributes.get("sequence"))
    if "data" not in attributes:
        raise RejectedMessage("missing", field="data")
    data = found.upcast(attributes["data"])
    try:
        fact = found.model.ADAPTER.validate_python(data)
    except ValidationError as error:
        raise _rejection(error) from None
    return Event(
        source=source,
        id=event_id,
        subject=subject,
        time=time,
        fact=fact,
        sequence=sequence,
        correlation_id=_optional_text(attributes, "correlationid"),
        causation_id=_optional_text(attributes, "causationid"),
        traceparent=_optional_text(attributes, "traceparent"),
    )


def check_not_ahead(event: Event, latest: datetime) -> None:
    """Refuse what is dated after *latest*: later events of a source that numbers them would sort behind it.

    For the edge alone, where there is a clock. Raises: RejectedMessage.
    """
    if event.time > latest:
        raise RejectedMessage(
            f"{_spelled(event.time)} is ahead of our clock; by now, up to {_spelled(latest)} is taken",
            field="time",
        )


def check_places(event: Event) -> None:
    """Refuse a location with an ``@``: a shelf's key is ``SKU@location``, and an SKU may have one.

    For the edge alone: what was taken before it was refused stays readable. Raises: RejectedMessage.
    """
    places = _PLACES.get(type(event.fact))
    for name, told in places(event.fact) if places is not None else ():
        if "@" in told:
            raise RejectedMessage(AT_IN_LOCATION, field=f"data.{name}")


AT_IN_LOCATION = "a location has no '@': a shelf is SKU@location"
_PLACES: Mapping[type[Fact], Callable[[Any], Iterable[tuple[str, str]]]] = {
    OrderAllocated: lambda fact: (("location", fact.location),),
    OrderReleased: lambda fact: (("location", fact.location),),
    ReturnInspected: lambda fact: (
        (f"lines.{number}.location", line.location) for number, line in enumerate(fact.lines)
    ),
    ShipmentCreated: lambda fact: (("location", fact.location),),
    ShipmentDispatched: lambda fact: (("location", fact.location),),
    TransferredOut: lambda fact: (("to_location", fact.to_location),),
    TransferredIn: lambda fact: (("from_location", fact.from_location),),
}


def _spelled(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def unknown_attributes(attributes: Iterable[str]) -> frozenset[str]:
    """Extension attributes that twinsync does not know, and so does not keep."""
    return frozenset(attributes) - _ATTRIBUTES


def batch(events: Sequence[Event]) -> bytes:
    """Events as one ``application/cloudevents-batch+json`` body."""
    return b"[" + b",".join(event.structured() for event in events) + b"]"


def _json(body: bytes, within: str = "", *, size_max: int = BODY_BYTES_MAX) -> Any:
    """*within*: the field that the body is. Numbers keep all their digits; no name may come twice.

    Short texts that come again, such as sources and SKUs, are the same object: many twins keep each.
    """
    if len(body) > size_max:
        raise RejectedMessage(f"{len(body)} bytes; at most {size_max}", field="data")
    try:
        return jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="decimal", cache_mode="all"
        )
    except ValueError as error:
        steps = [step for step in (within, place(body, error)) if step]
        raise RejectedMessage(f"not JSON: {_why_unreadable(str(error))}", field=".".join(steps)) from None


def _why_unreadable(said: str) -> str:
    """jiter's words, but where they are its own affair."""
    if said.startswith("recursion limit"):
        return "nested more than 200 deep"
    if said.startswith(("Internal error", "number out of range")):
        return "a number that is out of range"
    if said.startswith("Detected duplicate key"):
        return said.removeprefix("Detected ").replace("key", "name", 1)
    return said


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    if value is None:
        raise RejectedMessage("missing", field=name)
    if not isinstance(value, str) or not value or len(value) > _TEXT_LENGTH_MAX:
        raise RejectedMessage(f"expected text of 1 to {_TEXT_LENGTH_MAX} characters", field=name)
    if _CONTROL.search(value):
        raise RejectedMessage("a control character", field=name)
    return value


def _optional_text(attributes: Mapping[str, Any], name: str) -> str | None:
    return None if attributes.get(name) is None else _text(attributes, name)


def _moment(attributes: Mapping[str, Any]) -> datetime:
    text = _text(attributes, "time")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RejectedMessage(f"expected an RFC 3339 time, got {text!r}", field="time") from None
    if moment.tzinfo is None:
        raise RejectedMessage(f"{text!r} has no offset from UTC", field="time")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise RejectedMessage(f"{text!r} is out of range", field="time") from None
    if moment < EARLIEST:
        raise RejectedMessage(f"{text!r} is before {EARLIEST.year}", field="time")
    return moment


def _sequence(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
        raise RejectedMessage(f"expected a whole number, got {value!r}", field="sequence")
    if not 0 <= value < 2**63:
        raise RejectedMessage("expected 0 to 2^63 - 1", field="sequence")
    if value != (number := int(value)):
        raise RejectedMessage(f"expected a whole number, got {value}", field="sequence")
    return number


_WORDS = {
    "string_pattern_mismatch": "a control character, or a space at an end",
    "unexpected_keyword_argument": "Extra inputs are not permitted",
    "dataclass_type": "Input should be a valid dictionary or instance of {class_name}",
}
"""For what pydantic tells by a regular expression, or of Python where JSON was sent."""


def _rejection(error: ValidationError) -> RejectedMessage:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in ("data", *first["loc"]))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    words = _WORDS.get(first["type"])
    reason = words.format(**first.get("ctx", {})) if words else first["msg"].removeprefix("Value error, ")
    return RejectedMessage(reason + more, field=path)
