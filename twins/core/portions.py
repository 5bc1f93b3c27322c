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
"""Of the newest in what a message is thought to take, and others with no portion in hand."""
FIRST_GUESS_S = 0.0005
LATE = 0.3
"""Others are late where the host has a batch of theirs for longer than such a share of the target, and than
one takes on the average with no portion in hand: what is slow by itself gains nothing where scans wait."""
GIVES_WAY_S = 0.3
"""How long a portion waits at most while others are late, so that some of what may wait is always taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Others:
    """A batch that may not wait, as the host has it."""

    began: float
    portions: int | None
    """How many had begun by then; None: one was in hand."""


@dataclass(slots=True)
class Portions:
    """Learns what a message takes, and grows and shrinks with it; and waits while others are late."""

    target_s: float = 0.1
    message_s: float = FIRST_GUESS_S
    """What a message of a portion takes, folded and committed."""
    others_at: float = float("-inf")
    """When a message that may not wait was last in hand."""
    others_s: float = 0.0
    """How long the host had the last batch of such messages."""
    alone_s: float = 0.0
    """The same with no portion in hand."""
    _underway: list[Others] = field(default_factory=list)
    _begun: int = 0
    _in_hand: int = 0

    def others_came(self, now: float, messages: int = 1) -> None:
        if messages < BEHIND:
            self.others_at = now

    def others_begin(self, now: float) -> Others:
        others = Others(now, None if self._in_hand else self._begun)
        self._underway.append(others)
        return others

    def others_end(self, others: Others, now: float, messages: int) -> None:
        self._underway.remove(others)
        if messages < BEHIND:
            self.others_s = now - others.began
            if others.portions == self._begun:
                self.alone_s += WEIGHT * (self.others_s - self.alone_s)

    def begin(self) -> None:
        self._begun += 1
        self._in_hand += 1

    def end(self) -> None:
        self._in_hand -= 1

    def gives_way(self, now: float, since: float) -> bool:
        """Whether a portion that has waited since then goes on waiting, since others are late."""
        if now - since >= GIVES_WAY_S or self.is_quiet(now):
            return False
        late_s = max(LATE * self.target_s, self.alone_s)
        return self.others_s > late_s or any(now - others.began > late_s for others in self._underway)

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
