"""What is on the shelves, and who goes without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

from canonical.facts import stock as st
from canonical.facts.base import Fact
from canonical.identity import Kind, TwinRef
from ops.simulation.oracle.facts import (
    NONE,
    F,
    Plain,
    Said,
    exact,
)
from ops.simulation.oracle.orders import Order, World


@dataclass(frozen=True)
class Move:
    status: str
    delta: Fraction
    at: datetime


class Stock:
    def __init__(self, world: World, ref: TwinRef, orders: Sequence[Order]) -> None:
        self.world, self.ref, self.orders = world, ref, orders
        self.sku, _, self.location = ref.key.rpartition("@")

    def _once(self, kind: type[F], name: str) -> list[Said]:
        """One a document id: its first telling."""
        found: dict[str, Said] = {}
        for one in self.world.of(self.ref, kind):
            found.setdefault(getattr(one.fact, name), one)
        return list(found.values())

    def own_moves(self) -> Iterator[tuple[Said, str, Fraction]]:
        """By its own facts: what, status, quantity."""
        sellable = st.StockStatus.SELLABLE
        documents: list[tuple[type[Fact], str, Callable[[Any], list[tuple[str, Decimal]]]]] = [
            (st.StockReceived, "receipt_id", lambda fact: [(fact.status, fact.quantity)]),
            (st.StockAdjusted, "adjustment_id", lambda fact: [(fact.status, fact.delta)]),
            (st.TransferredOut, "transfer_id", lambda fact: [(sellable, -fact.quantity)]),
            (st.TransferredIn, "transfer_id", lambda fact: [(sellable, fact.quantity)]),
            (
                st.StockStatusChanged,
                "change_id",
                lambda fact: [(fact.from_status, -fact.quantity), (fact.to_status, fact.quantity)],
            ),
        ]
        for kind, name, moves in documents:
            for one in self._once(kind, name):
                for status, delta in moves(one.fact):
                    yield one, status, exact(delta)

    def others_moves(self) -> Iterator[Move]:
        """By shipments and returns."""
        for ref in self.world.refs(Kind.SHIPMENT):
            gone = self.world.dispatch(ref)
            if gone is not None and gone.fact.location == self.location:
                many = sum((exact(one.quantity) for one in gone.fact.lines if one.sku == self.sku), NONE)
                yield Move("sellable", -many, gone.event.time)
        for order in self.orders:
            for put in order.puts:
                same = put.sku == self.sku and put.location == self.location
                if same and put.disposition != "scrap":
                    yield Move(put.disposition, put.quantity, put.at)

    def counts(self, status: str) -> list[Said]:
        return [one for one in self._once(st.StockCounted, "count_id") if one.fact.status == status]

    def taken_at(self, count: Said) -> datetime:
        """A count cannot have been taken before one that its place is after."""
        counts = self.counts(count.fact.status)
        return max(one.event.time for one in counts[: counts.index(count) + 1])

    def moved(self, status: str, after: Said | None, until: Said | None) -> Fraction:
        """What moved after one count and up to another."""
        order = [one.event.event_id for one in self.world.said.get(self.ref, ())]

        def place(one: Said) -> int:
            return order.index(one.event.event_id)

        own = (
            delta
            for one, what, delta in self.own_moves()
            if what == status
            and (after is None or place(one) > place(after))
            and (until is None or place(one) < place(until))
        )
        others = (
            move.delta
            for move in self.others_moves()
            if move.status == status
            and (after is None or move.at > self.taken_at(after))
            and (until is None or move.at <= self.taken_at(until))
        )
        return sum(own, NONE) + sum(others, NONE)

    def on_hand(self, status: str) -> Fraction:
        counts = self.counts(status)
        if not counts:
            return self.moved(status, None, None)
        return exact(counts[-1].fact.quantity) + self.moved(status, counts[-1], None)

    def variances(self) -> Iterator[tuple[Said, Fraction]]:
        for status in st.StockStatus:
            last: Said | None = None
            for count in self.counts(status):
                base = exact(last.fact.quantity) if last is not None else NONE
                expected = base + self.moved(status, last, count)
                if not count.fact.opening and exact(count.fact.quantity) != expected:
                    yield count, exact(count.fact.quantity) - expected
                last = count

    @cached_property
    def reservations(self) -> list[tuple[datetime, TwinRef, str, Fraction]]:
        """In the order in which they are granted."""
        return sorted(
            (order.allocations[line_id, location].event.time, order.ref, line_id, still)
            for order in self.orders
            if order.placed is not None
            for (line_id, location), (still, _) in order.reserved.items()
            if still and location == self.location and order.lines[line_id].told.sku == self.sku
        )

    def short(self) -> dict[tuple[TwinRef, str], Fraction]:
        """(order, line) → what it lacks: the goods go to those who were first."""
        left = max(NONE, self.on_hand("sellable"))
        found: dict[tuple[TwinRef, str], Fraction] = {}
        for _, order, line_id, quantity in self.reservations:
            got = min(left, quantity)
            left -= got
            if got < quantity:
                found[order, line_id] = quantity - got
        return found

    def document(self) -> Plain:
        reserved = sum((one[3] for one in self.reservations), NONE)
        safety = self.world.of(self.ref, st.SafetyStockSet)
        kept = exact(safety[-1].fact.quantity) if safety else NONE
        return {
            "on_hand": {status.value: self.on_hand(status) for status in st.StockStatus},
            "reserved": reserved,
            "safety": kept,
            "available": self.on_hand("sellable") - reserved - kept,
            "in_transit": self._sent_here() - self._arrived(),
        }

    def _sent_here(self) -> Fraction:
        sent = NONE
        for ref in self.world.refs(Kind.STOCK):
            if ref.key.rpartition("@")[0] == self.sku:
                legs = Stock(self.world, ref, ())._once(st.TransferredOut, "transfer_id")
                sent += sum(
                    (exact(one.fact.quantity) for one in legs if one.fact.to_location == self.location), NONE
                )
        return sent

    def _arrived(self) -> Fraction:
        return sum((exact(one.fact.quantity) for one in self._once(st.TransferredIn, "transfer_id")), NONE)
