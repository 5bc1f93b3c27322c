"""A customer: master data. The highest revision gives the attributes, whenever it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.reference import CustomerDeactivated, CustomerUpserted
from canonical.identity import EventId, PostingKey, TwinRef
from canonical.postings import Posting
from twins.core.contributions import CustomerCard, Value
from twins.core.rules import Asked, Finding, Policy, Rules

TRANSITIONS: Mapping[str, Mapping[type[Fact], str]] = {
    "provisional": {CustomerUpserted: "active", CustomerDeactivated: "inactive"},
    "active": {CustomerUpserted: "active", CustomerDeactivated: "inactive"},
    "inactive": {CustomerUpserted: "active"},
}


class CustomerState(Struct, frozen=True, gc=False):
    status: str = "provisional"
    revision: int = -1
    customer: CustomerUpserted | None = None
    told_by: EventId | None = None


def evolve(state: CustomerState, event: Event) -> CustomerState:
    fact = event.fact
    if not isinstance(fact, CustomerUpserted | CustomerDeactivated) or fact.revision <= state.revision:
        return state
    status = TRANSITIONS[state.status].get(type(fact), state.status)
    told = fact if isinstance(fact, CustomerUpserted) else state.customer
    return replace(state, status=status, revision=fact.revision, customer=told, told_by=event.event_id)


class CustomerView(Struct, frozen=True, gc=False):
    state: CustomerState
    interested: int
    """How many twins ask for it."""


def view(ref: TwinRef, state: CustomerState, inbox: Asked, policy: Policy) -> CustomerView:
    return CustomerView(state, inbox.interested)


def contributions(ref: TwinRef, seen: CustomerView) -> dict[TwinRef, Value]:
    return {}


def echo(seen: CustomerView) -> CustomerCard | None:
    return None if seen.state.customer is None else _KNOWN


_KNOWN = CustomerCard()


def postings(ref: TwinRef, seen: CustomerView) -> dict[PostingKey, Posting]:
    return {}


def findings(ref: TwinRef, seen: CustomerView) -> tuple[Finding, ...]:
    if seen.state.customer is None and seen.interested:
        return _unknown(seen.interested)
    return ()


@lru_cache(maxsize=1_024)
def _unknown(interested: int) -> tuple[Finding, ...]:
    return (Finding("unknown-customer", f"{interested} orders wait for this customer"),)


def document(ref: TwinRef, seen: CustomerView) -> dict[str, Any]:
    told = seen.state.customer
    return {
        "customer_id": ref.key,
        "revision": seen.state.revision,
        **(told.ADAPTER.dump_python(told) if told else {}),
    }


def explain(ref: TwinRef, seen: CustomerView) -> tuple[str, ...]:
    if seen.state.customer is None:
        return ("Orders refer to this customer; its master data has not come.",)
    return (f"Revision {seen.state.revision} counts ({seen.state.told_by}).",)


RULES: Rules[CustomerState, Asked, CustomerView] = Rules(
    initial=CustomerState(),
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
)
