"""How an installation is put together from its settings. The composition root of every process.

What only a broker needs is imported only with a broker: a process starts faster without.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from adapters.embedded.delivery import EmbeddedPublisher
from adapters.http.backfill import HttpBackfill
from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.reading import SimulatedErpBooks
from adapters.sql.changes import ChangeRows
from adapters.sql.letters import LetterRows
from adapters.sql.shadows import SqlShadow
from adapters.sql.store import SqlStore
from adapters.tryton.books import TrytonBooks
from adapters.tryton.connector import TrytonConnector
from adapters.tryton.models import TrytonSettings
from canonical.identity import TwinRef
from canonical.translation import Connection
from ops.logs import set_up_logs
from ops.settings import Settings
from ops.snapshots import fetch, read_snapshot
from twins.core.placement import Placement
from twins.core.reconcile.snapshot import Snapshot
from twins.core.rules import Policy
from twins.ports import (
    Backfill,
    Consumer,
    DeadLetters,
    ErpBooks,
    ErpConnector,
    ErpCorrections,
    Intake,
    Publisher,
    Queues,
)
from twins.runtime.announcer import Announcer
from twins.runtime.clock import WallClock
from twins.runtime.crew import Crew
from twins.runtime.host import Aspect, Residency
from twins.runtime.ingest import Directory
from twins.runtime.inquiry import Inquiry
from twins.runtime.line import Pace
from twins.runtime.reconcile.correct import Corrector
from twins.runtime.reconcile.run import Reconciliation
from twins.runtime.reconcile.schedule import Schedule

if TYPE_CHECKING:
    from adapters.amqp.link import Patience

SMALL_CACHE_KB = 2_048

GC_THRESHOLDS = 2_000, 50_000, 1_000
"""Allocations between collections of the youngest objects (a millisecond each; after 50,000 they would be 30
and cost more, as what is looked at is in no cache by then), and of these between those of the older, and
oldest: they take seconds and find nothing. Where many twins are in memory each object looked at is a cache
miss: with 10,000 and 10 it was a fifth of a batch."""
SWITCH_S = 0.0005
"""How long a thread may keep others waiting for the interpreter; Python's 5 ms is a quarter of a batch."""


def collect_seldom() -> None:
    """Twins live long and hold no cycles: collecting garbage often only walks over them.

    Commits have a thread of their own, which waits for the interpreter while a batch is folded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_S)


@dataclass(frozen=True)
class Installation:
    """Implements twins.runtime.cluster.Wiring; travels to actors, which open connections of their own."""

    settings: Settings

    @property
    def placement(self) -> Placement:
        return self.settings.placement

    @property
    def policy(self) -> Policy:
        return self.settings.policy

    @property
    def residency(self) -> Residency:
        return self.settings.residency

    @property
    def ahead_max(self) -> timedelta:
        return timedelta(seconds=self.settings.ahead_max_s)

    @property
    def erps(self) -> tuple[str, ...]:
        return self.settings.erp_names

    @property
    def sweep_every(self) -> timedelta:
        return timedelta(seconds=self.settings.sweep_every_s)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.settings.lease_s)

    @property
    def archive_after(self) -> timedelta | None:
        days = self.settings.archive_after_days
        return timedelta(days=days) if days else None

    @property
    def latency_target(self) -> timedelta:
        return timedelta(milliseconds=self.settings.latency_target_ms)

    def store(self) -> SqlStore:
        return SqlStore(
            self.settings.store_url,
            tuning=self.settings.tuning,
            erp_of=self.settings.erp_of,
        )

    def shadow(self, erp: str) -> SqlShadow:
        return SqlShadow(self.settings.store_url, erp)

    def pace(self, erp: str) -> Pace:
        return self.settings.erp(erp).pace

    def dead_letters(self) -> DeadLetters:
        """For whoever only adds to them: what it has written it need not remember."""
        return LetterRows(self.settings.store_url, replace(self.settings.tuning, cache_kb=SMALL_CACHE_KB))

    def connector(self, erp: str) -> ErpConnector:
        """Raises: ValueError naming the setting that is missing."""
        one = self.settings.erp(erp)
        if one.connector == "amqp":
            if self.settings.amqp_url is None:
                raise ValueError(f"the connector of ERP {erp} is amqp, which needs TWINSYNC_AMQP_URL")
            from adapters.amqp.connector import AmqpErpConnector

            return AmqpErpConnector(
                self.settings.amqp_url, erp, prefix=self.settings.amqp_prefix, patience=self._patience()
            )
        if one.connector == "tryton":
            return TrytonConnector(self._tryton(erp))
        return self._simulated(erp)

    def _tryton(self, erp: str) -> TrytonSettings:
        if erp not in self.settings.tryton:
            raise ValueError(f"the connector of ERP {erp} is tryton, which needs {erp!r} in TWINSYNC_TRYTON")
        return self.settings.tryton[erp]

    def _simulated(self, erp: str) -> SimulatedErpConnector:
        one = self.settings.erp(erp)
        if one.url is None:
            raise ValueError(f"ERP {erp} has no address: set TWINSYNC_ERP_URL, or its url in TWINSYNC_ERPS")
        return SimulatedErpConnector(one.url, timeout_s=one.timeout_s, connections_max=one.concurrency)

    def books(self, erp: str) -> ErpBooks | None:
        """What an ERP says it holds; None where its connector cannot ask."""
        one = self.settings.erp(erp)
        if one.connector == "tryton":
            return TrytonBooks(self._tryton(erp))
        return SimulatedErpBooks(one.url) if one.connector == "simulated" and one.url else None

    def corrections(self, erp: str) -> ErpCorrections | None:
        """The way to reverse a document in an ERP; None where that is done by hand."""
        return self._simulated(erp) if self.settings.erp(erp).connector == "simulated" else None

    def reconciliation(self, store: SqlStore, directory: Directory) -> Reconciliation:
        async def read(refs: Sequence[TwinRef]) -> list[Mapping[str, Any] | None]:
            found = await directory.read(Aspect.DOCUMENT, refs)
            return [None if one is None else from_json(one[1]) for one in found]

        return Reconciliation(
            store,
            store,
            read,
            Inquiry(store, store, self.policy),
            self.books,
            WallClock(),
            asyncio.sleep,
            timedelta(seconds=self.settings.reconcile_patience_s),
            self.reconcile_unanswered,
        )

    def corrector(self, store: SqlStore, publisher: Publisher) -> Corrector:
        return Corrector(
            store,
            store,
            publisher,
            store,
            self.books,
            self.corrections,
            self.backfill(),
            WallClock(),
            self.reconcile_unanswered,
        )

    @property
    def reconcile_unanswered(self) -> timedelta:
        return timedelta(seconds=self.settings.reconcile_unanswered_s)

    def schedule(self, directory: Directory) -> Schedule | None:
        """None where they are compared only when somebody asks."""
        settings = self.settings
        if not settings.reconcile_every_s:
            return None
        store = self.store()
        return Schedule(
            self.reconciliation(store, directory),
            store,
            lambda: asyncio.to_thread(self._snapshot),
            self.erps,
            WallClock(),
            timedelta(seconds=settings.reconcile_every_s),
        )

    def _snapshot(self) -> Snapshot:
        stock, orders = self.settings.reconcile_stock, self.settings.reconcile_orders
        return read_snapshot(fetch(stock) if stock else None, fetch(orders) if orders else None)

    def publisher(self, intake: Intake, dead_letters: DeadLetters) -> Publisher:
        settings = self.settings
        if settings.amqp_url is None:
            return EmbeddedPublisher(intake, dead_letters)
        from adapters.amqp.publisher import AmqpPublisher

        return AmqpPublisher(settings.amqp_url, prefix=settings.amqp_prefix, patience=self._patience())

    @property
    def changes_kept(self) -> timedelta:
        return timedelta(hours=self.settings.changes_kept_hours)

    @property
    def announces(self) -> bool:
        return self.settings.announce_changes and self.settings.amqp_url is not None

    def announcer(self) -> Announcer | None:
        settings = self.settings
        if settings.amqp_url is None or not self.announces:
            return None
        from adapters.amqp.changes import AmqpAnnouncements

        told = AmqpAnnouncements(settings.amqp_url, prefix=settings.amqp_prefix, patience=self._patience())
        one_reader = replace(settings.tuning, cache_kb=SMALL_CACHE_KB, pool_size=1, pool_overflow=0)
        return Announcer(ChangeRows(settings.store_url, one_reader), told, WallClock())

    def backfill(self) -> Backfill | None:
        """HTTP for the sources that have an address; RabbitMQ, where there is one, otherwise."""
        settings = self.settings
        if settings.backfill_urls:
            return HttpBackfill(settings.backfill_urls)
        if settings.amqp_url is None:
            return None
        from adapters.amqp.backfill import AmqpBackfill

        return AmqpBackfill(settings.amqp_url, prefix=settings.amqp_prefix, patience=self._patience())

    @property
    def backfill_patience(self) -> timedelta:
        return timedelta(seconds=self.settings.backfill_patience_s)

    def consumer(self, intake: Intake, dead_letters: DeadLetters) -> Consumer | None:
        settings = self.settings
        if settings.amqp_url is None:
            return None
        from adapters.amqp.consumer import AmqpConsumer

        return AmqpConsumer(
            settings.amqp_url,
            intake,
            dead_letters,
            prefix=settings.amqp_prefix,
            prefetch=settings.prefetch,
            batch_size_max=settings.batch_size_max,
            patience=self._patience(),
        )

    def crew(self, hosts: int) -> Crew:
        return self.settings.crew(hosts)

    def queues(self) -> Queues | None:
        if self.settings.amqp_url is None:
            return None
        from adapters.amqp.queues import AmqpQueues

        return AmqpQueues(self.settings.amqp_url, prefix=self.settings.amqp_prefix)

    def _patience(self) -> Patience:
        from adapters.amqp.link import Patience

        settings = self.settings
        return Patience(settings.amqp_connect_s, settings.amqp_publish_s, settings.amqp_heartbeat_s)

    @property
    def host_on_one_core(self) -> bool:
        return self.settings.host_on_one_core

    def set_up_process(self) -> None:
        """Logs, and how the interpreter divides its time."""
        set_up_logs(self.settings.log_level)
        collect_seldom()

    def connection(self, adapter: str, name: str) -> Connection:
        return Connection(adapter, name, self.settings.connections.get(f"{adapter}/{name}", {}))
