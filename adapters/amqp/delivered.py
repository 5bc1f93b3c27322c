"""What a delivery holds, whoever published it and by whichever client library. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from adapters.amqp.content import Content
from canonical.envelope import HEADER_PREFIX
from twins.ports import Publication

BINDING_PREFIXES = ("cloudevents:", "cloudevents_")
"""How the CloudEvents AMQP binding (1.0.2, 3.1.3) spells what others call ``ce-``; any case."""

_OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-twinsync-")
_HAS_CONTENT_TYPE, _HAS_HEADERS = 1 << 15, 1 << 13
"""Of the flags before the properties, of which ``content-type`` is the first (AMQP 0-9-1, 4.2.6.1)."""


@dataclass(slots=True, eq=False)
class Delivery:
    """A message, what it says, and the channel that it came by."""

    channel: AbstractChannel
    content: Content
    told: Publication

    @property
    def tag(self) -> int:
        return self.content.tag

    @property
    def headers(self) -> Mapping[str, Any]:
        return headers(self.content.properties)

    @property
    def returned(self) -> int:
        """How often it was delivered and came back, as quorum queues count."""
        counted = self.headers.get("x-delivery-count", 0)
        return counted if isinstance(counted, int) else 0

    @property
    def message_id(self) -> str | None:
        return _decoded(self.content.properties).message_id

    async def acknowledge(self, *, multiple: bool = False) -> None:
        """*multiple*: and all before it. Raises what the link raises when it is lost."""
        await self.channel.basic_ack(self.tag, multiple)

    async def give_back(self) -> None:
        """The broker is to deliver it again. Raises what the link raises when it is lost."""
        await self.channel.basic_nack(self.tag)

    async def set_aside(self) -> None:
        """The broker is to put it into the dead queue. Raises what the link raises when it is lost."""
        await self.channel.basic_reject(self.tag, requeue=False)


def headers(properties: bytes) -> Mapping[str, Any]:
    """Read only where there are any, which in structured form there are not."""
    return _decoded(properties).headers or {} if _flags(properties) & _HAS_HEADERS else {}


def publication(content: Content) -> Publication:
    """The message as its sender sent it; header names in lower case."""
    told = {
        _name(name.lower()): text(value)
        for name, value in headers(content.properties).items()
        if not name.lower().startswith(_OF_THE_BROKER)
    }
    return Publication(content.body, told, _content_type(content.properties))


def _content_type(properties: bytes) -> str | None:
    if not _flags(properties) & _HAS_CONTENT_TYPE:
        return None
    return _text(properties[3 : 3 + int.from_bytes(properties[2:3])])


@lru_cache(maxsize=64)
def _text(told: bytes) -> str:
    """One object for each of the few that there are."""
    return told.decode("utf-8", "replace")


def _flags(properties: bytes) -> int:
    return int.from_bytes(properties[:2])


def _decoded(properties: bytes) -> Basic.Properties:
    """Nothing where a sender wrote what cannot be read: the body may say all, and will be judged by that."""
    header = ContentHeader()
    try:
        header.unmarshal(bytes(12) + properties)
    except (ValueError, LookupError, ArithmeticError, TypeError, RecursionError, struct.error):
        return Basic.Properties()
    return header.properties


def _name(name: str) -> str:
    for prefix in BINDING_PREFIXES:
        if name.startswith(prefix):
            return HEADER_PREFIX + name.removeprefix(prefix)
    return name


def text(value: object) -> str:
    match value:
        case bytes() | bytearray():
            return value.decode("utf-8", "replace")
        case datetime():  # an AMQP timestamp counts seconds in UTC
            return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).isoformat()
        case _:
            return str(value)
