"""Acknowledging what was delivered by one channel, in whatever order it is taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from adapters.amqp.delivered import Delivery

AHEAD_MAX = 500
"""How much that was taken may wait for older messages that were not."""


class Acknowledging:
    """One acknowledgement stands for all before it, so that most messages need none of their own.

    What was taken waits until all before it was taken. Where that lasts, because one host is away, what
    others have taken is acknowledged message by message.
    """

    def __init__(self) -> None:
        self._delivered: deque[int] = deque()
        """Delivery tags, oldest first, from the oldest that is open."""
        self._taken: dict[int, Delivery] = {}
        """Not acknowledged yet, since an older message is open."""
        self._settled: set[int] = set()
        """The broker knows of them; older messages are open."""
        self._one_by_one = asyncio.Lock()
        """A tag that was acknowledged already ends the channel: acknowledgements leave in their order."""

    def delivered(self, tag: int) -> None:
        self._delivered.append(tag)

    async def taken(self, deliveries: Iterable[Delivery], *, at_once: bool = False) -> None:
        """Acknowledge these as soon as that is cheap. Raises what the link raises when it is lost.

        *at_once*: they may not come once more, whatever becomes of older ones.
        """
        self._taken.update((delivery.tag, delivery) for delivery in deliveries)
        async with self._one_by_one:
            await self._acknowledge_oldest()
            if at_once or len(self._taken) > AHEAD_MAX:
                await self._acknowledge_ahead()

    async def give_back(self, delivery: Delivery) -> None:
        """The broker is to deliver it again. Raises what the link raises when it is lost."""
        async with self._one_by_one:
            self._settled.add(delivery.tag)
            await delivery.give_back()

    async def all_taken(self) -> None:
        """Leave nothing that was taken without acknowledgement."""
        async with self._one_by_one:
            await self._acknowledge_ahead()

    async def _acknowledge_oldest(self) -> None:
        last = None
        while self._delivered and (self._delivered[0] in self._taken or self._delivered[0] in self._settled):
            tag = self._delivered.popleft()
            self._settled.discard(tag)
            last = self._taken.pop(tag, last)
        if last is not None:
            await last.acknowledge(multiple=True)

    async def _acknowledge_ahead(self) -> None:
        taken, self._taken = self._taken, {}
        self._settled.update(taken)
        for delivery in taken.values():
            await delivery.acknowledge()
