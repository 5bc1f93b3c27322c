"""One that never answers keeps nobody waiting for the others."""

from __future__ import annotations

import asyncio

from twins.runtime.in_time import in_time


async def test_who_says_nothing_or_fails_is_left_out() -> None:
    async def at_once() -> int:
        return 7

    async def never() -> int:
        await asyncio.Event().wait()
        return 0

    async def broken() -> int:
        raise OSError

    assert await in_time({"a": at_once(), "b": never(), "c": broken()}, 0.05) == {"a": 7}
