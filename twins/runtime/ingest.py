"""The way from messages to hosts: one call a host and batch, whatever the batch holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from canonical.envelope import BODY_BYTES_MAX, HEADER_PREFIX, Event, is_binary, parse
from canonical.errors import RejectedMessage
from canonical.identity import TwinRef, twin_ref
from twins.core.contributions import Contribution
from twins.ports import Publication, Rejected, Verdict
from twins.runtime.host import Aspect
from twins.runtime.placement import Placement


class HostCalls(Protocol):
    """Calls to a host by name, wherever it runs. All raise TransientFailure where it cannot be reached."""

    async def take(self, host: str, messages: list[Publication], *, may_wait: bool) -> list[Verdict]: ...

    async def take_events(self, host: str, events: list[Event]) -> list[Verdict]: ...

    async def absorb(self, host: str, contributions: list[Contribution]) -> None: ...

    async def read(
        self, host: str, aspect: Aspect, refs: list[TwinRef]
    ) -> list[tuple[int, bytes] | None]: ...


class _Address(msgspec.Struct):
    subject: str


_ADDRESS = msgspec.json.Decoder(_Address)


class Directory:
    """Finds the host of each twin; nothing else knows about placement. Implements Intake."""

    def __init__(self, placement: Placement, calls: HostCalls) -> None:
        self.placement = placement
        self._calls = calls

    def destination(self, message: Publication) -> str:
        """Name of the host. See twins.ports.Intake."""
        address = _address(message)
        return "" if isinstance(address, Rejected) else self.placement.host_of(address)

    async def take(self, messages: Sequence[Publication], *, may_wait: bool = False) -> list[Verdict]:
        """Hand each message to its twin's host, all hosts at once. See twins.ports.Intake."""
        verdicts: list[Verdict | None] = [None] * len(messages)
        groups: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            address = _address(message)
            if isinstance(address, Rejected):
                verdicts[index] = address
            else:
                groups.setdefault(self.placement.host_of(address), []).append(index)
        answers = await asyncio.gather(
            *(
                self._calls.take(host, [messages[index] for index in group], may_wait=may_wait)
                for host, group in groups.items()
            )
        )
        for group, answer in zip(groups.values(), answers, strict=True):
            for index, verdict in zip(group, answer, strict=True):
                verdicts[index] = verdict
        return [verdict for verdict in verdicts if verdict is not None]

    async def take_events(self, events: Sequence[Event]) -> None:
        """Hand parsed events to their twins' hosts."""
        groups: dict[str, list[Event]] = {}
        for event in events:
            groups.setdefault(self.placement.host_of(event.subject), []).append(event)
        await asyncio.gather(*(self._calls.take_events(host, group) for host, group in groups.items()))

    async def post(self, contributions: Sequence[Contribution]) -> None:
        """Carry mail between hosts."""
        groups: dict[str, list[Contribution]] = {}
        for contribution in contributions:
            groups.setdefault(self.placement.host_of(contribution.target), []).append(contribution)
        await asyncio.gather(*(self._calls.absorb(host, group) for host, group in groups.items()))

    async def read(self, aspect: Aspect, refs: Sequence[TwinRef]) -> list[tuple[int, bytes] | None]:
        groups: dict[str, list[TwinRef]] = {}
        for ref in refs:
            groups.setdefault(self.placement.host_of(ref), []).append(ref)
        answers = await asyncio.gather(
            *(self._calls.read(host, aspect, group) for host, group in groups.items())
        )
        found = {
            ref: answer
            for group, answered in zip(groups.values(), answers, strict=True)
            for ref, answer in zip(group, answered, strict=True)
        }
        return [found[ref] for ref in refs]


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
