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
from adapters.sql.shadows import SqlShadow
from adapters.sql.store import SqlStore
from canonical.translation import Connection
from ops.logs import set_up_logs
from ops.settings import Settings
from twins.core.rules import Policy
from twins.ports import Backfill, Consumer, DeadLetters, ErpBooks, ErpConnector, Intake, Publisher
from twins.runtime.host import Residency
from twins.runtime.line import Pace
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
        return self.settings.erp_names

    @property
    def sweep_every(self) -> timedelta:
        return timedelta(seconds=self.settings.sweep_every_s)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.settings.lease_s)

    def store(self) -> SqlStore:
        return SqlStore(self.settings.store_url, erp_of=self.settings.erp_of, host_of=self.placement.host_of)

    def shadow(self, erp: str) -> SqlShadow:
        return SqlShadow(self.settings.store_url, erp)

    def books(self, erp: str) -> ErpBooks | None:
        """None: the connector of the instance does not show them."""
        return None

    def pace(self, erp: str) -> Pace:
        return self.settings.erp(erp).pace

    def connector(self, erp: str) -> ErpConnector:
        """Raises: ValueError naming the setting that is missing."""
        one = self.settings.erp(erp)
        if one.connector == "amqp":
            if self.settings.amqp_url is None:
                raise ValueError(f"the connector of ERP {erp} is amqp, which needs TWINSYNC_AMQP_URL")
            from adapters.amqp.connector import AmqpErpConnector

            return AmqpErpConnector(self.settings.amqp_url, erp, prefix=self.settings.amqp_prefix)
        if one.url is None:
            raise ValueError(f"ERP {erp} has no address: set TWINSYNC_ERP_URL, or its url in TWINSYNC_ERPS")
        return SimulatedErpConnector(one.url, timeout_s=one.timeout_s, connections_max=one.concurrency)

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
