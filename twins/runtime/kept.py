"""Answers that are given again without asking, while their twin has not changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Protocol

from canonical.errors import TransientFailure
from canonical.identity import TwinRef
from twins.runtime.coalesce import Answer
from twins.runtime.host import Aspect
from twins.runtime.placement import Placement
from twins.runtime.stamps import BoardReader, Place

KEPT_BYTES_MAX = 64 * 2**20
ASK_EVERY_S = 1.0
"""How often a host is asked for its board that has none here, or none that is trusted."""


class Reads(Protocol):
    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer: ...


class Boards:
    """The boards of the hosts on this machine, found when they are first wanted."""

    def __init__(self, ask: Callable[[str], Awaitable[Place | None]]) -> None:
        """*ask*: a host's board by the host's name; None where it has none. Raises: TransientFailure."""
        self._ask = ask
        self._boards: dict[str, BoardReader] = {}
        self._asked_at: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def stamp(self, host: str, ref: TwinRef) -> int | None:
        """What `BoardReader.stamp` says; None, too, while there is no board."""
        board = self._boards.get(host)
        if board is None:
            self._look_for(host)
            return None
        stamp = board.stamp(ref)
        if stamp is None:
            self._look_for(host)
        return stamp

    def _look_for(self, host: str) -> None:
        now = monotonic()
        if now - self._asked_at.get(host, -ASK_EVERY_S) < ASK_EVERY_S:
            return
        self._asked_at[host] = now
        asking = asyncio.create_task(self._find(host))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _find(self, host: str) -> None:
        self._boards.pop(host, None)
        try:
            place = await self._ask(host)
            if place is not None:
                self._boards[host] = BoardReader(place)
        except (TransientFailure, OSError):  # it is away, or on another machine: it is asked for each twin
            return


class KeptReads:
    """Keeps what was read, up to a number of bytes; the oldest goes first."""

    def __init__(
        self, reads: Reads, placement: Placement, boards: Boards, bytes_max: int = KEPT_BYTES_MAX
    ) -> None:
        self._reads = reads
        self._placement = placement
        self._boards = boards
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[tuple[Aspect, TwinRef], tuple[int, tuple[int, bytes]]] = {}
        """The stamp from before it was asked for, and the answer."""

    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer:
        """Version and JSON of a twin; None where nobody has heard of it. Raises: TransientFailure."""
        stamp = self._boards.stamp(self._placement.host_of(ref), ref)
        if stamp is None:
            return await self._reads.read(aspect, ref)
        kept = self._kept.get((aspect, ref))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        answer = await self._reads.read(aspect, ref)
        if answer is not None:
            self._keep((aspect, ref), stamp, answer)
        return answer

    def _keep(self, what: tuple[Aspect, TwinRef], stamp: int, answer: tuple[int, bytes]) -> None:
        if (before := self._kept.pop(what, None)) is not None:
            self._bytes -= len(before[1][1])
        self._kept[what] = stamp, answer
        self._bytes += len(answer[1])
        while self._bytes > self._bytes_max:
            _, (_, body) = self._kept.pop(next(iter(self._kept)))
            self._bytes -= len(body)
