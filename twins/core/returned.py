"""A return number: facts from those who know nothing but the number, kept until an order owns it.

Rules
- Nothing is interpreted here: the order that binds the number folds the facts as its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.identity import PostingKey, TwinRef
from canonical.postings import Posting
from twins.core.contributions import Binding, Forwarded, ForwardedEvent, Value
from twins.core.rules import Finding, Policy, Registers, Rules

TRANSITIONS: Mapping[str, Mapping[type[Fact], str]] = {"unbound": {}, "bound": {}}
"""Binding comes from an order's contribution, not from a fact."""


class ReturnState(Struct, frozen=True, gc=False):
    events: tuple[Event, ...] = ()


def evolve(state: ReturnState, event: Event) -> ReturnState:
    return replace(state, events=(*state.events, event))


class ReturnView(Struct, frozen=True, gc=False):
    state: ReturnState
    orders: tuple[TwinRef, ...]
    policy: Policy


def view(ref: TwinRef, state: ReturnState, inbox: Registers, policy: Policy) -> ReturnView:
    return ReturnView(state, tuple(source for source, _ in inbox.of(Binding)), policy)


def contributions(ref: TwinRef, seen: ReturnView) -> dict[TwinRef, Value]:
    if not seen.state.events:
        return {}
    events = tuple(
        ForwardedEvent(event.source, event.id, event.structured().decode()) for event in seen.state.events
    )
    return dict.fromkeys(seen.orders, Forwarded(events))


def postings(ref: TwinRef, seen: ReturnView) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: ReturnView) -> tuple[Finding, ...]:
    if seen.orders or not seen.state.events:
        return ()
    due = seen.state.events[0].time + seen.policy.origin_deadline
    told = tuple(event.event_id for event in seen.state.events)
    return (Finding("return-unbound", "no order knows this return number", told, due),)


def document(ref: TwinRef, seen: ReturnView) -> dict[str, Any]:
    return {
        "return_id": ref.key,
        "orders": [str(one) for one in seen.orders],
        "facts": [event.type for event in seen.state.events],
    }


def explain(ref: TwinRef, seen: ReturnView) -> tuple[str, ...]:
    owner = ", ".join(map(str, seen.orders)) or "no order yet"
    return (f"{len(seen.state.events)} facts, handed on to {owner}.",)


RULES: Rules[ReturnState, Registers, ReturnView] = Rules(
    initial=ReturnState(),
    evolve=evolve,
    inbox=Registers,
    view=view,
    status=lambda seen: "bound" if seen.orders else "unbound",
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    waits=lambda seen: () if seen.orders else ("an order that asked for this return",),
    final=frozenset({"bound"}),
)
