"""Messages that come at a rate and wait for nobody, whatever becomes of those before.

Who publishes on the machine that is measured takes from it what the flood is meant to exceed. So a process of
its own makes all frames beforehand, and then only writes them: a thirtieth of a core.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aiormq
import msgspec
from aio_pika import DeliveryMode
from aiormq.abc import ChannelFrame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from adapters.amqp.topology import Names
from canonical.envelope import STRUCTURED, parse_structured
from twins.ports import Publication

TICK_S = 0.005
TOLD_EVERY_S = 0.2
LINE_BYTES_MAX = 2**28


class Flood:
    """What a process publishes that waits for its word."""

    def __init__(self, process: Process, many: int) -> None:
        self._process = process
        self.many, self.sent = many, 0
        """*sent*: messages that the broker's socket has taken by now."""

    @property
    def left(self) -> int:
        return self.many - self.sent

    async def run(self) -> float:
        """Have them come from now on; seconds until the last was taken. Raises: RuntimeError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = time.perf_counter()
        self._process.stdin.write(b"\n")
        while self.left:
            line = await self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"publishing ended with {self.left:,} of {self.many:,} messages left")
            self.sent = int(line)
        return time.perf_counter() - began


@asynccontextmanager
async def flooding(
    url: str, names: Names, messages: Sequence[Publication], rate: float
) -> AsyncIterator[Flood]:
    """*messages* that are ready to come one after the other, at *rate* a second."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, names.events, str(rate), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        bodies = [message.body for message in messages]
        process.stdin.write(msgspec.json.encode(bodies) + b"\n")
        await process.stdin.drain()
        if await process.stdout.readline() != b"0\n":
            raise RuntimeError("messages could not be prepared")
        yield Flood(process, len(messages))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _publish(url: str, exchange: str, rate: float) -> None:
    """Told what by a line of its input, and when by the next; says how many have left."""
    told = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    bodies = msgspec.json.decode(await told.readline(), type=list[bytes])
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    assert isinstance(channel, aiormq.Channel)
    frames = [_frames(exchange, body, channel.number) for body in bodies]
    gc.disable()
    _say(0)
    if not await told.readline():  # whoever was to say so has ended
        return
    began, sent, told_at = time.perf_counter(), 0, 0.0
    while sent < len(frames):
        now = time.perf_counter() - began
        due = min(len(frames), int(now * rate) + 1)
        taken = asyncio.get_running_loop().create_future()
        await channel.write_queue.put(ChannelFrame(b"".join(frames[sent:due]), False, taken))
        await taken
        sent = due
        if now > told_at or sent == len(frames):
            told_at = now + TOLD_EVERY_S
            _say(sent)
        await asyncio.sleep(TICK_S)
    await told.read()  # closing would lose what the broker has in hand and nowhere yet


def _frames(exchange: str, body: bytes, channel: int) -> bytes:
    properties = commands.Basic.Properties(content_type=STRUCTURED, delivery_mode=DeliveryMode.PERSISTENT)
    parts = (
        commands.Basic.Publish(exchange=exchange, routing_key=parse_structured(body).type),
        ContentHeader(body_size=len(body), properties=properties),
        ContentBody(body),
    )
    return ChannelFrame.marshall(channel, parts).payload


def _say(sent: int) -> None:
    print(sent, flush=True)  # noqa: T201 - it is the process's answer


if __name__ == "__main__":
    asyncio.run(_publish(sys.argv[1], sys.argv[2], float(sys.argv[3])))
