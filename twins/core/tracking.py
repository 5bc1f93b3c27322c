"""A tracking number: what a carrier says, kept until some shipment owns the number.

Rules
- Milestones form a lattice: each keeps its earliest moment, and every witness. Order cannot matter.
- A shipment hears of the earliest witness alone.
- Delivered is never undone by another scan, except by return to sender.
- The number belongs to the shipments that bind it, and to the one that a carrier registered it for.
- Those who share it share its bills, in proportion to what each has accrued for it in the bill's currency.
  The parts sum to the bill; one that nobody has accrued for is an exception here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from math import lcm
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.tracking import CarrierBilled, Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import EventId, PostingKey, TwinRef, shipment
from canonical.money import ZERO, share
from canonical.postings import Posting
from canonical.types import plain
from twins.core.contributions import Bill, Binding, Carriage, CarrierWord, MilestoneReached, Value
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
    disagreements: tuple[tuple[str, EventId], ...] = ()


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
        return replace(state, bills={**state.bills, fact.bill_id: bill})
    bill = known._replace(witnesses=(*known.witnesses, event.event_id))
    seen = replace(state, bills={**state.bills, fact.bill_id: bill})
    if (known.amount, known.currency) == (fact.amount, fact.currency):
        return seen
    said, before = (f"{one.amount} {one.currency}" for one in (fact, known))
    text = f"bill {fact.bill_id} is {before} by {known.witnesses[0]}, {said} by {event.event_id}"
    return replace(seen, disagreements=(*state.disagreements, (text, event.event_id)))


class TrackingView(Struct, frozen=True, gc=False):
    state: TrackingState
    shipments: tuple[TwinRef, ...]
    carriages: tuple[tuple[TwinRef, Carriage], ...]
    """Of those who have accrued freight."""
    policy: Policy


def view(ref: TwinRef, state: TrackingState, inbox: Registers, policy: Policy) -> TrackingView:
    carriages = tuple(inbox.of(Carriage))
    bound = {source for source, _ in inbox.of(Binding)}
    bound.update(source for source, _ in carriages)
    named = {shipment(shipment_id) for shipment_id in state.registered}
    return TrackingView(state, tuple(sorted(bound | named)), carriages, policy)


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
    if not word.bills or len(seen.shipments) < 2:
        return dict.fromkeys(seen.shipments, word)
    parts = [_divided(bill, _who_pay(seen, bill)) for bill in word.bills]
    return {
        one: dataclasses.replace(word, bills=tuple(part[one] for part in parts if one in part))
        for one in seen.shipments
    }


def _who_pay(seen: TrackingView, bill: Bill) -> list[tuple[TwinRef, Carriage]]:
    return [one for one in seen.carriages if one[1].currency == bill.currency and one[1].freight > 0]


def _divided(bill: Bill, payers: list[tuple[TwinRef, Carriage]]) -> dict[TwinRef, Bill]:
    """A shipment's accrual is for all of its numbers alike."""
    whole = lcm(*(carriage.numbers for _, carriage in payers))
    weights = [carriage.freight * (whole // carriage.numbers) for _, carriage in payers]
    total, before = sum(weights, ZERO), ZERO
    found: dict[TwinRef, Bill] = {}
    for (one, _), weight in zip(payers, weights, strict=True):
        part = share(bill.amount, before, weight, total, bill.currency)
        found[one] = bill._replace(amount=plain(part))
        before += weight
    return found


def _first(reached: MilestoneReached) -> MilestoneReached:
    """One more scan of a milestone is no news to the shipment."""
    return reached._replace(witnesses=reached.witnesses[:1])


def postings(ref: TwinRef, seen: TrackingView) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: TrackingView) -> tuple[Finding, ...]:
    state = seen.state
    if seen.shipments:
        return tuple(_about_bills(seen)) if state.bills else ()
    if not state.reached and not state.bills:
        return ()
    told: list[MilestoneReached | Bill] = [*state.reached.values(), *state.bills.values()]
    witnesses = tuple(event for one in told for event in one.witnesses)
    due = min(one.at for one in told) + seen.policy.origin_deadline
    text = "no shipment owns this tracking number"
    return (Finding("tracking-unbound", text, witnesses, due), *_about_bills(seen))


def _about_bills(seen: TrackingView) -> Iterator[Finding]:
    for text, event in seen.state.disagreements:
        yield Finding("sources-disagree", text, (event,))
    if len(seen.shipments) < 2:
        return
    for bill_id, bill in sorted(seen.state.bills.items()):
        if not _who_pay(seen, bill):
            code = "other-currency" if seen.carriages else "carrier-bill-mismatch"
            accrued = ", ".join(sorted({carriage.currency for _, carriage in seen.carriages})) or "nothing"
            text = f"carrier-billed {bill_id}: currency is {bill.currency}, its shipments accrued {accrued}"
            yield Finding(code, text, bill.witnesses)


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
