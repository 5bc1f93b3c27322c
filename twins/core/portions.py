"""How much of what may wait a host takes in hand at once, so that what may not wait meets its latency target.

Pure: moments and durations are arguments, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.25
"""Of the target, for which a portion may occupy the host. What may not wait waits for two at most: one
when its batch arrives, and one with the batch before, while it gathered. The other half of the target is for
the way from the publisher to the host, and for its own commit."""
LEAST = 16
"""Messages: a commit costs as much as some twenty, however few it holds."""
QUIET_S = 0.5
"""Without a message that may not wait, after which as much is taken as there is."""
BEHIND = 250
"""Messages that may not wait, in one batch: so many have waited already, and what is wanted is throughput."""
WEIGHT = 0.2
"""Of the newest portion in what a message is thought to take."""
FIRST_GUESS_S = 0.0005


@dataclass(slots=True)
class Portions:
    """Learns what a message takes, and grows and shrinks with it."""

    target_s: float = 0.1
    message_s: float = FIRST_GUESS_S
    """What a message of a portion takes, folded and committed."""
    others_at: float = float("-inf")
    """When a message that may not wait was last in hand."""

    def others_came(self, now: float, messages: int = 1) -> None:
        if messages < BEHIND:
            self.others_at = now

    def took(self, messages: int, seconds: float) -> None:
        """*seconds*: of folding and committing them, without waiting for others."""
        self.message_s += WEIGHT * (seconds / max(messages, 1) - self.message_s)

    def is_quiet(self, now: float) -> bool:
        """Nobody else comes."""
        return now - self.others_at > QUIET_S

    def size(self, waiting: int, now: float) -> int:
        """How many of those that wait are to be taken together; all of them while nobody else comes."""
        if self.is_quiet(now):
            return waiting
        return min(waiting, max(LEAST, int(SHARE * self.target_s / self.message_s)))
