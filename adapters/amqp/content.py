"""What a connection delivers, taken from its bytes as they come.

The client library makes five objects and a task for each message on its way through its queues, which costs
an ingest more than all else that it does. Its transport may be chosen: this one reads AMQP's content frames
(0-9-1, 2.3.5 and 4.2) of the channels that somebody takes from, and leaves all others to the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from struct import Struct
from time import monotonic
from typing import Any, SupportsIndex

from aio_pika import Connection
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from pamqp.heartbeat import Heartbeat
from yarl import URL

AGAIN_S = 1.0
"""How often the library is told that the broker is alive, which it hears by the frames that it reads."""
_KINDS = frozenset((FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT))
_DELIVER = Basic.Deliver.index.to_bytes(4)
_HEARTBEAT = Heartbeat.marshal()
_HEAD = Struct(">BHI")
_SIZE = Struct(">xxxxQ")


@dataclass(slots=True, eq=False)
class Content:
    """A message as the broker delivered it."""

    tag: int
    """Of use on the channel that it came by alone."""
    redelivered: bool
    routing_key: str
    properties: bytes = b""
    """As they came: flags, then a value for each."""
    body: bytes = b""


@dataclass(slots=True, eq=False)
class _Begun:
    """A message of which not all has come."""

    content: Content
    missing: int = 0
    """Bytes of its body."""
    parts: list[bytes] = field(default_factory=list)


Taker = Callable[[Content], None]


class Deliveries(asyncio.StreamReader):
    """What is left of a connection once each message has gone to whoever takes from its channel."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._takers: dict[int, Taker] = {}
        self._rest = b""
        """The beginning of a frame."""
        self._begun: dict[int, _Begun] = {}
        self._told_at = 0.0

    def take(self, channel: int, taker: Taker) -> None:
        """Have *taker* called for each message of a channel, before any is asked for."""
        self._takers[channel] = taker

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        try:
            left = self._sift(self._rest + bytes(data))
        except Exception as error:  # noqa: BLE001 - whoever reads is told
            self.set_exception(error)
            return
        if left:
            super().feed_data(left)

    def _sift(self, data: bytes) -> bytes:
        """Hand over the messages; answers all other frames."""
        at, size, left, took = 0, len(data), [], False
        while size - at > _HEAD.size:
            kind, channel, length = _HEAD.unpack_from(data, at)
            if kind not in _KINDS:  # no AMQP of this version: the library will say so
                left.append(data[at:])
                at = size
                break
            start = at + _HEAD.size
            end = start + length
            if end >= size:
                break
            if (
                channel in self._takers
                and data[end] == FRAME_END
                and self._took(kind, channel, data, start, end)
            ):
                took = True
            else:
                left.append(data[at : end + 1])
            at = end + 1
        self._rest = data[at:]
        if took and (now := monotonic()) - self._told_at > AGAIN_S:
            self._told_at = now
            left.append(_HEARTBEAT)
        return b"".join(left)

    def _took(self, kind: int, channel: int, data: bytes, start: int, end: int) -> bool:
        """False: the frame is of no message."""
        if kind == FRAME_METHOD:
            if data[start : start + 4] != _DELIVER:
                return False
            self._begun[channel] = _Begun(_delivered(data, start + 4))
            return True
        begun = self._begun.get(channel)
        if begun is None:
            return False
        if kind == FRAME_HEADER:
            (begun.missing,) = _SIZE.unpack_from(data, start)
            begun.content.properties = data[start + 12 : end]
        else:
            begun.parts.append(data[start:end])
            begun.missing -= end - start
        if begun.missing <= 0:
            del self._begun[channel]
            begun.content.body = begun.parts[0] if len(begun.parts) == 1 else b"".join(begun.parts)
            self._takers[channel](begun.content)
        return True


def _delivered(data: bytes, at: int) -> Content:
    """Of ``basic.deliver``: consumer tag, delivery tag, redelivered, exchange, routing key."""
    at += 1 + data[at]
    tag, redelivered = int.from_bytes(data[at : at + 8]), bool(data[at + 8] & 1)
    at += 9
    at += 1 + data[at]
    return Content(tag, redelivered, data[at + 1 : at + 1 + data[at]].decode(errors="replace"))


class _Transport(TransportFactory):
    def __init__(self) -> None:
        self.deliveries: Deliveries | None = None

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As the library's own, in the clear or by TLS as the URL says."""
        secured = options.pop("ssl_context_provider")
        ssl = await secured.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        self.deliveries = reader = Deliveries(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=ssl, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class ReceivingConnection(Connection):
    """A connection of which messages are taken as `Deliveries` has them."""

    def __init__(self, *address: Any, **options: Any) -> None:
        super().__init__(*address, **options)
        self._receiving = self.kwargs["transport_factory"] = _Transport()

    @property
    def deliveries(self) -> Deliveries:
        assert self._receiving.deliveries is not None
        return self._receiving.deliveries
