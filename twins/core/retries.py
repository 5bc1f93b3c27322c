"""When a command whose fate is unknown is taken up again, and how many of them at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: anywhere between now and a limit that doubles, so that those who failed together part."""

    first_s: float = 0.5
    most_s: float = 60.0

    def delay_s(self, attempts: int, draw: float) -> float:
        """*attempts*: so far, from one; *draw*: evenly from 0 to 1."""
        limit_s: float = min(self.most_s, self.first_s * 2.0 ** min(attempts - 1, 32))
        return draw * limit_s


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries are a share of what is told for the first time, and a trickle, so that a sick ERP is let be."""

    share: float = 0.2
    per_s: float = 1.0
    most: float = 10.0
    left: float = 10.0
    at: float = 0.0
    """When the trickle was last counted, in seconds on a clock that only goes forward."""

    def earned(self) -> RetryBudget:
        """A command was told for the first time."""
        return replace(self, left=min(self.most, self.left + self.share))

    def passed(self, now: float) -> RetryBudget:
        trickle = max(0.0, now - self.at) * self.per_s
        return replace(self, left=min(self.most, self.left + trickle), at=now)

    def spent(self) -> RetryBudget | None:
        """None: there is none left."""
        return replace(self, left=self.left - 1) if self.left >= 1 else None
