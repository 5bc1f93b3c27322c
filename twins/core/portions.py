"""How much of what may wait a host takes in hand at once, so that what may not wait meets its latency target.

Pure: moments and durations are arguments, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
"""Of the newest in what a message is thought to take."""
FIRST_GUESS_S = 0.0005
LATE = 0.3
"""Others are late where the host has a batch of theirs for longer than such a share of the target."""
GIVES_WAY = 2
"""While others are late a portion waits at most for so many times what the last one took: what may wait has a
third of the host whatever comes, and of a slow database."""


@dataclass(slots=True)
class Portions:
    """Learns what a message takes, and grows and shrinks with it; and waits while others are late."""

    target_s: float = 0.1
    message_s: float = FIRST_GUESS_S
    """What a message of a portion takes, folded and committed."""
    last_s: float = 0.0
    """What the last portion took."""
    others_at: float = float("-inf")
    """When a message that may not wait was last in hand."""
    others_s: float = 0.0
    """How long the host had the last batch of such messages."""
    _underway: list[float] = field(default_factory=list)
    """When the host has begun with batches that may not wait."""

    def others_came(self, now: float, messages: int = 1) -> None:
        if messages < BEHIND:
            self.others_at = now

    def others_begin(self, now: float) -> None:
        self._underway.append(now)

    def others_end(self, began: float, now: float, messages: int) -> None:
        self._underway.remove(began)
        if messages < BEHIND:
            self.others_s = now - began

    def gives_way(self, now: float, since: float) -> bool:
        """Whether a portion that has waited since then goes on waiting, since others are late."""
        if self.is_quiet(now) or now - since >= GIVES_WAY * self.last_s:
            return False
        late_s = LATE * self.target_s
        return self.others_s > late_s or any(now - began > late_s for began in self._underway)

    def took(self, messages: int, seconds: float) -> None:
        """*seconds*: of folding and committing them, without waiting for others."""
        self.last_s = seconds
        self.message_s += WEIGHT * (seconds / max(messages, 1) - self.message_s)

    def is_quiet(self, now: float) -> bool:
        """Nobody else comes."""
        return now - self.others_at > QUIET_S

    def size(self, waiting: int, now: float) -> int:
        """How many of those that wait are to be taken together; all of them while nobody else comes."""
        if self.is_quiet(now):
            return waiting
        return min(waiting, max(LEAST, int(SHARE * self.target_s / self.message_s)))
