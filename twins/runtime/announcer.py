"""Tells whoever listens at the broker what became of twins."""

from __future__ import annotations

import asyncio
from datetime import datetime
from math import inf
from time import monotonic

import structlog

from canonical.errors import TransientFailure
from twins.changes import newest
from twins.core.following import Following
from twins.outage import Outage, waits
from twins.ports import Announcements, Changes, Clock

_log = structlog.get_logger()

SPAN_LOOK_S = 0.05
COMMITS_AT_ONCE = 200
"""Commits that are read together; a twin that several of them changed is told once."""
EVERY_S = 0.25
"""Between two looks: what changes often is told at most so often."""


FORGOTTEN_AT_ONCE, FORGOTTEN_TURNS = 200, 10
"""Commits that are dropped in one transaction, and how many of those in a sweep."""


async def forget(changes: Changes, before: datetime, announced: bool) -> None:
    """Drop commits of before that moment, but where changes are *announced* none that is not yet.

    Raises: TransientFailure.
    """
    up_to = await changes.announced() or 0 if announced else None
    for _ in range(FORGOTTEN_TURNS):
        if await changes.forget_commits(before, FORGOTTEN_AT_ONCE, up_to=up_to) < FORGOTTEN_AT_ONCE:
            return


async def span(changes: Changes, within_s: float = inf) -> tuple[int, int]:
    """The smallest and the largest number: before the one, and up to the other, none is to come.

    Waits for transactions that may have taken one. Raises: TransientFailure where that takes longer.
    """
    _, latest = await changes.commits_kept()
    mark = (await changes.commits(latest, {latest}, 1)).mark
    give_up_at = monotonic() + within_s
    while (await changes.commits(latest, {latest}, 1)).oldest_running <= mark:
        if monotonic() > give_up_at:
            raise TransientFailure("database: a transaction has been writing for long")
        await asyncio.sleep(SPAN_LOOK_S)
    oldest, _ = await changes.commits_kept()
    return oldest, latest


class Announcer:
    """Follows all commits, and tells each change at least once; where it began again, some once more.

    Two of them may run for a while: what is told twice has the same version.
    """

    def __init__(
        self, changes: Changes, announcements: Announcements, clock: Clock, every_s: float = EVERY_S
    ) -> None:
        self._changes = changes
        self._announcements = announcements
        self._clock = clock
        self._every_s = every_s
        self._following: Following | None = None
        self.told = 0
        self._oldest: datetime | None = None
        """When that was committed which was first of what the last look found."""
        self._since: datetime | None = None
        """It has looked since then, and not told all of it."""

    async def look(self) -> bool:
        """Tell the next changes, if there are any. Answers whether there may be more.

        Raises: TransientFailure; what was not confirmed is told again.
        """
        if self._since is None:
            self._since = self._clock.now()
        following = self._following or Following(await self._first())
        read = await self._changes.commits(following.newest, following.missing, COMMITS_AT_ONCE)
        changed = newest(read.found)
        self._oldest = min((row.changed_at for row in changed), default=None)
        if changed:
            await self._announcements.announce(changed)
        settled = following.settled
        following.take((commit.number for commit in read.found), read.oldest_running, read.mark)
        self._following = following
        if following.settled > settled:
            await self._changes.note_announced(following.settled)
        self.told += len(changed)
        self._since = None
        return read.more

    async def _first(self) -> int:
        """Where it was left off; but no further back than there is anything to read."""
        oldest, _ = await span(self._changes)
        return max(await self._changes.announced() or 0, oldest - 1)

    async def run(self) -> None:
        """Until cancelled."""
        outage, pauses = Outage("announcing"), waits()
        while True:
            try:
                more = await self.look()
                outage.ended()
                pauses = waits()
                await asyncio.sleep(0 if more else self._every_s)
            except TransientFailure as failure:
                self._following = None
                outage.failed(failure)
                await asyncio.sleep(next(pauses))
            except Exception:  # noqa: BLE001 - top of the loop
                self._following = None
                _log.exception("announcing_broke")
                await asyncio.sleep(next(pauses))

    def figures(self) -> dict[str, float]:
        now = self._clock.now()
        since = [moment for moment in (self._oldest, self._since) if moment is not None]
        late_s = max([0.0, *((now - moment).total_seconds() for moment in since)])
        return {"announced": self.told, "announced_late_s": late_s}

    async def close(self) -> None:
        await self._announcements.close()
