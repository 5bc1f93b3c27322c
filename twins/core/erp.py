"""An ERP instance: which accounting periods it has closed. The latest closing day of a company counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.erp import PeriodClosed
from canonical.identity import PostingKey, TwinRef
from canonical.postings import Posting
from twins.core.contributions import Value
from twins.core.rules import Finding, Policy, Registers, Rules

TRANSITIONS: Mapping[str, Mapping[type[Fact], str]] = {"open": {PeriodClosed: "open"}}


@dataclass(frozen=True, slots=True)
class ErpState:
    closed_through: Mapping[str, date] = field(default_factory=dict)
    """Company → last closed day."""


def evolve(state: ErpState, event: Event) -> ErpState:
    fact = event.fact
    if not isinstance(fact, PeriodClosed):
        return state
    known = state.closed_through.get(fact.company, fact.closed_through)
    return ErpState({**state.closed_through, fact.company: max(known, fact.closed_through)})


def view(ref: TwinRef, state: ErpState, inbox: Registers, policy: Policy) -> ErpState:
    return state


def contributions(ref: TwinRef, seen: ErpState) -> dict[TwinRef, Value]:
    return {}


def postings(ref: TwinRef, seen: ErpState) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: ErpState) -> tuple[Finding, ...]:
    return ()


def document(ref: TwinRef, seen: ErpState) -> dict[str, Any]:
    return {"erp": ref.key, "closed_through": dict(sorted(seen.closed_through.items()))}


def explain(ref: TwinRef, seen: ErpState) -> tuple[str, ...]:
    return tuple(f"{company}: closed through {day}." for company, day in sorted(seen.closed_through.items()))


RULES: Rules[ErpState, Registers, ErpState] = Rules(
    initial=ErpState(),
    evolve=evolve,
    inbox=Registers,
    view=view,
    status=lambda seen: "open",
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
)
