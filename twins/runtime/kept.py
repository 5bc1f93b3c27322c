"""Answers that are given again without asking, while their twin has not changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic

from canonical.errors import TransientFailure
from canonical.identity import TwinRef
from twins.core.placement import is_dedicated
from twins.runtime.coalesce import Answer, Reads, awaited
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory
from twins.runtime.stamps import BoardReader, Place

KEPT_BYTES_MAX = 64 * 2**20
ENTRY_BYTES = 512
"""What keeping an answer takes beside its JSON; all that an unknown twin takes."""
ASK_EVERY_S = 1.0
"""How often a host is asked for its board that has none here, or none that is trusted."""


Stamp = tuple[int, int]
"""Version of the placement, and what the board of the twin's host by that placement showed."""


async def _nowhere_else(version: int) -> None:
    """There is one placement."""


class Boards:
    """The boards of the hosts on this machine, found when they are first wanted."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Place | None]],
        placed: Callable[[int], Awaitable[None]] = _nowhere_else,
    ) -> None:
        """*ask*: a host's board by the host's name; None where it has none. Raises: TransientFailure.

        *placed* is told of the version of the placement that a host goes by, where it is another than asked.
        """
        self._ask = ask
        self._placed = placed
        self._boards: dict[str, BoardReader] = {}
        self._asked_at: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def stamp(self, host: str, ref: TwinRef, placement: int = 0) -> int | None:
        """What `BoardReader.stamp` says; None, too, where there is no board, as of an actor of one twin."""
        if is_dedicated(host):
            return None
        board = self._boards.get(host)
        if board is None:
            self._look_for(host, placement)
            return None
        stamp = board.stamp(ref, placement)
        if stamp is None:
            self._look_for(host, placement)
        return stamp

    def _look_for(self, host: str, placement: int) -> None:
        now = monotonic()
        if now - self._asked_at.get(host, -ASK_EVERY_S) < ASK_EVERY_S:
            return
        self._asked_at[host] = now
        asking = asyncio.create_task(self._find(host, placement))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _find(self, host: str, placement: int) -> None:
        self._boards.pop(host, None)
        try:
            place = await self._ask(host)
            if place is not None:
                board = self._boards[host] = BoardReader(place)
                if board.placement != placement:
                    await self._placed(board.placement)
        except (TransientFailure, OSError):  # it is away, or on another machine: it is asked for each twin
            return


class KeptReads:
    """Keeps what was read, up to a number of bytes; the oldest goes first.

    Also that nobody has heard of a twin: whoever has just told of it asks until it is there.
    """

    def __init__(
        self, reads: Reads, directory: Directory, boards: Boards, bytes_max: int = KEPT_BYTES_MAX
    ) -> None:
        self._reads = reads
        self._directory = directory
        self._boards = boards
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[tuple[Aspect, TwinRef], tuple[Stamp, Answer]] = OrderedDict()
        """The stamp from before it was asked for, and the answer."""

    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer:
        """Version and JSON of a twin; None where nobody has heard of it. Raises: TransientFailure."""
        placement = self._directory.placement
        found = self._boards.stamp(placement.host_of(ref), ref, placement.version)
        if found is None:
            return await self._reads.read(aspect, ref)
        stamp = placement.version, found
        kept = self._kept.get((aspect, ref))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        answer = await self._reads.read(aspect, ref)
        if self._directory.placement is placement:
            self._keep((aspect, ref), stamp, answer)
        return answer

    async def news(self, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float) -> Answer:
        """As soon as it is of another version than *known*, or else once patience is gone."""
        return await awaited(self._directory, self, aspect, ref, known, patience_s)

    def _keep(self, what: tuple[Aspect, TwinRef], stamp: Stamp, answer: Answer) -> None:
        if (before := self._kept.pop(what, None)) is not None:
            self._bytes -= _bytes(before[1])
        self._kept[what] = stamp, answer
        self._bytes += _bytes(answer)
        while self._bytes > self._bytes_max:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= _bytes(oldest)


def _bytes(answer: Answer) -> int:
    return ENTRY_BYTES + (0 if answer is None else len(answer[1]))
