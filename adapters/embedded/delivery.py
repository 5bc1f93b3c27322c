"""Delivery without a broker: publishing returns after the commit."""

from __future__ import annotations

from collections.abc import Sequence

import stamina

from canonical.errors import Overloaded, TransientFailure
from twins.ports import DeadLetters, Intake, Publication, Rejected

ATTEMPTS = 6
BATCH_SIZE_MAX = 500


class EmbeddedPublisher:
    """Implements twins.ports.Publisher. What is refused is kept among the dead letters."""

    def __init__(self, intake: Intake, dead_letters: DeadLetters) -> None:
        self._intake = intake
        self._dead_letters = dead_letters

    async def publish(self, messages: Sequence[Publication]) -> None:
        """Raises: TransientFailure, Overloaded, after some attempts."""
        for start in range(0, len(messages), BATCH_SIZE_MAX):
            await self._publish(messages[start : start + BATCH_SIZE_MAX])

    async def check(self) -> None:
        """Nothing is between the publisher and the intake."""

    async def close(self) -> None:
        """Nothing is open."""

    async def _publish(self, messages: Sequence[Publication]) -> None:
        async for attempt in stamina.retry_context((TransientFailure, Overloaded), attempts=ATTEMPTS):
            with attempt:
                verdicts = await self._intake.take(messages)
        refused = [
            (message, verdict)
            for message, verdict in zip(messages, verdicts, strict=True)
            if isinstance(verdict, Rejected)
        ]
        if refused:
            await self._dead_letters.keep(refused)
