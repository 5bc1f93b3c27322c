"""What is read rarely and needed often: kept for a while, then read again by whoever asks next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Expiring(Generic[T]):
    def __init__(
        self, read: Callable[[], Awaitable[T]], for_s: float, moment: Callable[[], float] = monotonic
    ) -> None:
        """*moment*: seconds on a clock that only goes forward."""
        self._read = read
        self._for_s = for_s
        self._moment = moment
        self._turn = asyncio.Lock()
        self._kept: tuple[float, T] | None = None
        """When it expires, and what it is."""

    async def get(self) -> T:
        """One reader at a time reads. Raises: what reading raises; what has expired is not shown again."""
        async with self._turn:
            now = self._moment()
            if self._kept is None or self._kept[0] <= now:
                self._kept = (now + self._for_s, await self._read())
            return self._kept[1]
