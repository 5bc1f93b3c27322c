"""A connection to the broker that is opened when it is first needed, and anew after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aio_pika import Connection, connect
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from canonical.errors import TransientFailure
from twins.outage import is_cancelled

T = TypeVar("T")
C = TypeVar("C", bound=AbstractConnection)

LOST = (*CONNECTION_EXCEPTIONS, EOFError)
"""The connection or channel went away, or did not answer in time: a TimeoutError is an OSError."""
FILES = ("cafile", "certfile", "keyfile")
"""That the broker's address may name, for TLS."""
FULL = "broker: out of memory or disk"
BLOCKED_AFTER_S = 0.05
"""Asking a connection that is not blocked takes one turn of the event loop."""
CLOSE_WITHIN_S = 3.0
"""A broker that does not answer must not keep anybody from leaving."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the broker. Times in seconds."""

    connect_s: float = 10.0
    """To connect and declare everything."""
    publish_s: float = 10.0
    """For all confirms of one call. A broker that is out of memory or disk confirms nothing meanwhile."""
    heartbeat_s: int = 10
    """A connection on which nothing was heard for about three times as long is given up."""


class Link(Generic[T]):
    """One connection with one channel, prepared by *prepare* whenever it is opened: topology first.

    Nothing reconnects behind the scenes: whoever needs the link next opens it, and learns if that fails.
    """

    def __init__(
        self,
        url: str,
        prepare: Callable[[AbstractConnection, AbstractChannel], Awaitable[T]],
        patience: Patience,
        *,
        returns_raise: bool = False,
    ) -> None:
        """*returns_raise*: publishing raises PublishError where no queue takes the message."""
        self._url = url
        self._prepare = prepare
        self._patience = patience
        self._returns_raise = returns_raise
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._prepared: T | None = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[T]:
        """What *prepare* made, for as long as publishing may take.

        Raises: TransientFailure for whatever is lost meanwhile, or not done in time. What was on its way then
        may still arrive.
        """
        try:
            prepared = await self._open()
            async with asyncio.timeout(self._patience.publish_s):
                yield prepared
        except LOST as error:
            blocked = isinstance(error, TimeoutError) and await self._is_blocked()
            if not blocked:  # what is blocked would be blocked again, and nobody would know
                await self.close()
            raise TransientFailure(FULL if blocked else f"broker: {error!r}") from error
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            await self.close()  # aiormq cancels who waits for a confirm where it gives up a silent connection
            raise TransientFailure("broker: the connection was given up") from error

    async def check(self) -> None:
        """Returns when the broker has answered, and takes messages. Raises: TransientFailure."""
        if await self._is_blocked():
            raise TransientFailure(FULL)
        async with self.opened():
            if self._channel is not None:
                await self._channel.set_qos(0)  # asks nothing of the broker but an answer

    async def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await shut(connection)

    async def _open(self) -> T:
        async with self._opening:
            if self._prepared is None or self._is_lost():
                await self.close()
                async with asyncio.timeout(self._patience.connect_s):
                    self._connection = await connected(self._url, self._patience, Connection)
                    self._channel = await self._connection.channel(on_return_raises=self._returns_raise)
                    self._prepared = await self._prepare(self._connection, self._channel)
            return self._prepared

    def _is_lost(self) -> bool:
        connection, channel = self._connection, self._channel
        return connection is None or channel is None or channel.is_closed or not connection.connected.is_set()

    async def _is_blocked(self) -> bool:
        """Whether the broker has said that it reads nothing more for now. It says so to those who publish."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is None or self._is_lost():
            return False
        try:
            async with asyncio.timeout(BLOCKED_AFTER_S):
                await transport.ready()
        except TimeoutError:
            return True
        return False


async def connected(url: str, patience: Patience, kind: type[C]) -> C:
    try:
        return await connect(url, heartbeat=patience.heartbeat_s, connection_class=kind)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, f"no such file: {_absent(url)}") from error


def _absent(url: str) -> str:
    named = ((name, URL(url).query.get(name)) for name in FILES)
    return ", ".join(f"{name} {path}" for name, path in named if path and not Path(path).is_file())


async def shut(connection: AbstractConnection) -> None:
    with contextlib.suppress(*LOST):
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await connection.close()
