"""Numbers that a source has left out: what it told and nobody has heard.

Rules
- A gap lies between two numbers that were told. What a source told last can be lost unseen.
- It may only be late: it is asked for after some patience, and then ever more rarely until it closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

ASK_AGAIN_AFTER_MAX = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers *first* to *last* of a source, both included."""

    source: str
    first: int
    last: int
    since: datetime
    """When the event after the gap happened: it shows that there is one."""

    @property
    def missing(self) -> int:
        return self.last - self.first + 1

    @property
    def place(self) -> tuple[str, int, int]:
        return self.source, self.first, self.last


@dataclass(frozen=True, slots=True)
class Watch:
    """What was done about a gap."""

    gap: Gap
    noticed_at: datetime
    asked_at: datetime | None = None
    times: int = 0


@dataclass(slots=True)
class Asking:
    ask: list[Watch] = field(default_factory=list)
    """To be asked for now; as they are to be kept afterwards."""
    keep: list[Watch] = field(default_factory=list)
    """Noticed for the first time."""
    closed: list[Watch] = field(default_factory=list)


def gaps(source: str, told: Iterable[tuple[int, datetime]]) -> Iterator[Gap]:
    """Between numbers in ascending order, each with the time of its event."""
    expected: int | None = None
    for number, at in told:
        if expected is not None and number > expected:
            yield Gap(source, expected, number - 1, at)
        expected = number + 1


def plan_asks(
    found: Iterable[Gap], watched: Mapping[tuple[str, int, int], Watch], now: datetime, patience: timedelta
) -> Asking:
    """What to ask for, given what is missing *now* and what was done about it."""
    asking, still = Asking(), set()
    for gap in found:
        still.add(gap.place)
        watch = watched.get(gap.place)
        if watch is None:
            asking.keep.append(Watch(gap, now))
        elif now >= _next(watch, patience):
            asking.ask.append(replace(watch, asked_at=now, times=watch.times + 1))
    asking.closed = [watch for place, watch in watched.items() if place not in still]
    return asking


def _next(watch: Watch, patience: timedelta) -> datetime:
    if watch.asked_at is None:
        return watch.noticed_at + patience
    rarely: timedelta = patience * 2 ** min(watch.times, 16)
    return watch.asked_at + min(ASK_AGAIN_AFTER_MAX, rarely)
