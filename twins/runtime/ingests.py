"""Ingest actors that come while much waits in the queues, and go when little has waited for long."""

from __future__ import annotations

from collections.abc import Callable, Collection

import structlog

from canonical.errors import TransientFailure
from twins.ports import Queues, Waiting
from twins.runtime.crew import Crew, Seen, decide

_log = structlog.get_logger()

PREFIX = "ingest-"


def ingest_name(number: int) -> str:
    return f"{PREFIX}{number}"


def ingest_names(names: Collection[str]) -> list[str]:
    """Those of ingest actors, by number."""
    numbers = (name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
    return [ingest_name(number) for number in sorted(int(one) for one in numbers if one.isdecimal())]


class IngestWatch:
    """Keeps as many ingest actors as are wanted. Any of them may take any message."""

    def __init__(
        self,
        crew: Callable[[], Crew],
        queues: Queues,
        names: Callable[[], Collection[str]],
        start: Callable[[str], object],
        drain: Callable[[str], object],
        clock: Callable[[], float],
    ) -> None:
        """*crew*: the bounds, as they are by now. *names*: of all actors that run. *drain*: one takes what it
        has in hand and ends; nobody waits.
        """
        self.waiting: Waiting | None = None
        """What the last look found; None where the broker did not say."""
        self.running = 0
        self._crew, self._queues = crew, queues
        self._names, self._start, self._drain = names, start, drain
        self._clock = clock
        self._seen = Seen()
        self._draining: set[str] = set()

    async def look(self) -> None:
        """Have at most a few come or go. Where the broker is away nothing changes: more could do no more."""
        try:
            self.waiting = await self._queues.waiting()
        except TransientFailure:
            self.waiting = None
        known = ingest_names(self._names())
        self._draining.intersection_update(known)
        running = [name for name in known if name not in self._draining]
        self.running = len(running)
        if self.waiting is None or not running:  # none: they are being started, or stopped
            return
        wanted, self._seen = decide(self._crew(), self._seen, self.waiting.total, len(running), self._clock())
        self.running = wanted
        if wanted != len(running):
            _log.warning("ingest_scaled", actors=wanted, before=len(running), waiting=self.waiting.total)
        self._come(known, wanted - len(running))
        self._go(running, len(running) - wanted)

    def _come(self, known: list[str], many: int) -> None:
        free = (name for name in map(ingest_name, range(len(known) + max(many, 0))) if name not in known)
        for _, name in zip(range(many), free, strict=False):
            self._start(name)

    def _go(self, running: list[str], many: int) -> None:
        for name in running[len(running) - max(many, 0) :]:
            self._draining.add(name)
            self._drain(name)

    def figures(self) -> dict[str, float]:
        if self.waiting is None:
            return {"ingest_actors": self.running}
        return {
            "ingest_actors": self.running,
            "queue_events": self.waiting.events,
            "queue_bulk": self.waiting.bulk,
        }
