"""What carriers bill for a shipment, and how much of it is what was accrued."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from canonical.facts import shipment as sh
from canonical.facts import tracking as tr
from canonical.identity import Kind, TwinRef
from ops.simulation.oracle.facts import BILL_TOLERANCE, LONG_AGO, NONE, Said, cents, exact, slice_of
from ops.simulation.oracle.orders import World


@dataclass
class Billed:
    """All lines of one bill, in one currency, as far as they are for one shipment."""

    bill_id: str
    currency: str
    amount: Fraction = NONE
    at: datetime = LONG_AGO
    told_by: set[str] = field(default_factory=set)


@dataclass
class Share:
    """A bill that is paid, and what of the accrual is used up by it."""

    bill: Billed
    cleared: Fraction


def accrued(world: World, ref: TwinRef) -> tuple[Fraction, str] | None:
    """What the shipment will cost, and in which currency."""
    for one in world.of(ref, sh.ShipmentDispatched) if world.dispatch(ref) is not None else ():
        if one.fact.freight_cost is not None:
            return (
                (exact(one.fact.freight_cost), one.fact.freight_currency) if one.fact.freight_cost else None
            )
    return None


def parcels(world: World, ref: TwinRef) -> list[TwinRef]:
    if world.dispatch(ref) is None:
        return []
    carrier = world._told_of_dispatch(ref, "carrier")
    numbers = world._told_of_dispatch(ref, "tracking_numbers") or ()
    return [TwinRef(Kind.TRACKING, f"{carrier}:{number}") for number in numbers]


def owners(world: World, parcel: TwinRef) -> list[TwinRef]:
    return [ref for ref in world.refs(Kind.SHIPMENT) if parcel in parcels(world, ref)]


def bills_of(world: World, parcel: TwinRef) -> dict[str, list[Said]]:
    """Bill → who told of it; the first is believed."""
    found: dict[str, list[Said]] = defaultdict(list)
    for one in world.of(parcel, tr.CarrierBilled):
        found[one.fact.bill_id].append(one)
    return found


def payers(world: World, parcel: TwinRef, currency: str) -> dict[TwinRef, Fraction]:
    """Who has set money of that currency aside for the number, and how much."""
    found: dict[TwinRef, Fraction] = {}
    for ref in owners(world, parcel):
        aside = accrued(world, ref)
        if aside is not None and aside[1] == currency:
            found[ref] = aside[0] / len(parcels(world, ref))
    return found


def billed(world: World, ref: TwinRef) -> list[Billed]:
    """In the order in which the carrier wrote them."""
    found: dict[tuple[str, str], Billed] = {}
    for parcel in parcels(world, ref):
        shared = len(owners(world, parcel)) > 1
        for bill_id, told in bills_of(world, parcel).items():
            fact = told[0].fact
            aside = payers(world, parcel, fact.currency)
            if shared and ref not in aside:
                continue
            bill = found.setdefault((bill_id, fact.currency), Billed(bill_id, fact.currency))
            bill.amount += _part(exact(fact.amount), aside, ref) if shared else exact(fact.amount)
            bill.at = max(bill.at, told[0].event.time)
            bill.told_by |= {one.event.event_id for one in told}
    return sorted(found.values(), key=lambda one: (one.at, one.bill_id))


def _part(amount: Fraction, aside: dict[TwinRef, Fraction], ref: TwinRef) -> Fraction:
    before = sum((aside[one] for one in aside if one < ref), NONE)
    return slice_of(amount, before, aside[ref], sum(aside.values(), NONE))


def paid(world: World, ref: TwinRef) -> list[Share]:
    """As many bills, from the first on, as leave the sum near enough to what was accrued."""
    aside = accrued(world, ref)
    if aside is None:
        return []
    expected = cents(aside[0])
    bills = [one for one in billed(world, ref) if one.currency == aside[1]]
    sums = [sum((cents(one.amount) for one in bills[: many + 1]), NONE) for many in range(len(bills))]
    fitting = [many for many, total in enumerate(sums) if abs(total - expected) <= expected * BILL_TOLERANCE]
    if not fitting:
        return []
    enough, last = fitting[0], fitting[-1]
    rest = expected - (sums[enough - 1] if enough else NONE)
    return [
        Share(bill, cents(bill.amount) if place < enough else rest if place == enough else NONE)
        for place, bill in enumerate(bills[: last + 1])
    ]
