"""Waiting for what is away: ever longer, and without a line in the log for each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import random
from time import monotonic

import structlog

_log = structlog.get_logger()

FIRST_S, LONGEST_S = 0.1, 2.0


class Outage:
    """Notes once that something waits for the world and once that it goes on, however often it tried."""

    def __init__(self, what: str, **ids: str) -> None:
        """*what* names the events in the log: ``<what>_waits`` and ``<what>_goes_on``."""
        self._what = what
        self._ids = ids
        self._since: float | None = None
        self._attempts = 0

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def failed(self, reason: object) -> None:
        self._attempts += 1
        if self._since is None:
            self._since = monotonic()
            _log.warning(f"{self._what}_waits", reason=str(reason), **self._ids)

    def ended(self) -> None:
        """It works; what is not out may say so any time."""
        if self._since is not None:
            lasted_s = round(monotonic() - self._since, 3)
            _log.warning(f"{self._what}_goes_on", lasted_s=lasted_s, attempts=self._attempts, **self._ids)
        self._since, self._attempts = None, 0


def waits(first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> Iterator[float]:
    """How long to wait before each further attempt: doubling, give or take a half, lest all come at once."""
    wait_s = first_s
    while True:
        yield wait_s * (0.5 + random())
        wait_s = min(longest_s, wait_s * 2)


def is_cancelled() -> bool:
    """The task that asks, and not what it waits for: libraries cancel that as they give up a connection."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
