"""Acknowledging what was delivered by one channel, in whatever order it is taken."""

from __future__ import annotations

import asyncio
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
        self._open: dict[int, None] = {}
        """Delivery tags of which nothing is settled, oldest first."""
        self._taken: dict[int, Delivery] = {}
        """Not acknowledged yet, since an older message is open."""
        self._one_by_one = asyncio.Lock()
        """A tag that was acknowledged already ends the channel: acknowledgements leave in their order."""

    def delivered(self, tag: int) -> None:
        self._open[tag] = None

    async def taken(self, deliveries: Iterable[Delivery], *, at_once: bool = False) -> None:
        """Acknowledge these as soon as that is cheap. Raises what the link raises when it is lost.

        *at_once*: they may not come once more, whatever becomes of older ones.
        """
        for delivery in deliveries:
            self._open.pop(delivery.tag, None)
            self._taken[delivery.tag] = delivery
        async with self._one_by_one:
            await self._acknowledge_oldest()
            if at_once or len(self._taken) > AHEAD_MAX:
                await self._acknowledge_ahead()

    async def give_back(self, delivery: Delivery) -> None:
        """The broker is to deliver it again. Raises what the link raises when it is lost."""
        async with self._one_by_one:
            self._open.pop(delivery.tag, None)
            await delivery.give_back()

    async def all_taken(self) -> None:
        """Leave nothing that was taken without acknowledgement."""
        async with self._one_by_one:
            await self._acknowledge_ahead()

    async def _acknowledge_oldest(self) -> None:
        """All that is older than what is open, by its newest."""
        open_ = next(iter(self._open), None)
        older = [tag for tag in self._taken if open_ is None or tag < open_]
        if older:
            newest = self._taken[max(older)]
            for tag in older:
                del self._taken[tag]
            await newest.acknowledge(multiple=True)

    async def _acknowledge_ahead(self) -> None:
        taken, self._taken = self._taken, {}
        for delivery in taken.values():
            await delivery.acknowledge()
