"""Reads that wait together travel together: one call a host for everyone who asks meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from canonical.identity import TwinRef
from twins.runtime.host import Aspect, is_news
from twins.runtime.ingest import Directory

Answer = tuple[int, bytes] | None
LOOK_EVERY_S = 0.05


class Reads(Protocol):
    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer: ...


@dataclass(slots=True)
class _Waiting:
    """Who waits for which twin, of one host and aspect."""

    readers: dict[TwinRef, list[asyncio.Future[Answer]]] = field(default_factory=dict)
    on_the_way: bool = False


class CoalescedReads:
    """While a call to a host is on its way, later readers gather; the next call serves them all."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: dict[tuple[str, Aspect], _Waiting] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def read(self, aspect: Aspect, ref: TwinRef) -> Answer:
        """Version and JSON of a twin; None where nobody has heard of it. Raises: TransientFailure."""
        where = (self._directory.placement.host_of(ref), aspect)
        waiting = self._waiting.setdefault(where, _Waiting())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting.readers.setdefault(ref, []).append(future)
        if not waiting.on_the_way:
            waiting.on_the_way = True
            call = asyncio.create_task(self._serve(where, waiting))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return await future

    async def news(self, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float) -> Answer:
        """As soon as it is of another version than *known*, or else once patience is gone."""
        return await awaited(self._directory, self, aspect, ref, known, patience_s)

    async def _serve(self, where: tuple[str, Aspect], waiting: _Waiting) -> None:
        while waiting.readers:
            readers, waiting.readers = waiting.readers, {}
            await self._answer(where[1], readers)
        waiting.on_the_way = False
        self._waiting.pop(where, None)

    async def _answer(self, aspect: Aspect, readers: dict[TwinRef, list[asyncio.Future[Answer]]]) -> None:
        refs = list(readers)
        try:
            answers = await self._directory.read(aspect, refs)
        except Exception as error:  # noqa: BLE001  every reader gets the failure, and raises it
            if len(readers) > 1:  # what is in memory can be read while the database is away
                await asyncio.gather(*(self._answer(aspect, {ref: readers[ref]}) for ref in refs))
                return
            for futures in readers.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for ref, answer in zip(refs, answers, strict=True):
            for future in readers[ref]:
                if not future.done():
                    future.set_result(answer)


async def awaited(
    directory: Directory, reads: Reads, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float
) -> Answer:
    """News of a twin from its host, or by looking again and again where the host lets nobody wait."""
    until = monotonic() + patience_s
    answer = await directory.news(aspect, ref, known, patience_s)
    while not is_news(answer, known) and (left := until - monotonic()) > 0:
        await asyncio.sleep(min(left, LOOK_EVERY_S))
        answer = await reads.read(aspect, ref)
    return answer
