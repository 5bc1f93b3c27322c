"""The outcome of one reconciliation, and what was done about it since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter

from twins.core.reconcile.difference import Difference


@dataclass(frozen=True, slots=True)
class Applied:
    at: datetime
    by: str
    outcome: str
    """``done``, or why it was left as it is."""


@dataclass(frozen=True, slots=True)
class Report:
    id: str
    asked_by: str
    started_at: datetime
    erps: tuple[str, ...]
    state: Literal["running", "done", "failed"] = "running"
    progress: str = ""
    """What it is at, or why it failed."""
    finished_at: datetime | None = None
    differences: tuple[Difference, ...] = ()
    not_compared: tuple[str, ...] = ()
    """What moved too much or has too much behind it, and could not be compared."""
    applied: Mapping[str, Applied] = field(default_factory=dict)
    """Id of a difference → what became of its corrections."""

    def counts(self) -> dict[str, int]:
        """Kind → how many."""
        return dict(sorted(Counter(one.kind.value for one in self.differences).items()))


REPORT: TypeAdapter[Report] = TypeAdapter(Report)
