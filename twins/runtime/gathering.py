"""Calls to a host that wait for a turn are taken together, and committed as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from canonical.envelope import Event
from canonical.errors import Elsewhere, Fenced, TransientFailure
from canonical.identity import TwinRef
from twins.core.contributions import Contribution
from twins.core.history import Arrival
from twins.runtime.turn import Turn

TOGETHER_MAX = 2_000
"""Messages and letters of a group, so that no commit grows without end: four full batches of consumers."""


@dataclass(eq=False, slots=True)
class Call:
    """What somebody asks a host to take, and waits for."""

    events: Sequence[Event]
    letters: Sequence[Contribution]
    answer: asyncio.Future[list[Arrival]]
    """One arrival an event. Cancelled where whoever asked has given up."""
    messages: int
    """By which it came; some may have told what was known."""
    alone: bool = False
    """It shares neither a turn nor a commit."""
    had_turn: asyncio.Event | None = None
    """Set once it is folded, or was to be."""

    def refs(self) -> Iterator[TwinRef]:
        yield from (event.subject for event in self.events)
        yield from (letter.target for letter in self.letters)

    @property
    def waits(self) -> bool:
        return not self.answer.done()

    def taken(self, arrivals: list[Arrival]) -> None:
        if self.waits:
            self.answer.set_result(arrivals)

    def failed(self, error: Exception) -> None:
        if self.waits:
            self.answer.set_exception(error)


def answer(calls: Sequence[Call], arrivals: Sequence[Arrival]) -> None:
    """*arrivals*: of the events of all calls, in order."""
    left = iter(arrivals)
    for call in calls:
        call.taken(list(islice(left, len(call.events))))


Begin = Callable[[list[Call], bool], Awaitable[Awaitable[None] | None]]


class Gathering:
    """Who calls joins those who wait for the same turn. What may wait joins nobody.

    A turn belongs to none of its callers: one that is cancelled takes nothing away from the others.
    """

    def __init__(self, turn: Turn, begin: Begin) -> None:
        """*begin* has the turn: it folds what is asked, told whether it may wait, and answers what ends once
        that is committed and the calls are answered. It may answer some before; None: all of them.
        """
        self._turn = turn
        self._begin = begin
        self._open: list[Call] = []
        """They have a place in the queue for the turn, which others may join until it comes."""
        self._size = 0
        self._turns: set[asyncio.Task[None]] = set()

    async def take(
        self,
        events: Sequence[Event],
        letters: Sequence[Contribution] = (),
        *,
        may_wait: bool = False,
        alone: bool = False,
        messages: int = 0,
        had_turn: asyncio.Event | None = None,
    ) -> list[Arrival]:
        """Returns when it is committed. Shape: one arrival an event, in order. *messages* told these events.
        *had_turn*, for what may wait, is set once they are folded.

        Raises: what *begin* and the commit raise. What only some of those taken together may be the cause of
        is raised if it happens to these alone, too.
        """
        call = Call(events, letters, asyncio.get_running_loop().create_future(), messages, alone, had_turn)
        may_wait = may_wait or had_turn is not None
        if may_wait or alone:
            self._queue([call], may_wait=may_wait)
        else:
            self._join(call)
        return await call.answer

    def _join(self, call: Call) -> None:
        size = len(call.events) + len(call.letters)
        if not self._open or self._size + size > TOGETHER_MAX:
            self._open, self._size = [], 0
            self._queue(self._open)
        self._open.append(call)
        self._size += size

    def _queue(self, group: list[Call], *, may_wait: bool = False) -> None:
        turn = asyncio.create_task(self._take_turn(group, may_wait))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)

    async def _take_turn(self, group: list[Call], may_wait: bool) -> None:
        try:
            async with self._turn.mine(may_wait=may_wait):
                if self._open is group:
                    self._open = []
                waiting = [call for call in group if call.waits]
                committing = await self._begin(waiting, may_wait) if waiting else None
            for call in group:
                if call.had_turn is not None:
                    call.had_turn.set()
            if committing is not None:
                await committing
        except Exception as error:  # noqa: BLE001 - whoever called is told
            self._failed(group, error)

    def _failed(self, group: list[Call], error: Exception) -> None:
        """One that may be the fault of a single call is found out by taking each alone."""
        is_of_all = isinstance(error, TransientFailure | Fenced) and not isinstance(error, Elsewhere)
        for call in group:
            if is_of_all or call.alone:
                call.failed(error)
            else:
                call.alone = True
                self._queue([call])
