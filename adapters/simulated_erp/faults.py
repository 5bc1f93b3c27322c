"""How the ERP misbehaves: drawn, not timed, so that a seed repeats it.

Each draw depends on the seed, the idempotency key and how often that key was told, and on nothing else:
sixteen connections that race each other meet the same faults every time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from adapters.simulated_erp.models import FaultReport, FaultSettings


class Fault(StrEnum):
    NONE = "none"
    FAIL = "fail"
    TIMEOUT_AFTER_POSTING = "timeout-after-posting"
    FORGET_REPLY = "forget-reply"


@dataclass(slots=True)
class Faults:
    settings: FaultSettings = field(default_factory=FaultSettings)
    _told: Counter[str] = field(default_factory=Counter)
    _dealt: Counter[Fault] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Raises: ValueError where the rates add up to more than one."""
        rates = [rate for _, rate in self._rates()]
        if sum(rates) > 1:
            raise ValueError(f"the rates add up to {sum(rates)}; at most one fault strikes a request")

    def _rates(self) -> tuple[tuple[Fault, float], ...]:
        return (
            (Fault.FAIL, self.settings.fail_rate),
            (Fault.TIMEOUT_AFTER_POSTING, self.settings.timeout_after_posting_rate),
            (Fault.FORGET_REPLY, self.settings.forget_reply_rate),
        )

    def draw(self, idempotency_key: str) -> Fault:
        if not any(rate for _, rate in self._rates()):
            return Fault.NONE
        self._told[idempotency_key] += 1
        attempt = self._told[idempotency_key]
        drawn = Random(f"{self.settings.seed}/{idempotency_key}/{attempt}").random()
        fault = self._at(drawn)
        self._dealt[fault] += 1
        return fault

    def _at(self, drawn: float) -> Fault:
        for fault, rate in self._rates():
            if drawn < rate:
                return fault
            drawn -= rate
        return Fault.NONE

    def report(self) -> FaultReport:
        dealt = {fault.value: self._dealt[fault] for fault, _ in self._rates()}
        return FaultReport(self.settings, dealt)
