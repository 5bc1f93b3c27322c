"""Asks sources again for what they have told and nobody has heard."""

from __future__ import annotations

from datetime import timedelta

import structlog

from canonical.errors import TransientFailure
from twins.core.gaps import Watch, plan_asks
from twins.ports import Backfill, Clock, GapStore

_log = structlog.get_logger()


class GapWatch:
    def __init__(self, store: GapStore, backfill: Backfill | None, clock: Clock, patience: timedelta) -> None:
        """*backfill* None: gaps are noticed and shown, and nobody is asked."""
        self._store = store
        self._backfill = backfill
        self._clock = clock
        self._patience = patience
        self.missing = 0
        """Numbers that were missing at the last look."""

    async def look(self) -> int:
        """Notice gaps, ask for those that are due, forget those that have closed. Answers how many it asked.

        Raises: TransientFailure where the database is away.
        """
        found = await self._store.find_gaps()
        self.missing = sum(gap.missing for gap in found)
        watched = {watch.gap.place: watch for watch in await self._store.watches()}
        asking = plan_asks(found, watched, self._clock.now(), self._patience)
        asked = [watch for watch in asking.ask if await self._ask(watch)]
        await self._store.watch([*asking.keep, *asked], asking.closed)
        for watch in asking.closed:
            _log.info("gap_closed", source=watch.gap.source, first=watch.gap.first, last=watch.gap.last)
        return len(asked)

    async def _ask(self, watch: Watch) -> bool:
        """Whether the source, or who speaks for it, was told."""
        gap = watch.gap
        if self._backfill is None:
            return False
        try:
            return await self._backfill.ask(gap)
        except TransientFailure as failure:
            _log.warning("backfill_not_asked", source=gap.source, first=gap.first, reason=str(failure))
            return False
