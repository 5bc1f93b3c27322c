"""Messages are taken from a connection's bytes, however these come, and all else is left as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Queue
from pamqp.frame import marshal
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from adapters.amqp.aside import why_aside
from adapters.amqp.content import Content, Deliveries
from adapters.amqp.delivered import Delivery, publication
from canonical.envelope import STRUCTURED

TAKEN, OTHER = 3, 4
FRAME_BYTES = 4
"""So small that most bodies come in several frames."""
PROPERTIES = Basic.Properties(content_type=STRUCTURED, delivery_mode=2, message_id="m-1")


def message(tag: int, body: bytes, channel: int = TAKEN, properties: Basic.Properties = PROPERTIES) -> bytes:
    method = Basic.Deliver("ctag", tag, redelivered=tag % 2 == 0, exchange="x", routing_key=f"key-{tag}")
    parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)]
    header = ContentHeader(body_size=len(body), properties=properties)
    frames = [method, header, *map(ContentBody, parts)]
    return b"".join(marshal(frame, channel) for frame in frames)


OTHERS = (
    marshal(Heartbeat(), 0),
    marshal(Basic.Ack(7, multiple=True), TAKEN),
    marshal(Queue.DeclareOk("q", 1, 2), TAKEN),
    marshal(Channel.Close(404, "NOT_FOUND", 50, 10), OTHER),
    message(1, b"of a channel that nobody takes from", OTHER),
)


def in_pieces(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


async def sifted(pieces: Sequence[bytes]) -> tuple[list[Content], bytes]:
    """The messages, and what is left for the library but for heartbeats."""
    taken: list[Content] = []
    deliveries = Deliveries(asyncio.get_running_loop())
    deliveries.take(TAKEN, taken.append)
    for piece in pieces:
        deliveries.feed_data(piece)
    deliveries.feed_eof()
    return taken, (await deliveries.read()).replace(OTHERS[0], b"")


@given(
    st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(OTHERS)), max_size=12),
    st.lists(st.integers(1, 90), min_size=1),
)
def test_each_message_comes_once_and_whole_and_all_other_frames_are_left_in_order(
    told: list[bytes], sizes: list[int]
) -> None:
    bodies = [one for one in told if one not in OTHERS]
    tags = iter(range(1, len(bodies) + 1))
    wire = b"".join(one if one in OTHERS else message(next(tags), one) for one in told)
    repeated = (size for _ in iter(int, 1) for size in sizes)
    taken, left = asyncio.run(sifted(list(in_pieces(wire, repeated))))
    assert [one.body for one in taken] == bodies
    assert [one.tag for one in taken] == list(range(1, len(bodies) + 1))
    assert {one.properties for one in taken} <= {ContentHeader(properties=PROPERTIES).marshal()[12:]}
    assert [one.redelivered for one in taken] == [one.tag % 2 == 0 for one in taken]
    assert [one.routing_key for one in taken] == [f"key-{one.tag}" for one in taken]
    assert left == b"".join(one for one in told if one in OTHERS).replace(OTHERS[0], b"")


async def test_the_library_hears_that_the_broker_is_alive_though_it_reads_no_message() -> None:
    deliveries = Deliveries(asyncio.get_running_loop())
    deliveries.take(TAKEN, lambda _: None)
    wire = message(1, b"body")
    deliveries.feed_data(wire[:-1])
    deliveries.feed_data(wire[-1:] + message(2, b"body"))
    deliveries.feed_eof()
    _, channel, frame = await FrameReceiver(deliveries).get_frame()
    assert (channel, type(frame)) == (0, Heartbeat)
    assert deliveries.at_eof()


@pytest.mark.parametrize(
    "wire",
    [ProtocolHeader(0, 9, 1).marshal(), message(1, b"body")[:-1] + b"!"],
    ids=["another version", "a frame without its end"],
)
async def test_what_is_no_frame_is_for_the_library_to_refuse(wire: bytes) -> None:
    deliveries = Deliveries(asyncio.get_running_loop())
    deliveries.take(TAKEN, lambda _: None)
    deliveries.feed_data(wire)
    deliveries.feed_eof()
    with pytest.raises((AMQPError, EOFError)):
        await FrameReceiver(deliveries).get_frame()


async def test_a_fault_of_whoever_takes_ends_the_connection_and_is_told() -> None:
    def taker(_: Content) -> None:
        raise LookupError("a fault of ours")

    deliveries = Deliveries(asyncio.get_running_loop())
    deliveries.take(TAKEN, taker)
    deliveries.feed_data(message(1, b"body"))
    with pytest.raises(LookupError):
        await FrameReceiver(deliveries).get_frame()


def content(properties: Basic.Properties) -> Content:
    return Content(1, False, "", ContentHeader(properties=properties).marshal()[12:], b"{}")


def test_headers_are_read_where_there_are_any() -> None:
    headers = {"CloudEvents:id": "1", "x-delivery-count": 2, "ce-source": "/oms"}
    one = content(Basic.Properties(content_type="text/plain", headers=cast(Any, headers)))
    assert publication(one).headers == {"ce-id": "1", "ce-source": "/oms"}
    assert publication(one).content_type == "text/plain"
    assert Delivery(cast(Any, None), one, publication(one)).returned == 2


@pytest.mark.parametrize("content_type", [None, STRUCTURED])
def test_without_headers_nothing_else_is_read(content_type: str | None) -> None:
    one = content(Basic.Properties(content_type=content_type, message_id="m-1"))
    delivery = Delivery(cast(Any, None), one, publication(one))
    assert (delivery.told.content_type, delivery.told.headers) == (content_type, {})
    assert (delivery.returned, delivery.message_id) == (0, "m-1")


@given(st.binary(max_size=64), st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4))
def test_whatever_a_sender_wrote_can_be_taken(told: bytes, changes: list[tuple[int, bytes]]) -> None:
    """Whoever failed on it would meet it again, on each connection."""
    headers = {"ce-id": "1", "x-death": [{"reason": "rejected", "queue": "q"}], "many": [1, {"a": None}]}
    good = content(Basic.Properties(content_type=STRUCTURED, headers=cast(Any, headers)))
    properties = good.properties
    for at, new in changes:
        properties = properties[:at] + new + properties[at + len(new) :]
    for one in (properties, told):
        taken = Content(1, False, "key", one, b"{}")
        delivery = Delivery(cast(Any, None), taken, publication(taken))
        assert (delivery.returned >= 0, delivery.message_id) is not None
        why_aside(delivery)


def test_headers_within_headers_without_end_are_no_headers() -> None:
    name, depth = b"\x01nF", 3_000
    table = b""
    for _ in range(depth):
        table = name + len(table).to_bytes(4) + table
    deep = Content(1, False, "key", (1 << 13).to_bytes(2) + len(table).to_bytes(4) + table, b"{}")
    assert publication(deep).headers == {}


@pytest.mark.parametrize("deaths", ["none", 7, [], ["none"], {"reason": "x"}, [None]])
def test_what_a_sender_says_of_deaths_is_no_account_of_the_brokers(deaths: object) -> None:
    one = content(Basic.Properties(headers=cast(Any, {"x-death": deaths})))
    assert why_aside(Delivery(cast(Any, None), one, publication(one))).reason


async def test_a_routing_key_that_is_no_text_is_taken_and_can_be_told_of() -> None:
    wire = message(1, b"{}").replace(b"key-1", b"key\xff1")
    taken, left = await sifted([wire])
    assert [one.routing_key for one in taken] == ["key\ufffd1"]
    assert left == b""


def test_properties_that_cannot_be_read_leave_the_body_to_speak() -> None:
    """A client library that fails on them ends its connection, and meets the message again on the next."""
    garbled = content(Basic.Properties(content_type=STRUCTURED, headers={"name": "value"}))
    garbled.properties = garbled.properties.replace(b"name", b"n\xffm\xe9").replace(b"cloud", b"cl\xffud")
    assert publication(garbled).headers == {}
    assert publication(garbled).body == b"{}"
    assert Delivery(cast(Any, None), garbled, publication(garbled)).message_id is None
