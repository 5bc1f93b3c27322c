"""Reconciling by itself: at most once at a time, and not again before its time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from canonical.errors import RejectedMessage, TransientFailure
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import Snapshot
from twins.ports import Clock, Reports
from twins.runtime.reconcile.run import Reconciliation

_log = structlog.get_logger()

BY_ITSELF = "schedule"
DIFFERENCES = "reconciliation_differences/"
"""Prefix of the figures that count what the last report has, each ending in the kind."""


class Schedule:
    """Looked at with every sweep of one host; the last report says when the next one is due."""

    def __init__(
        self,
        run: Reconciliation,
        reports: Reports,
        snapshot: Callable[[], Awaitable[Snapshot]],
        erps: tuple[str, ...],
        clock: Clock,
        every: timedelta,
    ) -> None:
        """*snapshot* fetches what the others say. Raises: RejectedMessage, TransientFailure."""
        self._run = run
        self._reports = reports
        self._snapshot = snapshot
        self._erps = erps
        self._clock = clock
        self._every = every
        self._running: asyncio.Task[None] | None = None
        self.counts: dict[str, int] = {}
        """Kind of difference → how many the last report has."""

    async def look(self) -> bool:
        """Start a reconciliation where one is due. Raises: TransientFailure where the database is away."""
        last = next(iter(await self._reports.reports(1)), None)
        if last is not None and last.state == "done":
            self.counts = last.counts()
        if self._running is not None and not self._running.done():
            return False
        now = self._clock.now()
        if last is not None and now < last.started_at + self._every:
            return False
        report = Report(f"R-{now:%Y%m%dT%H%M%S}", BY_ITSELF, now, self._erps)
        await self._reports.save(report)
        self._running = asyncio.create_task(self._reconcile(report))
        return True

    async def _reconcile(self, report: Report) -> None:
        try:
            done = await self._run.run(report, await self._snapshot())
            _log.info("reconciled", report=report.id, differences=len(done.differences))
        except (RejectedMessage, TransientFailure) as error:
            _log.warning("reconciliation_failed", report=report.id, reason=str(error))
        except Exception:  # noqa: BLE001 - top of a task
            _log.exception("reconciliation_broke", report=report.id)
