"""A tracking number: what a carrier says, kept until some shipment owns the number.

Rules
- Milestones form a lattice: each keeps its earliest moment, and every witness. Order cannot matter.
- A shipment hears of the earliest witness alone.
- Delivered is never undone by another scan, except by return to sender.
- The number belongs to the shipments that bind it, and to the one that a carrier registered it for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import EventId, PostingKey, TwinRef, shipment
from canonical.postings import Posting
from twins.core.contributions import Bill, Binding, CarrierWord, MilestoneReached, Value
from twins.core.rules import Finding, Policy, Registers, Rules, terminal

PROGRESS: tuple[Milestone, ...] = (
    Milestone.PRE_TRANSIT,
    Milestone.IN_TRANSIT,
    Milestone.OUT_FOR_DELIVERY,
    Milestone.DELIVERED,
    Milestone.RETURN_TO_SENDER,
)
TRANSITIONS: Mapping[str, Mapping[str, str]] = {
    "unknown": {milestone.value: milestone.value for milestone in PROGRESS},
    **{
        milestone.value: {later.value: later.value for later in PROGRESS[index + 1 :]}
        for index, milestone in enumerate(PROGRESS)
    },
}
FINAL = terminal(TRANSITIONS) | {Milestone.DELIVERED.value}


class TrackingState(Struct, frozen=True, gc=False):
    registered: Mapping[str, EventId] = msgspec.field(default_factory=dict)
    """Shipment → the event that named it."""
    reached: Mapping[Milestone, MilestoneReached] = msgspec.field(default_factory=dict)
    bills: Mapping[str, Bill] = msgspec.field(default_factory=dict)
    signed_by: str | None = None
    last_place: str | None = None


def evolve(state: TrackingState, event: Event) -> TrackingState:
    match event.fact:
        case TrackingRegistered(shipment_id=shipment_id):
            known = state.registered.get(shipment_id, event.event_id)
            return replace(state, registered={**state.registered, shipment_id: known})
        case TrackingScanned() as fact:
            return _scanned(state, event, fact)
        case CarrierBilled() as fact:
            return _billed(state, event, fact)
        case _:
            return state


def _scanned(state: TrackingState, event: Event, fact: TrackingScanned) -> TrackingState:
    known = state.reached.get(fact.milestone)
    if known is None:
        now = MilestoneReached(fact.milestone.value, event.time, (event.event_id,))
    else:
        now = _also(known, event)
    return replace(
        state,
        reached={**state.reached, fact.milestone: now},
        signed_by=state.signed_by or fact.signed_by,
        last_place=fact.place or state.last_place,
    )


def _also(known: MilestoneReached, event: Event) -> MilestoneReached:
    if event.time < known.at:
        return known._replace(at=event.time, witnesses=(event.event_id, *known.witnesses))
    return known._replace(witnesses=(*known.witnesses, event.event_id))


def _billed(state: TrackingState, event: Event, fact: CarrierBilled) -> TrackingState:
    known = state.bills.get(fact.bill_id)
    if known is None:
        bill = Bill(fact.bill_id, fact.amount, fact.currency, event.time, (event.event_id,))
    else:
        bill = known._replace(witnesses=(*known.witnesses, event.event_id))
    return replace(state, bills={**state.bills, fact.bill_id: bill})


class TrackingView(Struct, frozen=True, gc=False):
    state: TrackingState
    shipments: tuple[TwinRef, ...]
    policy: Policy


def view(ref: TwinRef, state: TrackingState, inbox: Registers, policy: Policy) -> TrackingView:
    bound = {source for source, _ in inbox.of(Binding)}
    named = {shipment(shipment_id) for shipment_id in state.registered}
    return TrackingView(state, tuple(sorted(bound | named)), policy)


def status(seen: TrackingView) -> str:
    reached = [milestone.value for milestone in PROGRESS if milestone in seen.state.reached]
    return reached[-1] if reached else "unknown"


def contributions(ref: TwinRef, seen: TrackingView) -> dict[TwinRef, Value]:
    state = seen.state
    word = CarrierWord(
        tuple(_first(state.reached[milestone]) for milestone in sorted(state.reached)),
        tuple(state.bills[bill] for bill in sorted(state.bills)),
        state.signed_by,
    )
    return dict.fromkeys(seen.shipments, word)


def _first(reached: MilestoneReached) -> MilestoneReached:
    """One more scan of a milestone is no news to the shipment."""
    return reached._replace(witnesses=reached.witnesses[:1])


def postings(ref: TwinRef, seen: TrackingView) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: TrackingView) -> tuple[Finding, ...]:
    if seen.shipments or not seen.state.reached:
        return ()
    first = min(one.at for one in seen.state.reached.values())
    witnesses = tuple(event for one in seen.state.reached.values() for event in one.witnesses)
    text = "no shipment owns this tracking number"
    return (Finding("tracking-unbound", text, witnesses, first + seen.policy.origin_deadline),)


def document(ref: TwinRef, seen: TrackingView) -> dict[str, Any]:
    carrier, _, number = ref.key.partition(":")
    return {
        "carrier": carrier,
        "number": number,
        "shipments": [str(one) for one in seen.shipments],
        "milestones": {name.value: seen.state.reached[name].at for name in sorted(seen.state.reached)},
        "witnesses": {
            name.value: list(seen.state.reached[name].witnesses) for name in sorted(seen.state.reached)
        },
        "signed_by": seen.state.signed_by,
        "last_place": seen.state.last_place,
        "bills": {bill.bill_id: bill.amount for bill in seen.state.bills.values()},
    }


def explain(ref: TwinRef, seen: TrackingView) -> tuple[str, ...]:
    said = [
        f"{reached.milestone} since {reached.at:%Y-%m-%d %H:%M}, told by {', '.join(reached.witnesses)}."
        for reached in sorted(seen.state.reached.values(), key=lambda one: one.at)
    ]
    owner = ", ".join(map(str, seen.shipments)) or "no shipment yet"
    return (*said, f"Belongs to {owner}.")


RULES: Rules[TrackingState, Registers, TrackingView] = Rules(
    initial=TrackingState(),
    evolve=evolve,
    inbox=Registers,
    view=view,
    status=status,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    waits=lambda seen: () if seen.shipments else ("a shipment that owns this number",),
    final=FINAL,
)
