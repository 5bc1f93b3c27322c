"""The way from messages to hosts: one call a host and batch, whatever the batch holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

import msgspec

from canonical.envelope import BODY_BYTES_MAX, HEADER_PREFIX, Event, is_binary, parse
from canonical.errors import Elsewhere, Moving, RejectedMessage, TransientFailure
from canonical.identity import TwinRef, twin_ref
from twins.core.contributions import Contribution
from twins.core.placement import Placement
from twins.ports import Publication, Rejected, Verdict
from twins.runtime.host import Aspect

MOVING_S, MOVING_LOOK_S = 3.0, 0.05
"""How long, and how often, a host is called again that cannot be reached, or has a twin no more."""


class HostCalls(Protocol):
    """Calls to a host by name, wherever it runs.

    All raise TransientFailure: Moving where it cannot be reached, Elsewhere where a twin is not the host's.
    """

    async def placement(self) -> Placement:
        """Where twins live by now, as the first host knows it."""
        ...

    async def take(self, host: str, messages: list[Publication], *, may_wait: bool) -> list[Verdict]: ...

    async def take_events(self, host: str, events: list[Event]) -> list[Verdict]: ...

    async def absorb(self, host: str, contributions: list[Contribution]) -> None: ...

    async def read(
        self, host: str, aspect: Aspect, refs: list[TwinRef]
    ) -> list[tuple[int, bytes] | None]: ...

    async def news(
        self, host: str, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float
    ) -> tuple[int, bytes] | None:
        """As `TwinHost.news`; it may answer sooner."""
        ...


class _Address(msgspec.Struct):
    subject: str


_ADDRESS = msgspec.json.Decoder(_Address)


class Directory:
    """Finds the host of each twin, wherever it has moved. Implements Intake."""

    def __init__(self, placement: Placement, calls: HostCalls) -> None:
        """*placement*: where to look first; whoever is asked in vain says what holds."""
        self.placement = placement
        self._calls = calls

    def destination(self, message: Publication) -> str:
        """Name of the host. See twins.ports.Intake."""
        address = _address(message)
        return "" if isinstance(address, Rejected) else self.placement.host_of(address)

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        """Hand each message to its twin's host, all hosts at once. See twins.ports.Intake."""
        verdicts: dict[int, Verdict] = {}
        refs: dict[int, TwinRef] = {}
        for index, message in enumerate(messages):
            address = _address(message)
            if isinstance(address, Rejected):
                verdicts[index] = address
            else:
                refs[index] = address

        async def take(host: str, group: list[int]) -> None:
            answers = await self._calls.take(host, [messages[index] for index in group], may_wait=may_wait)
            verdicts.update(zip(group, answers, strict=True))

        await self._each(refs, take)
        return [verdicts[index] for index in range(len(messages))]

    async def take_events(self, events: Sequence[Event]) -> list[Verdict]:
        """Hand parsed events to their twins' hosts. Shape: one verdict an event, in order."""
        verdicts: dict[int, Verdict] = {}

        async def take(host: str, group: list[int]) -> None:
            answers = await self._calls.take_events(host, [events[index] for index in group])
            verdicts.update(zip(group, answers, strict=True))

        await self._each({index: event.subject for index, event in enumerate(events)}, take)
        return [verdicts[index] for index in range(len(events))]

    async def post(self, contributions: Sequence[Contribution]) -> None:
        """Carry mail between hosts."""

        async def absorb(host: str, group: list[int]) -> None:
            await self._calls.absorb(host, [contributions[index] for index in group])

        await self._each({index: one.target for index, one in enumerate(contributions)}, absorb)

    async def read(self, aspect: Aspect, refs: Sequence[TwinRef]) -> list[tuple[int, bytes] | None]:
        found: dict[int, tuple[int, bytes] | None] = {}

        async def read(host: str, group: list[int]) -> None:
            answers = await self._calls.read(host, aspect, [refs[index] for index in group])
            found.update(zip(group, answers, strict=True))

        await self._each(dict(enumerate(refs)), read)
        return [found[index] for index in range(len(refs))]

    async def news(
        self, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float
    ) -> tuple[int, bytes] | None:
        """Version and JSON of a twin as soon as its version is not *known*, or else once patience is gone.

        Sooner where its host lets nobody wait. Raises: TransientFailure.
        """
        until = monotonic() + patience_s
        answer: tuple[int, bytes] | None = None

        async def ask(host: str, _: list[int]) -> None:
            nonlocal answer
            answer = await self._calls.news(host, aspect, ref, known, max(0.0, until - monotonic()))

        await self._each({0: ref}, ask, max(MOVING_S, patience_s))
        return answer

    async def _each(
        self,
        refs: Mapping[int, TwinRef],
        call: Callable[[str, list[int]], Awaitable[None]],
        patience_s: float = MOVING_S,
    ) -> None:
        """Call the host of each, all hosts at once, with the numbers of its own.

        One that is being moved or started anew is called again for *patience_s*; a twin that has moved is
        followed.
        """
        give_up_at = monotonic() + patience_s

        async def call_all(numbers: Iterable[int]) -> None:
            groups: dict[str, list[int]] = {}
            for number in numbers:
                groups.setdefault(self.placement.host_of(refs[number]), []).append(number)
            await asyncio.gather(*(call_one(host, group, self.placement) for host, group in groups.items()))

        async def call_one(host: str, group: list[int], placement: Placement) -> None:
            try:
                return await call(host, group)
            except Moving as moving:
                await self._follow(moving)
                if self.placement is placement:
                    if monotonic() > give_up_at:
                        raise
                    await asyncio.sleep(MOVING_LOOK_S)
            await call_all(group)

        await call_all(refs)

    async def _follow(self, moving: Moving) -> None:
        if isinstance(moving, Elsewhere):
            self._go_by(moving.placement)
        else:
            await self.look(self.placement.version + 1)

    async def look(self, version: int) -> None:
        """Ask where twins live by now, unless that *version* or a later one is known."""
        if self.placement.version < version:
            with suppress(TransientFailure):
                self._go_by(await self._calls.placement())

    def _go_by(self, placement: Placement) -> None:
        if placement.version > self.placement.version:
            self.placement = placement


def _address(message: Publication) -> TwinRef | Rejected:
    """Read the subject alone; the host reads the rest, once."""
    try:
        if len(message.body) > BODY_BYTES_MAX or is_binary(message.headers, message.content_type):
            subject = message.headers[f"{HEADER_PREFIX}subject"]
        else:
            subject = _ADDRESS.decode(message.body).subject
        return twin_ref(subject)
    except RejectedMessage as rejected:
        return Rejected(rejected.reason, rejected.field)
    except (KeyError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _refused(message, error)


def _refused(message: Publication, error: Exception) -> Rejected:
    """Why no subject could be read, in the words of the full check where it finds more to say."""
    try:
        parse(message.body, message.headers, message.content_type)
    except RejectedMessage as rejected:
        return Rejected(rejected.reason, rejected.field)
    return Rejected(str(error), "subject")
