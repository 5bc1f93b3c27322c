"""What one event costs, on twins that are new and on twins that have a long life behind them.

In the core alone, one event a batch: nothing is shared between events. Figures are ratios to the same on a
fresh twin, medians of interleaved rounds; times are context.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.progress import track
from rich.table import Table

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.erp import PostingConfirmed
from canonical.facts.order import OrderAllocated, OrderLine, OrderPlaced, PaymentCaptured
from canonical.facts.reference import CustomerUpserted, ItemUpserted
from canonical.facts.stock import StockAdjusted, StockCounted, StockReceived
from canonical.identity import Kind, TwinRef, customer, item, order, shipment, stock
from canonical.postings import Action
from twins.core.batch import Batch
from twins.core.contributions import Contribution, Interest, Issue, Moved, Reservations, ReservedLine
from twins.core.rules import Policy
from twins.core.twin import Stored, Twin

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
STEP = timedelta(seconds=10)
ROUNDS, EVENTS = 7, 40
LATE_BY = 1_000
IN_ORDER_MAX, LATE_MAX = 1.5, 30.0
SHELF = stock("SKU", "DC")


class Bench:
    """Twins of one process, and a source that tells them facts ten seconds apart."""

    def __init__(self, mine: Callable[[TwinRef], bool] = lambda ref: True) -> None:
        self.twins: dict[TwinRef, Twin] = {}
        self.mine = mine
        self.told = 0
        self.times: list[datetime] = []
        """When the events happened, in the order of telling."""

    def event(self, ref: TwinRef, fact: Fact, *, late_by: int = 0) -> Event:
        """*late_by*: how many events it comes after that it should have come before."""
        self.told += 1
        at = self.times[-late_by] if late_by else START + STEP * self.told
        self.times.append(at)
        return Event("/bench", f"{ref}/{self.told}", ref, at, fact)

    def take(self, events: list[Event], words: list[Contribution] | None = None) -> float:
        """Seconds that a batch takes; the ERP's answers to it come after the clock has stopped."""
        started = perf_counter()
        batch = Batch(self.twins, self.mine)
        batch.deliver(events, words or ())
        while True:
            for ref in batch.missing():
                self.twins[ref] = Twin.restore(ref, Policy(), Stored())
            if not batch.step():
                break
        effects = batch.finish()
        taken = perf_counter() - started
        replies = [
            Event(
                "/erp/main",
                f"{command.idempotency_key}/ok",
                owner,
                START,
                PostingConfirmed(
                    posting_key=command.key,
                    version=command.version,
                    action=command.action.value,
                    document=command.idempotency_key,
                ),
            )
            for owner, command in effects.commands
            if command.action is Action.POST
        ]
        if replies:
            self.take(replies)
        return taken


@dataclass(frozen=True)
class Case:
    name: str
    fresh: Callable[[], Bench]
    old: Callable[[], Bench]
    happens: Callable[[Bench, int], tuple[list[Event], list[Contribution]]]
    """What happens the nth time."""
    limit: float = IN_ORDER_MAX
    fresh_happens: Callable[[Bench, int], tuple[list[Event], list[Contribution]]] | None = None
    """What is measured on the fresh twin, where it is not the same."""


# --- stock -----------------------------------------------------------------------------------------------


def _shelf() -> Bench:
    bench = Bench(lambda ref: ref in (SHELF, item("SKU")))
    bench.take(
        [bench.event(item("SKU"), ItemUpserted(revision=1, title="x", unit_cost="2.00", currency="USD"))]
    )
    bench.take([bench.event(SHELF, StockReceived(receipt_id="R", quantity=10_000_000))])
    return bench


def _busy_shelf(movements: int = 100_000, reservations: int = 10_000, counts: int = 500) -> Bench:
    bench = _shelf()
    own = movements // 2
    for start in range(0, own, 1_000):
        bench.take([_adjusted(bench, number) for number in range(start, start + 1_000)])
        bench.take([], [_issued(bench, number) for number in range(start, start + 1_000)])
        if start % (own // counts * 10) == 0:
            bench.take([_counted(bench)])
    bench.take([], [_reserved(bench, number) for number in range(reservations)])
    return bench


def _adjusted(bench: Bench, number: int, late_by: int = 0) -> Event:
    fact = StockAdjusted(adjustment_id=f"A{bench.told}/{number}", delta=1)
    return bench.event(SHELF, fact, late_by=late_by)


def _counted(bench: Bench, late_by: int = 0) -> Event:
    return bench.event(SHELF, StockCounted(count_id=f"C{bench.told}", quantity=9_000_000), late_by=late_by)


def _in_order(bench: Bench, number: int) -> tuple[list[Event], list[Contribution]]:
    return [_adjusted(bench, number)], []


def _late(bench: Bench, number: int) -> tuple[list[Event], list[Contribution]]:
    return [_adjusted(bench, number, LATE_BY)], []


def _late_count(bench: Bench, number: int) -> tuple[list[Event], list[Contribution]]:
    return [_counted(bench, LATE_BY)], []


def _issued(bench: Bench, number: int) -> Contribution:
    bench.told += 1
    move = Moved("issue", "sellable", Decimal(-1), START + STEP * bench.told)
    return Contribution(shipment(f"S{bench.told}"), SHELF, 1, Issue((move,)))


def _reserved(bench: Bench, number: int) -> Contribution:
    bench.told += 1
    line = ReservedLine("1", Decimal(2), START + STEP * bench.told)
    return Contribution(order(f"SO-{bench.told}"), SHELF, 1, Reservations((line,), ()))


def _oversold_shelf() -> Bench:
    bench = _shelf()
    bench.take([], [_reserved(bench, number) for number in range(10_000)])
    bench.take([bench.event(SHELF, StockCounted(count_id="C-0", quantity=0))])
    return bench


def _fresh_oversold_shelf() -> Bench:
    bench = _shelf()
    bench.take([], [_reserved(bench, 0)])
    bench.take([bench.event(SHELF, StockCounted(count_id="C-0", quantity=0))])
    return bench


# --- order -----------------------------------------------------------------------------------------------

ORDER = order("SO-1")
LINES = 500


def _order(lines: int) -> Bench:
    bench = Bench(lambda ref: ref.kind in (Kind.ORDER, Kind.ITEM, Kind.CUSTOMER))
    bench.take([bench.event(customer("C"), CustomerUpserted(revision=1, name="Ann"))])
    for number in range(lines):
        fact = ItemUpserted(revision=1, title="x", unit_cost="2.00", currency="USD")
        bench.take([bench.event(item(f"SKU-{number}"), fact)])
    ordered = tuple(
        OrderLine(line_id=str(number), sku=f"SKU-{number}", quantity=1_000, unit_price="9.99", tax="0.82")
        for number in range(lines)
    )
    placed = OrderPlaced(customer_id="C", currency="USD", lines=ordered, freight="7.50")
    bench.take([bench.event(ORDER, placed)])
    return bench


def _busy_order(lines: int = LINES) -> Bench:
    """All of it allocated and paid for."""
    bench = _order(lines)
    for number in range(lines):
        bench.take([bench.event(ORDER, OrderAllocated(line_id=str(number), location="DC", quantity=900))])
    for number in range(200):
        bench.take(
            [bench.event(ORDER, PaymentCaptured(payment_id=f"P{number}", amount="1.00", currency="USD"))]
        )
    return bench


def _allocated(bench: Bench, number: int) -> tuple[list[Event], list[Contribution]]:
    return [bench.event(ORDER, OrderAllocated(line_id="0", location="DC", quantity=1 + number))], []


# --- customer --------------------------------------------------------------------------------------------

BUYER = customer("C")


def _buyer(orders: int) -> Bench:
    bench = Bench(lambda ref: ref == BUYER)
    bench.take([bench.event(BUYER, CustomerUpserted(revision=1, name="Ann"))])
    for start in range(0, orders, 1_000):
        bench.take([], [_asked(bench) for _ in range(start, min(orders, start + 1_000))])
    return bench


def _asked(bench: Bench) -> Contribution:
    bench.told += 1
    return Contribution(order(f"SO-{bench.told}"), BUYER, 1, Interest())


def _upserted(bench: Bench, number: int) -> tuple[list[Event], list[Contribution]]:
    return [bench.event(BUYER, CustomerUpserted(revision=2 + bench.told, name="Ann"))], []


CASES = (
    Case("stock: adjusted", _shelf, _busy_shelf, lambda b, n: ([_adjusted(b, n)], [])),
    Case("stock: counted", _shelf, _busy_shelf, lambda b, n: ([_counted(b)], [])),
    Case("stock: goods issued", _shelf, _busy_shelf, lambda b, n: ([], [_issued(b, n)])),
    Case("stock: reserved", _shelf, _busy_shelf, lambda b, n: ([], [_reserved(b, n)])),
    Case(
        "stock: reserved, 10,000 without goods",
        _fresh_oversold_shelf,
        _oversold_shelf,
        lambda b, n: ([], [_reserved(b, n)]),
    ),
    Case("stock: adjusted, late by 1,000", _shelf, _busy_shelf, _late, LATE_MAX, _in_order),
    Case("the same, 100,000 movements to 10,000", lambda: _busy_shelf(10_000, 1_000, 50), _busy_shelf, _late),
    Case(
        "stock: counted, late by 1,000",
        _shelf,
        _busy_shelf,
        lambda b, n: ([_counted(b, LATE_BY)], []),
        LATE_MAX,
        lambda b, n: ([_counted(b)], []),
    ),
    Case("order of 500 lines: allocated", lambda: _order(LINES), _busy_order, _allocated),
    Case("order: allocated, 500 lines to 1", lambda: _order(1), _busy_order, _allocated),
    Case(
        "customer of 50,000: an order more",
        lambda: _buyer(0),
        lambda: _buyer(50_000),
        lambda b, n: ([], [_asked(b)]),
    ),
    Case("customer of 50,000: told anew", lambda: _buyer(0), lambda: _buyer(50_000), _upserted),
)


def _cost(bench: Bench, happens: Callable[[Bench, int], tuple[list[Event], list[Contribution]]]) -> float:
    """Median seconds of one event."""
    return median(bench.take(*happens(bench, number)) for number in range(EVENTS))


def _rounds(case: Case, old: Bench) -> Iterator[tuple[float, float]]:
    for _ in range(ROUNDS):
        yield _cost(case.fresh(), case.fresh_happens or case.happens), _cost(old, case.happens)


def main() -> int:
    console = Console(width=110)
    wanted = [case for case in CASES if all(word in case.name for word in sys.argv[1:])]
    table = Table("what happens", "fresh µs", "old µs", "ratio", "at most", title="cost of one event")
    missed = 0
    for case in track(wanted, description="measuring", console=Console(stderr=True), transient=True):
        old = case.old()
        gc.collect()
        gc.disable()
        pairs = list(_rounds(case, old))
        gc.enable()
        ratio = median(after / before for before, after in pairs)
        missed += ratio > case.limit
        fresh_us, old_us = (f"{median(side) * 1e6:,.0f}" for side in zip(*pairs, strict=True))
        style = "red" if ratio > case.limit else "green"
        table.add_row(case.name, fresh_us, old_us, f"[{style}]{ratio:.2f}[/]", f"{case.limit:g}")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
