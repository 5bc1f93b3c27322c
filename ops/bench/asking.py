"""Asking over HTTP as fast as answers come, at so little cost that the server is what is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from random import Random
from types import TracebackType
from typing import Self

import httptools


@dataclass(frozen=True, slots=True)
class Asked:
    """How many answers came in a second, and how long each took from its first byte asked, in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


KEY = "bench"


class Line(asyncio.Protocol):
    """One connection that stays open and asks one thing at a time."""

    def __init__(self, host: str, port: int, *headers: str) -> None:
        self._address = host, port
        lines = (" HTTP/1.1", f"Host: {host}:{port}", f"X-API-Key: {KEY}", *headers, "", "")
        self._head = "\r\n".join(lines).encode()
        self._transport: asyncio.Transport | None = None

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ask(self, path: str) -> int:
        """The status of the answer, once all of it has come. Raises: OSError where the connection ends."""
        if self._transport is None:
            await self.__aenter__()
        assert self._transport is not None
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(b"GET " + path.encode() + self._head)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answer.set_result(self._parser.get_status_code())


async def ask_for(address: tuple[str, int], paths: Sequence[str], connections: int, seconds: float) -> Asked:
    """Ask for *paths* in turn over some connections, each the next as soon as it has its answer.

    Raises: RuntimeError where an answer is not 200.
    """
    taken: list[float] = []
    loop_end = time.perf_counter() + seconds

    async def keep_asking(line: Line, mine: Iterator[str]) -> None:
        while (began := time.perf_counter()) < loop_end:
            path = next(mine)
            status = await line.ask(path)
            taken.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"{path} was answered with {status}")

    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(Line(*address)) for _ in range(connections)]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(lines):
                mine = list(paths)
                Random(number).shuffle(mine)
                group.create_task(keep_asking(line, cycle(mine)))
        lasted = time.perf_counter() - began
    return Asked(len(taken) / lasted, percentile(taken, 0.5) * 1e3, percentile(taken, 0.99) * 1e3)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile. Raises: IndexError for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
