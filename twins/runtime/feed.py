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

_log = structlog.get_logger()

EVERY_S = 0.25
"""Between two looks, while anybody follows."""
COMMITS_AT_ONCE = 200
LOOKS_BACK = 1_000
"""Commits before the newest that are looked through, as a feed begins, for numbers that may still come."""
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
            begins = settled if after is None else await self._checked(after)
            yield Heard(begins, [])
            if after is not None:
                try:
                    async for heard in self._read_up(Following(after)):
                        yield heard
                except TransientFailure:
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

    async def _checked(self, after: int) -> int:
        oldest, latest = await self._changes.commits_kept()
        if after < oldest - 1 or after > latest:
            raise Expired(oldest)
        return after

    async def _read_up(self, following: Following) -> AsyncIterator[Heard]:
        """Until all is read that the followers have been told of meanwhile."""
        while True:
            read = await self._changes.commits(following.newest, following.missing, COMMITS_AT_ONCE)
            following.take((commit.number for commit in read.found), read.oldest_running, read.mark)
            if read.found:
                yield Heard(following.settled, newest(read.found))
            if len(read.found) < COMMITS_AT_ONCE:
                return

    # --- looking, once for all

    async def _begun(self) -> int:
        """Look from now on. Answers up to where nothing is to come any more."""
        async with self._beginning:
            if self._looking is None or self._looking.done() or self._following is None:
                oldest, latest = await self._changes.commits_kept()
                following = Following(max(oldest - 1, latest - LOOKS_BACK))
                async for _ in self._read_up(following):
                    pass
                self._following = following
                self._looking = asyncio.create_task(self._look_on(following))
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
            except Exception:
                _log.exception("feed_broke")
                self._lose_all()
                raise

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
