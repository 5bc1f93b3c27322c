"""Asking many, of whom some may never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


async def in_time(asked: Mapping[K, Awaitable[V]], within_s: float) -> dict[K, V]:
    """The answers that come in time; who fails, or says nothing, is left out."""
    limited = (_limited(one, within_s) for one in asked.values())
    answers = await asyncio.gather(*limited, return_exceptions=True)
    return {
        who: answer
        for who, answer in zip(asked, answers, strict=True)
        if not isinstance(answer, BaseException)
    }


async def _limited(asked: Awaitable[V], within_s: float) -> V:
    async with asyncio.timeout(within_s):
        return await asked
