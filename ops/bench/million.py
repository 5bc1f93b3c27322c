"""A million twins on one machine: filling, starting, and throughput beside that of a thousand."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from pathlib import Path
from random import Random

from adapters.sql.store import SqlStore
from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.facts.order import OrderLine, OrderPlaced, OrderValidated
from canonical.facts.shipment import Package, ShipmentCreated, ShipmentLine, ShipmentPacked
from canonical.facts.stock import StockAdjusted, StockCounted
from canonical.identity import TwinRef, order, shipment, stock
from ops.bench.asking import percentile
from twins.core.rules import Policy
from twins.ports import Publication
from twins.runtime.clock import WallClock
from twins.runtime.host import Aspect, Residency, TwinHost

BATCH = 500
BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
SHELVES_A_THOUSAND, CUSTOMERS_A_THOUSAND = 100, 10
HOT_SHARE = 0.2
PACKED = ShipmentPacked(packages=(Package(package_id="1"),))
ZIPF_S = 1.1
"""Exponent of the access by rank: of a million twins the hundred most asked for get two fifths."""


@dataclass(frozen=True, slots=True)
class Population:
    """Orders and as many shipments, with a shelf for every ten of them."""

    orders: int

    @property
    def shelves(self) -> int:
        return max(1, self.orders * SHELVES_A_THOUSAND // 1_000)

    @property
    def twins(self) -> int:
        """Without the items and customers that orders speak of."""
        return 2 * self.orders + self.shelves

    def events(self) -> Iterator[Event]:
        """One for each twin: shelves first, then each order with its shipment."""
        for number in range(self.shelves):
            fact = StockCounted(count_id="OPENING", quantity=Decimal(1_000), opening=True)
            yield _event(_shelf(number), fact, "opening", 0)
        for number in range(self.orders):
            yield _event(_order(number), self._placed(number), "placed", 1)
            yield _event(_shipment(number), self._created(number), "created", 2)

    def _placed(self, number: int) -> OrderPlaced:
        line = OrderLine(
            line_id="1",
            sku=self._sku(number),
            quantity=Decimal(2),
            unit_price=Decimal("9.90"),
            tax=Decimal(2),
        )
        customer = f"C-{number % max(1, self.orders * CUSTOMERS_A_THOUSAND // 1_000)}"
        return OrderPlaced(customer_id=customer, currency="USD", lines=(line,))

    def _created(self, number: int) -> ShipmentCreated:
        line = ShipmentLine(
            order_id=_order(number).key, line_id="1", sku=self._sku(number), quantity=Decimal(2)
        )
        return ShipmentCreated(location="DC-1", lines=(line,))

    def _sku(self, number: int) -> str:
        return f"SKU-{number % self.shelves}"

    def touched(self, draw: Callable[[], float], hot: float, random: Random) -> Iterator[Event]:
        """Events without end: orders validated and shipments packed anew, adjustments of shelves.

        *draw*: which twin, as a share of all, from 0 to 1. *hot*: share of the events that one shelf gets.
        """
        for number in count():
            if random.random() < hot:
                yield self._adjusted(0, number)
                continue
            kind = random.random()
            if kind < 0.45:
                subject = _order(int(draw() * self.orders))
                yield _event(subject, OrderValidated(), f"validated-{number}", 3 + number)
            elif kind < 0.9:
                subject = _shipment(int(draw() * self.orders))
                yield _event(subject, PACKED, f"packed-{number}", 3 + number)
            else:
                yield self._adjusted(int(draw() * self.shelves), number)

    def _adjusted(self, which: int, number: int) -> Event:
        fact = StockAdjusted(adjustment_id=f"A-{number}", delta=Decimal(1))
        return _event(_shelf(which), fact, f"adjusted-{number}", 3 + number)


def _order(number: int) -> TwinRef:
    return order(f"SO-{number:07}")


def _shipment(number: int) -> TwinRef:
    return shipment(f"SHP-{number:07}")


def _shelf(number: int) -> TwinRef:
    return stock(f"SKU-{number}", "DC-1")


def _event(subject: TwinRef, fact: Fact, name: str, second: int) -> Event:
    return Event("/bench", name, subject, BEGAN + timedelta(seconds=second), fact)


def zipf(random: Random, ranks: int = 1_000_000) -> Callable[[], float]:
    """Draws ranks by a power law, as shares of all ranks, spread over the twins so that neighbours differ."""
    exponent = 1.0 - ZIPF_S
    top = ranks**exponent - 1.0

    def draw() -> float:
        rank = int((random.random() * top + 1.0) ** (1.0 / exponent))
        return (rank * 0.6180339887498949) % 1.0

    return draw


@dataclass(frozen=True, slots=True)
class Touched:
    """What a host did with some thousands of events."""

    rate: float
    batch_p99_ms: float
    activations: float
    """For each event."""


class Residents:
    """One host over one database, as it is after *population* was told to it."""

    def __init__(self, url: str, population: Population, twins_max: int, told: int = 0) -> None:
        """*told*: how many measurements have been told to the database before, at most."""
        self.population = population
        self.store = SqlStore(url)
        self.host = TwinHost(
            "host-0", self.store, WallClock(), Policy(), residency=Residency(twins_max, idle_s=1e9)
        )
        self._told = count(told)

    async def fill(self, say: Callable[[int], None]) -> float:
        """Events a second."""
        await self.store.migrate()
        began, told = time.perf_counter(), 0
        events = self.population.events()
        taking: asyncio.Task[object] | None = None
        while batch := list(islice(events, 2 * BATCH)):
            task = asyncio.create_task(self.host.take_events(batch))
            if taking is not None:
                await taking
            taking, told = task, told + len(batch)
            say(told)
            await asyncio.sleep(0)
        if taking is not None:
            await taking
        return told / (time.perf_counter() - began)

    async def touch(self, draw: Callable[[], float], hot: float, events: int, seed: int) -> Touched:
        """The messages are made before: what is measured begins with reading them."""
        number = next(self._told)
        stream = self.population.touched(draw, hot, Random(seed))
        messages = [Publication(_named(one, number).structured()) for one in islice(stream, events)]
        activated = self.host.counts.activations
        lasted: list[float] = []

        async def take(batch: list[Publication]) -> None:
            began = time.perf_counter()
            await self.host.take(batch)
            lasted.append(time.perf_counter() - began)

        began, taking = time.perf_counter(), list[asyncio.Task[None]]()
        for first in range(0, events, BATCH):
            taking.append(asyncio.create_task(take(messages[first : first + BATCH])))
            if len(taking) > 1:
                await taking.pop(0)
        await asyncio.gather(*taking)
        rate = events / (time.perf_counter() - began)
        activations = (self.host.counts.activations - activated) / events
        return Touched(rate, percentile(lasted, 0.99) * 1e3, activations)

    async def first_answer_s(self) -> float:
        """Seconds until a new host, with nothing in memory, has read a twin and taken an event."""
        began = time.perf_counter()
        store = SqlStore(self.store._url)
        host = TwinHost("host-0", store, WallClock(), Policy())
        await host.read(Aspect.DOCUMENT, [_order(0)])
        await host.take_events(
            [_named(next(self.population.touched(lambda: 0.0, 0.0, Random(1))), next(self._told))]
        )
        lasted = time.perf_counter() - began
        await store.close()
        return lasted

    async def close(self) -> None:
        await self.store.close()


def _named(event: Event, number: int) -> Event:
    """As told by the measurement of that number: no event is known from another, or late after it."""
    later = event.time + timedelta(days=number)
    return Event(event.source, f"{event.id}-{number}", event.subject, later, event.fact)


def resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
