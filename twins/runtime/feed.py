"""Changes of twins for any number of followers in one process, read from the store once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from canonical.errors import Overloaded, TransientFailure
from twins.changes import newest
from twins.core.following import Following
from twins.outage import Outage, waits
from twins.ports import Changes, Expired, Heard
from twins.runtime.announcer import COMMITS_AT_ONCE, EVERY_S, span

_log = structlog.get_logger()

BEGINS_WITHIN_S = 20.0
"""How long a feed waits, as it begins, for transactions that may have taken smaller numbers."""
FOLLOWERS_MAX = 64
BEHIND_MAX = 240
"""Looks that a follower may leave unread, a minute or so, until it is given up."""


@dataclass(eq=False, slots=True)
class _Follower:
    waiting: asyncio.Queue[Heard] = field(default_factory=lambda: asyncio.Queue(BEHIND_MAX))
    is_lost: bool = False


class ChangeFeed:
    """Implements twins.ports.Feed."""

    def __init__(self, changes: Changes, every_s: float = EVERY_S) -> None:
        self._changes = changes
        self._every_s = every_s
        self._followers: set[_Follower] = set()
        self._following: Following | None = None
        self._looking: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()

    async def follow(self, after: int | None, patience_s: float) -> AsyncGenerator[Heard]:
        if len(self._followers) >= FOLLOWERS_MAX:
            raise Overloaded(f"{FOLLOWERS_MAX} follow the changes here already")
        follower = _Follower()
        self._followers.add(follower)
        try:
            settled = await self._begun()
            if after is None:
                yield Heard(settled, [])
            else:
                await self._check_kept(after)
                yield Heard(after, [])
                try:
                    async for heard in self._catch_up(Following(after)):
                        yield heard
                except (TransientFailure, Expired):
                    return
            while not (follower.is_lost and follower.waiting.empty()):
                try:
                    async with asyncio.timeout(patience_s):
                        heard = await follower.waiting.get()
                except TimeoutError:
                    heard = Heard(settled, [])
                settled = heard.settled
                yield heard
        finally:
            self._followers.discard(follower)

    async def _catch_up(self, following: Following) -> AsyncIterator[Heard]:
        """Until nothing is to come that the followers have not been told of meanwhile."""
        while True:
            async for heard in self._read_up(following):
                yield heard
            if not following.missing:
                return
            await asyncio.sleep(self._every_s)

    async def _read_up(self, following: Following) -> AsyncIterator[Heard]:
        """All that there is. Raises: Expired where some of it is there no more."""
        more = True
        while more:
            newest_, settled = following.newest, following.settled
            read = await self._changes.commits(newest_, following.missing, COMMITS_AT_ONCE)
            following.take((commit.number for commit in read.found), read.oldest_running, read.mark)
            newer = sum(commit.number > newest_ for commit in read.found)
            if following.newest > newest_ + newer:
                await self._check_kept(newest_)
            if following.settled > settled or read.found:
                yield Heard(following.settled, newest(read.found))
            more = read.more

    async def _check_kept(self, after: int) -> None:
        oldest, latest = await self._changes.commits_kept()
        if not oldest - 1 <= after <= latest:
            raise Expired(oldest)

    # --- looking, once for all

    async def _begun(self) -> int:
        """Look from now on. Answers up to where nothing is to come any more."""
        async with self._beginning:
            if self._looking is None or self._looking.done() or self._following is None:
                _, latest = await span(self._changes, BEGINS_WITHIN_S)
                self._following = Following(latest)
                self._looking = asyncio.create_task(self._look_on(self._following))
            return self._following.settled

    async def _look_on(self, following: Following) -> None:
        """While anybody follows."""
        outage, pauses = Outage("feed"), waits()
        while self._followers:
            await asyncio.sleep(self._every_s)
            try:
                async for heard in self._read_up(following):
                    self._tell(heard)
                outage.ended()
                pauses = waits()
            except TransientFailure as failure:
                outage.failed(failure)
                await asyncio.sleep(next(pauses))
            except Exception:  # noqa: BLE001 - top of the loop
                _log.exception("feed_broke")
                self._lose_all()
                return

    def _tell(self, heard: Heard) -> None:
        for follower in self._followers:
            if follower.waiting.full():
                follower.is_lost = True
            if not follower.is_lost:
                follower.waiting.put_nowait(heard)

    def _lose_all(self) -> None:
        for follower in self._followers:
            follower.is_lost = True

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
