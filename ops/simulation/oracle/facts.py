"""Which of the facts that were told count, and when each happened; and exact arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from canonical.envelope import Event
from canonical.facts import order as o
from canonical.facts import tracking as tr
from canonical.facts.base import Fact, Retracted
from canonical.identity import Kind, TwinRef

F = TypeVar("F", bound=Fact)
Plain = dict[str, Any]
NONE = Fraction(0)
CENT = Fraction(1, 100)
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
TOLERANCE = Fraction(1, 20)
BILL_TOLERANCE = Fraction(1, 10)
WAY = (tr.Milestone.IN_TRANSIT, tr.Milestone.OUT_FOR_DELIVERY, tr.Milestone.DELIVERED)


def exact(number: Decimal | None) -> Fraction:
    return Fraction(number or 0)


def cents(amount: Fraction) -> Fraction:
    """Half a cent goes away from zero."""
    whole = int(abs(amount) / CENT + Fraction(1, 2))
    return whole * CENT * (-1 if amount < 0 else 1)


def slice_of(whole: Fraction, before: Fraction, part: Fraction, total: Fraction) -> Fraction:
    """What is due once *before* and *part* are, less what was due once *before* was."""
    if not total:
        return NONE
    return cents(whole * (before + part) / total) - cents(whole * before / total)


@dataclass(frozen=True)
class Said:
    """A fact that counts, in its place."""

    at: datetime
    """When it happened, by its source's numbers where it has some."""
    event: Event

    @property
    def fact(self) -> Any:
        return self.event.fact


def what_counts(told: Iterable[Event]) -> dict[TwinRef, list[Said]]:
    """Of each id the version with the smallest digest, without what was taken back, in order."""
    versions: dict[tuple[TwinRef, str, str], list[Event]] = defaultdict(list)
    for event in told:
        versions[event.subject, event.source, event.id].append(event)
    standing = {key: min(found, key=lambda one: one.digest()) for key, found in versions.items()}
    for (subject, _, _), event in list(standing.items()):
        if isinstance(event.fact, Retracted):
            target = standing.get((subject, event.fact.source, event.fact.id))
            if target is not None and not isinstance(target.fact, Retracted):
                del standing[subject, target.source, target.id]
    by_twin: dict[TwinRef, list[Event]] = defaultdict(list)
    for event in standing.values():
        if not isinstance(event.fact, Retracted):  # as if neither had been sent
            by_twin[event.subject].append(event)
    _hand_on(by_twin)
    return {ref: list(_in_place(events)) for ref, events in by_twin.items()}


def _hand_on(by_twin: dict[TwinRef, list[Event]]) -> None:
    """Facts that know only a return number belong to the order that asked for the return."""
    for ref in [ref for ref in by_twin if ref.kind is Kind.RETURN]:
        for order in [one for one in by_twin if one.kind is Kind.ORDER]:
            facts = [event.fact for event in by_twin[order]]
            asked = any(isinstance(one, o.ReturnRequested) and one.return_id == ref.key for one in facts)
            if asked and any(isinstance(one, o.OrderPlaced) for one in facts):
                source = f"?by={ref}"
                by_twin[order] += [replace(one, source=one.source + source) for one in by_twin[ref]]


def _in_place(events: list[Event]) -> Iterator[Said]:
    """By time, then by the place that a kind of fact has in life; a source's numbers overrule both."""

    def moment(event: Event) -> tuple[datetime, int]:
        numbered = [one for one in events if one.source == event.source and one.sequence is not None]
        earlier = [one for one in numbered if (one.sequence, one.id) <= (event.sequence, event.id)]
        return max(
            (one.time, int(one.fact.RANK)) for one in (earlier if event.sequence is not None else [event])
        )

    def place(event: Event) -> Any:
        return moment(event), event.source, -1 if event.sequence is None else event.sequence, event.id

    return (Said(moment(event)[0], event) for event in sorted(events, key=place))
