"""An item: master data, and the cost that held at each moment.

Rules
- The highest revision gives the attributes, whenever it arrives.
- A cost holds from the moment its revision says; later revisions overrule it from their own moment on.
- Costs in two currencies are an exception: what was on shelves before is in the ERP in the other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.reference import ItemDeactivated, ItemUpserted
from canonical.identity import EventId, Kind, PostingKey, TwinRef
from canonical.postings import Posting
from twins.core.contributions import Cost, CostAsked, ItemCard, ItemKnown, Value
from twins.core.rules import Asked, Finding, Policy, Rules

TRANSITIONS: Mapping[str, Mapping[type[Fact], str]] = {
    "provisional": {ItemUpserted: "active", ItemDeactivated: "inactive"},
    "active": {ItemUpserted: "active", ItemDeactivated: "inactive"},
    "inactive": {ItemUpserted: "active"},
}


class ItemState(Struct, frozen=True, gc=False):
    status: str = "provisional"
    revision: int = -1
    item: ItemUpserted | None = None
    told_by: EventId | None = None
    told: tuple[Cost, ...] = ()
    """Of each revision that is ever in force, in the order of their moments and so of their revisions."""
    costs: tuple[Cost, ...] = ()
    """Those of them that cost other than the one before."""


def evolve(state: ItemState, event: Event) -> ItemState:
    fact = event.fact
    if isinstance(fact, ItemUpserted):
        cost = Cost(event.time, fact.revision, fact.unit_cost, fact.currency)
        state = _costing(state, cost)
    if not isinstance(fact, ItemUpserted | ItemDeactivated) or fact.revision <= state.revision:
        return state
    status = TRANSITIONS[state.status].get(type(fact), state.status)
    told = fact if isinstance(fact, ItemUpserted) else state.item
    return replace(state, status=status, revision=fact.revision, item=told, told_by=event.event_id)


def _costing(state: ItemState, cost: Cost) -> ItemState:
    """A revision that repeats a cost is no change, and yet overrules older ones from its moment on."""
    last = state.told[-1] if state.told else None
    if last is None or (last.since < cost.since and last.revision <= cost.revision):
        is_change = last is None or last[2:] != cost[2:]
        costs = (*state.costs, cost) if is_change else state.costs
        return replace(state, told=(*state.told, cost), costs=costs)
    told = _in_force(state.told, cost)
    changes = tuple(one for before, one in pairwise(told) if before[2:] != one[2:])
    return replace(state, told=told, costs=told[:1] + changes)


def _in_force(told: tuple[Cost, ...], cost: Cost) -> tuple[Cost, ...]:
    before = [one for one in told if one.since <= cost.since]
    if before and (before[-1].revision, before[-1].since) >= (cost.revision, cost.since):
        return told
    earlier = (one for one in before if one.since < cost.since)
    later = (one for one in told if one.since > cost.since and one.revision >= cost.revision)
    return (*earlier, cost, *later)


class ItemView(Struct, frozen=True, gc=False):
    state: ItemState
    interested: int
    """How many twins ask for it."""


def view(ref: TwinRef, state: ItemState, inbox: Asked, policy: Policy) -> ItemView:
    return ItemView(state, inbox.interested)


def contributions(ref: TwinRef, seen: ItemView) -> dict[TwinRef, Value]:
    return {}


def echo(seen: ItemView) -> ItemCard | None:
    return None if seen.state.item is None else ItemCard(seen.state.costs)


def reply(card: ItemCard, kind: Kind, question: Value) -> Value:
    if kind is Kind.ORDER:
        return _KNOWN
    return _of(card.cost(question.at)) if isinstance(question, CostAsked) else card


_KNOWN = ItemKnown()


@lru_cache(maxsize=4_096)
def _of(cost: Cost | None) -> ItemCard:
    """One object for all that left at that cost."""
    return ItemCard(() if cost is None else (cost,))


def postings(ref: TwinRef, seen: ItemView) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: ItemView) -> tuple[Finding, ...]:
    if seen.state.item is None and seen.interested:
        return _unknown(seen.interested)
    return tuple(_in_other_currencies(seen.state.costs)) if len(seen.state.costs) > 1 else ()


def _in_other_currencies(costs: tuple[Cost, ...]) -> Iterator[Finding]:
    named = [cost for cost in costs if cost.currency]
    for cost in named:
        if cost.currency != named[0].currency:
            before = f"that of revision {named[0].revision} {named[0].currency}"
            text = f"item-upserted revision {cost.revision}: currency is {cost.currency}, {before}"
            yield Finding("other-currency", text)


@lru_cache(maxsize=1_024)
def _unknown(interested: int) -> tuple[Finding, ...]:
    return (Finding("unknown-item", f"{interested} twins wait for this item's master data"),)


def document(ref: TwinRef, seen: ItemView) -> dict[str, Any]:
    told = seen.state.item
    return {
        "sku": ref.key,
        "revision": seen.state.revision,
        **(told.ADAPTER.dump_python(told) if told else {}),
    }


def explain(ref: TwinRef, seen: ItemView) -> tuple[str, ...]:
    if seen.state.item is None:
        return ("Others refer to this item; its master data has not come.",)
    return (f"Revision {seen.state.revision} counts ({seen.state.told_by}).",)


RULES: Rules[ItemState, Asked, ItemView] = Rules(
    initial=ItemState(),
    evolve=evolve,
    inbox=Asked,
    view=view,
    status=lambda seen: seen.state.status,
    contributions=contributions,
    postings=postings,
    findings=findings,
    document=document,
    explain=explain,
    echo=echo,
    reply=reply,
)
