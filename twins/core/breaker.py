"""A circuit breaker: after failures in a row an ERP is left alone for a while, then one probe decides.

Pure: the moment is an argument. Of the libraries, purgatory lets everyone through once the rest is over, and
pybreaker locks threads; both read the clock themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Circuit(StrEnum):
    """closed → open (too many failures) → half-open (the rest is over) → closed, or open again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


REST_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Moments are seconds on any clock that only goes forward."""

    failures_max: int = 5
    """In a row; one more opens the circuit."""
    rest_s: float = 1.0
    """After the first opening; doubled, up to `REST_S_MAX`, by each probe that fails."""
    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    until: float = 0.0
    """When the rest is over, or the probe is given up for lost."""
    openings: int = 0
    """In a row."""

    def admit(self, now: float, probe_s: float) -> Breaker | None:
        """The breaker after letting one call through; None: it must not be made.

        *probe_s*: how long a probe may take before another is let through.
        """
        match self.circuit:
            case Circuit.CLOSED:
                return self
            case Circuit.OPEN | Circuit.HALF_OPEN if now >= self.until:
                return replace(self, circuit=Circuit.HALF_OPEN, until=now + probe_s)
            case _:
                return None

    def answered(self) -> Breaker:
        """Whatever the ERP answered, it is there."""
        return replace(self, circuit=Circuit.CLOSED, failures=0, openings=0)

    def failed(self, now: float) -> Breaker:
        """A late failure of a call that began before the circuit opened changes nothing."""
        if self.circuit is Circuit.OPEN:
            return self
        failures = self.failures + 1
        if self.circuit is Circuit.CLOSED and failures < self.failures_max:
            return replace(self, failures=failures)
        rest_s = min(REST_S_MAX, self.rest_s * 2**self.openings)
        return replace(
            self, circuit=Circuit.OPEN, failures=failures, until=now + rest_s, openings=self.openings + 1
        )
