"""How many ingest actors there should be, from what waits in the queues and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

SHALLOW_SHARE = 0.1
PATIENCE_MAX = 16


@dataclass(frozen=True, slots=True)
class Crew:
    """The bounds, and what is waited for before one comes or goes. Raises: ValueError for none at all."""

    least: int = 1
    most: int = 1
    deep: int = 2_000
    """Messages that wait with the broker; a tenth of it is shallow."""
    grow_after_s: float = 10.0
    """An actor takes a second to start, and one that was killed has its messages waiting for two."""
    shrink_after_s: float = 120.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"between {self.least} and {self.most} ingest actors: there is no such number")


class Level(Enum):
    SHALLOW = "shallow"
    BETWEEN = "between"
    DEEP = "deep"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the looks before have shown. Times in seconds, of any one clock."""

    level: Level = Level.BETWEEN
    since_s: float = 0.0
    """Since when it is so; or since one came or went."""
    shrunk_at_s: float | None = None
    patience: int = 1
    """How many times as long it waits before one goes: doubled each time that the last one was missed."""


def decide(crew: Crew, seen: Seen, waiting: int, running: int, now_s: float) -> tuple[int, Seen]:
    """How many there should be: one more, one less, or as many; a greater step only into the bounds.

    *waiting*: messages in all queues that no consumer holds. Between deep and shallow nothing changes.
    A load between what some and one more can carry would have one come and go for ever: each time that it is
    missed, the next stays twice as long.
    """
    level = _level(crew, waiting)
    if level is not seen.level:
        seen = replace(seen, level=level, since_s=now_s)
    if (bounded := min(max(running, crew.least), crew.most)) != running:
        return bounded, seen
    lasted_s, stays_s = now_s - seen.since_s, crew.shrink_after_s * seen.patience
    if level is Level.DEEP and running < crew.most and lasted_s >= crew.grow_after_s:
        return running + 1, Seen(level, now_s, None, _patience(seen, now_s - stays_s))
    if level is Level.SHALLOW and running > crew.least and lasted_s >= stays_s:
        return running - 1, replace(seen, since_s=now_s, shrunk_at_s=now_s)
    return running, seen


def _patience(seen: Seen, since_s: float) -> int:
    """*since_s*: who left no longer ago than this is missed."""
    if seen.shrunk_at_s is None:
        return seen.patience
    return min(seen.patience * 2, PATIENCE_MAX) if seen.shrunk_at_s >= since_s else 1


def _level(crew: Crew, waiting: int) -> Level:
    if waiting > crew.deep:
        return Level.DEEP
    return Level.SHALLOW if waiting <= crew.deep * SHALLOW_SHARE else Level.BETWEEN
