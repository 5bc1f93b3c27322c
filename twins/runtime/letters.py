"""Dead letters in people's hands: sent again as they are or edited, or discarded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff

from canonical.damaged import spread
from twins.ports import (
    DeadLetters,
    Intake,
    Letter,
    LetterFilter,
    LetterState,
    Publication,
    Rejected,
    Settled,
    Taken,
)

TOGETHER_MAX, TOGETHER_BYTES_MAX = 100, 8_388_608
"""What is held in memory and sent at once."""
DIFF_LINES_MAX = 200
"""Lines of a difference that the audit trail keeps."""


@dataclass(slots=True)
class LetterWatch:
    """How many letters wait for somebody, and for how long, as of the last look."""

    open: int = 0
    oldest_s: float = 0.0

    async def look(self, letters: DeadLetters, now: datetime) -> None:
        """Raises: TransientFailure."""
        self.open, oldest = await letters.open_letters()
        self.oldest_s = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a letter; *number*: that of the edited one, where it was edited."""

    number: int
    verdict: Taken | Rejected


class LetterDesk:
    """Every replay goes in by the intake that all messages go in by, which is what says yes or no."""

    def __init__(self, letters: DeadLetters, intake: Intake) -> None:
        self._letters = letters
        self._intake = intake

    async def replay(self, number: int, by: str, edited: Publication | None = None) -> Replayed | None:
        """Send a letter again, as it is or *edited*. None: there is no such letter.

        Whatever state it is in: to take a fact twice does no harm. Raises: TransientFailure, Overloaded.
        """
        found = await self._letters.letter(number)
        if found is None:
            return None
        _, message = found
        if edited is None or edited == message:
            (replayed,) = await self._replay([number], [message], by)
            return replayed
        (verdict,) = await self._intake.take([edited])
        refused = verdict if isinstance(verdict, Rejected) else None
        diff = difference(message, edited)
        return Replayed(await self._letters.replace(by, number, edited, refused, diff), verdict)

    async def replay_each(self, wanted: LetterFilter, limit: int, by: str) -> list[Replayed]:
        """Send all again that a filter finds, the newest first. Raises: TransientFailure, Overloaded."""
        replayed: list[Replayed] = []
        numbers: list[int] = []
        messages: list[Publication] = []
        for letter in await self._letters.letters(wanted, limit):
            if messages and _full(messages, letter):
                replayed += await self._replay(numbers, messages, by)
                numbers, messages = [], []
            found = await self._letters.letter(letter.number)
            if found is not None:
                numbers.append(letter.number)
                messages.append(found[1])
        return replayed + await self._replay(numbers, messages, by)

    async def discard(self, number: int, by: str, why: str) -> bool:
        """False: there is no such letter. Raises: TransientFailure."""
        if await self._letters.letter(number) is None:
            return False
        await self._letters.settle(by, [_discarded(number, why)])
        return True

    async def discard_each(self, wanted: LetterFilter, limit: int, by: str, why: str) -> list[int]:
        """The numbers of those discarded. Raises: TransientFailure."""
        numbers = [letter.number for letter in await self._letters.letters(wanted, limit)]
        await self._letters.settle(by, [_discarded(number, why) for number in numbers])
        return numbers

    async def _replay(
        self, numbers: Sequence[int], messages: Sequence[Publication], by: str
    ) -> list[Replayed]:
        if not messages:
            return []
        verdicts = await self._intake.take(messages)
        await self._letters.settle(
            by,
            [
                Settled(number, "replay", LetterState.OPEN, refused=verdict)
                if isinstance(verdict, Rejected)
                else Settled(number, "replay", LetterState.REPLAYED)
                for number, verdict in zip(numbers, verdicts, strict=True)
            ],
        )
        return list(map(Replayed, numbers, verdicts))


def _full(messages: Sequence[Publication], letter: Letter) -> bool:
    held = sum(len(message.body) for message in messages)
    return len(messages) >= TOGETHER_MAX or held + letter.size_bytes > TOGETHER_BYTES_MAX


def _discarded(number: int, why: str) -> Settled:
    return Settled(number, "discard", LetterState.DISCARDED, why=why)


def difference(before: Publication, after: Publication) -> str:
    """What was edited, as lines that begin with ``-`` and ``+``; at most DIFF_LINES_MAX of them."""
    lines = unified_diff(_lines(before), _lines(after), "before", "after", lineterm="", n=1)
    return "\n".join(line for line, _ in zip(lines, range(DIFF_LINES_MAX), strict=False))


def _lines(message: Publication) -> list[str]:
    heads = [f"{name}: {value}" for name, value in message.headers.items()]
    kind = [] if message.content_type is None else [f"content-type: {message.content_type}"]
    return heads + kind + (spread(message.body) or repr(message.body)).splitlines()
