"""Whose turn it is at a host, where one thing is done after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

GIVES_WAY_MAX = 3
"""Times, after which who may wait has waited enough: somebody who may not is always there on a busy host."""


class Turn:
    """First come, first served; but who may wait comes after all who may not, a few times over."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._pressing = 0
        """Those who wait and may not."""

    def locked(self) -> bool:
        return self._lock.locked()

    def mine(self, *, may_wait: bool = False) -> AbstractAsyncContextManager[None]:
        return self._when_nobody_presses() if may_wait else self._next()

    @asynccontextmanager
    async def _next(self) -> AsyncIterator[None]:
        self._pressing += 1
        try:
            await self._lock.acquire()
        finally:
            self._pressing -= 1
        try:
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def _when_nobody_presses(self) -> AsyncIterator[None]:
        for given_way in count():
            async with self._lock:
                if not self._pressing or given_way == GIVES_WAY_MAX:
                    yield
                    return
