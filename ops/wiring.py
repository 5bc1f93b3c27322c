"""How an installation is put together from its settings. The composition root of every process.

What only a broker needs is imported only with a broker: a process starts faster without.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import timedelta

from adapters.embedded.delivery import EmbeddedPublisher
from adapters.http.backfill import HttpBackfill
from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.sql.store import SqlStore
from adapters.tryton.connector import TrytonConnector
from canonical.translation import Connection
from ops.logs import set_up_logs
from ops.settings import Settings
from twins.core.rules import Policy
from twins.ports import Backfill, Consumer, DeadLetters, ErpConnector, Intake, Publisher
from twins.runtime.host import Residency
from twins.runtime.placement import Placement

GC_THRESHOLD = 200_000
"""Allocations between collections of the youngest objects; Python's 700 suits short scripts."""


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
    def erps(self) -> tuple[str, ...]:
        return self.settings.erps

    @property
    def sweep_every(self) -> timedelta:
        return timedelta(seconds=self.settings.sweep_every_s)

    def store(self) -> SqlStore:
        return SqlStore(self.settings.store_url, erp_of=self.settings.erp_of, host_of=self.placement.host_of)

    def connector(self, erp: str) -> ErpConnector:
        settings = self.settings
        if settings.erp_connector == "amqp":
            if settings.amqp_url is None:
                raise ValueError("TWINSYNC_ERP_CONNECTOR=amqp needs TWINSYNC_AMQP_URL")
            from adapters.amqp.connector import AmqpErpConnector

            return AmqpErpConnector(settings.amqp_url, erp, prefix=settings.amqp_prefix)
        if settings.erp_connector == "tryton":
            if erp not in settings.tryton:
                raise ValueError(f"TWINSYNC_ERP_CONNECTOR=tryton needs {erp!r} in TWINSYNC_TRYTON")
            return TrytonConnector(settings.tryton[erp])
        if settings.erp_url is None:
            raise ValueError("TWINSYNC_ERP_CONNECTOR=simulated needs TWINSYNC_ERP_URL")
        return SimulatedErpConnector(settings.erp_url)

    def publisher(self, intake: Intake, dead_letters: DeadLetters) -> Publisher:
        settings = self.settings
        if settings.amqp_url is None:
            return EmbeddedPublisher(intake, dead_letters)
        from adapters.amqp.publisher import AmqpPublisher

        return AmqpPublisher(settings.amqp_url, prefix=settings.amqp_prefix)

    def backfill(self) -> Backfill | None:
        """HTTP for the sources that have an address; RabbitMQ, where there is one, otherwise."""
        settings = self.settings
        if settings.backfill_urls:
            return HttpBackfill(settings.backfill_urls)
        if settings.amqp_url is None:
            return None
        from adapters.amqp.backfill import AmqpBackfill

        return AmqpBackfill(settings.amqp_url, prefix=settings.amqp_prefix)

    @property
    def backfill_patience(self) -> timedelta:
        return timedelta(seconds=self.settings.backfill_patience_s)

    def consumer(self, intake: Intake) -> Consumer | None:
        settings = self.settings
        if settings.amqp_url is None:
            return None
        from adapters.amqp.consumer import AmqpConsumer

        return AmqpConsumer(
            settings.amqp_url,
            intake,
            prefix=settings.amqp_prefix,
            prefetch=settings.prefetch,
            batch_size_max=settings.batch_size_max,
        )

    def set_up_process(self) -> None:
        """Twins live long and hold no cycles: collecting garbage often only walks over them."""
        set_up_logs(self.settings.log_level)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 1_000)

    def connection(self, adapter: str, name: str) -> Connection:
        return Connection(adapter, name, self.settings.connections.get(f"{adapter}/{name}", {}))
