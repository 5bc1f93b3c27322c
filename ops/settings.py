"""Everything that can be configured, from the environment: ``TWINSYNC_*``."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adapters.sql.engine import Tuning, sqlite_url
from adapters.tryton.models import TrytonSettings
from canonical.envelope import BATCH_BYTES_MAX
from canonical.identity import Kind
from twins.core.breaker import Breaker
from twins.core.placement import HOSTS_MAX, Placement
from twins.core.retries import Backoff, RetryBudget
from twins.core.rules import FreightCharge, Policy
from twins.runtime.crew import Crew
from twins.runtime.host import Residency
from twins.runtime.line import Pace


class ErpSettings(BaseModel):
    """One ERP instance: where it answers, and how it may be talked to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connector: Literal["simulated", "tryton", "amqp", "none"]
    url: str | None = None
    rate_per_s: Annotated[float, Field(gt=0)] = 200.0
    burst: Annotated[int, Field(ge=1)] = 50
    concurrency: Annotated[int, Field(ge=1)] = 16
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    """In a row, after which the ERP is left alone for a while."""
    breaker_rest_s: Annotated[float, Field(gt=0)] = 1.0
    retry_first_s: Annotated[float, Field(gt=0)] = 0.5
    retry_most_s: Annotated[float, Field(gt=0)] = 60.0
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Retries, of what is told for the first time; and *retries_per_s* whatever is told."""
    retries_per_s: Annotated[float, Field(gt=0)] = 1.0

    @property
    def pace(self) -> Pace:
        return Pace(
            rate_per_s=self.rate_per_s,
            burst=self.burst,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            breaker=Breaker(failures_max=self.breaker_failures, rest_s=self.breaker_rest_s),
            backoff=Backoff(self.retry_first_s, self.retry_most_s),
            retries=RetryBudget(share=self.retry_share, per_s=self.retries_per_s),
        )


class Settings(BaseSettings):
    """With nothing set: no broker, SQLite in ``.twinsync``, a local Ray, and no ERP."""

    model_config = SettingsConfigDict(
        env_prefix="TWINSYNC_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # keys and secrets are among it
    )

    data_dir: Path = Path(".twinsync")
    database_url: str | None = None
    """``sqlite+aiosqlite:///…`` or ``postgresql+asyncpg://…``."""
    amqp_url: str | None = None
    """None: embedded delivery, where publishing returns after the commit."""
    amqp_prefix: str = "twinsync"
    """First word of the names of exchanges and queues."""
    prefetch: int = 2_000
    """Messages of each queue in an ingest's hands, unacknowledged: an outage keeps no more in memory."""
    batch_size_max: int = 500
    latency_target_ms: Annotated[float, Field(gt=0)] = 100.0
    """How soon what may not wait is to be visible: scans are taken in portions that leave it the time."""
    host_on_one_core: bool = True
    """Keep the threads of each pooled host to one core, by its number: they share one interpreter, and a host
    takes an eighth more so. False on machines where others keep processes to cores as well."""
    ingest_min: Annotated[int, Field(ge=1)] = 1
    """Ingest actors that run at any time; see twins.runtime.crew for when there are more."""
    ingest_max: Annotated[int | None, Field(ge=1)] = None
    """None: two for three hosts, rounded up. A message takes an ingest some 100 µs and its host 160, so more
    would only hold what hosts cannot take yet; and a twinsync of one host, on two cores, has one."""
    ingest_deep: Annotated[int, Field(ge=1)] = 2_000
    """Waiting messages above which an ingest more is started: as many again as one holds of a queue."""
    ingest_grow_after_s: Annotated[float, Field(ge=0)] = 10.0
    ingest_shrink_after_s: Annotated[float, Field(ge=0)] = 120.0
    """How long no more than a tenth of that may wait before the one that came last goes."""

    database_pool_size: int = 4
    """PostgreSQL connections that each process keeps for reading; writing has its own, one or a few."""
    database_pool_overflow: int = 4
    """Further ones while there is much to read."""
    database_pool_wait_s: float = 10.0
    """How long a reader waits for one of them."""
    database_connect_s: float = 5.0
    database_statement_s: float = 30.0
    """PostgreSQL ends a statement that takes longer. Where it says nothing, the client gives up 5 s later."""
    database_lock_s: float = 10.0
    """How long to wait for another's lock; on SQLite, for another process's transaction."""
    database_idle_in_transaction_s: float = 10.0
    """PostgreSQL takes back the locks of a process that froze within a transaction, so that its successor can
    work. On SQLite nobody can: the process must be ended."""
    amqp_connect_s: float = 10.0
    """To connect to the broker and declare everything."""
    amqp_publish_s: float = 10.0
    """For the confirms of one call; a broker that is out of memory or disk gives none until it has room."""
    amqp_heartbeat_s: int = 10
    """A broker that says nothing for about three times as long is lost."""

    pooled_hosts: Annotated[int, Field(ge=1, le=HOSTS_MAX)] = 1
    """How many hosts share the twins. What was said last holds: this, where it has another value than at the
    last start, or ``twinsync hosts --count``."""
    dedicated_kinds: tuple[Kind, ...] = ()
    """Kinds whose every twin is a Ray actor of its own: about 140 MB and a second each."""
    resident_twins_max: int = 100_000
    resident_idle_s: float = 900.0
    sweep_every_s: float = 5.0
    lease_s: Annotated[float, Field(gt=0)] = 5.0
    """How long an actor may be silent, busy or not, before it is replaced by a new incarnation."""

    archive_after_days: Annotated[float, Field(ge=0)] = 90.0
    """How long a closed twin rests before its events are archived; 0: they never are."""

    changes_kept_hours: Annotated[float, Field(gt=0)] = 24.0
    """For how long whoever followed the changes of twins may be away and miss none."""
    announce_changes: bool = True
    """Tell them at the broker, where there is one; else only those are told who follow over HTTP."""

    erp_connector: Literal["simulated", "tryton", "amqp", "none"] = "none"
    erp_url: str | None = None
    """Where the simulated ERP answers."""
    erps: dict[str, ErpSettings] = Field(default_factory=dict)
    """ERP instances by name; one that is not here is as *erp_connector* and *erp_url* say."""
    tryton: dict[str, TrytonSettings] = Field(default_factory=dict)
    """ERP instance → how its Tryton is reached."""
    company_erps: dict[str, str] = Field(default_factory=dict)
    """Company, or a pattern such as ``eu-*`` for a region's, → ERP instance; the others go to ``main``.

    A company that is named goes before patterns, and of those the first that fits.
    """

    backfill_urls: dict[str, str] = Field(default_factory=dict)
    """Prefix of a source, such as ``/wms/`` → where to post which of its numbers are missing."""
    backfill_patience_s: float = 60.0
    """How long a missing number may be on its way before its source is asked for it."""

    reconcile_every_s: float = 0.0
    """How often twins and ledger are compared with the ERPs and the snapshots; 0: only when asked."""
    reconcile_stock: str | None = None
    """File or address of what a WMS holds, fetched each time."""
    reconcile_orders: str | None = None
    reconcile_patience_s: float = 5.0
    """How long between two looks: what was told before the first has come by the second."""
    reconcile_unanswered_s: float = 900.0
    """After how long an answer of the ERP counts as lost."""

    over_ship_tolerance: Decimal = Decimal("0.05")
    carrier_bill_tolerance: Decimal = Decimal("0.10")
    freight_charge: FreightCharge = FreightCharge.PRORATED
    """When freight is charged: ``prorated`` over shipments, or as a whole with the ``final-shipment``."""
    require_master_data: bool = True
    dispatch_deadline_s: float = 86_400.0
    origin_deadline_s: float = 86_400.0

    ahead_max_s: float = 86_400.0
    """How far ahead of our clock an event may be dated; one that is dated later is refused."""

    http_body_bytes_max: int = BATCH_BYTES_MAX

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    http_replicas: Annotated[int, Field(ge=1)] = 1
    http_replicas_max: Annotated[int | None, Field(ge=1)] = None
    """None, or no more than *http_replicas*: so many run, whatever is asked."""
    http_ongoing: Annotated[float, Field(gt=0)] = 5.0
    """Requests at a time that a replica is to have: 500 reads a second, of 10 ms each."""
    http_grow_after_s: Annotated[float, Field(ge=0)] = 10.0
    http_shrink_after_s: Annotated[float, Field(ge=0)] = 300.0
    http_look_back_s: Annotated[float, Field(gt=0)] = 30.0
    """Over which time requests at a time are averaged."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """``name:key`` each; the audit trail shows the name. A key without one is shown by its fingerprint."""
    webhook_secrets: dict[str, SecretStr] = Field(default_factory=dict)
    """``adapter/connection`` → the secret that signs its webhooks."""
    connections: dict[str, dict[str, str]] = Field(default_factory=dict)
    """``adapter/connection`` → its settings; see canonical.translation.Connection."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """``TWINSYNC_API_KEYS=one,two``."""
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("api_keys")
    @classmethod
    def _not_empty(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        """``oms:$KEY`` with no KEY would let in whoever brings none."""
        for told in value:
            key, name = _named(told.get_secret_value())
            if not key.strip():
                raise ValueError(f"the key of {name!r} is empty")
        return value

    @property
    def key_names(self) -> dict[str, str]:
        """Key → the name of whoever holds it."""
        return dict(_named(told.get_secret_value()) for told in self.api_keys)

    @property
    def store_url(self) -> str:
        return self.database_url or sqlite_url(self.data_dir.resolve())

    @property
    def tuning(self) -> Tuning:
        return Tuning(
            pool_size=self.database_pool_size,
            pool_overflow=self.database_pool_overflow,
            pool_wait_s=self.database_pool_wait_s,
            connect_s=self.database_connect_s,
            statement_s=self.database_statement_s,
            lock_s=self.database_lock_s,
            idle_in_transaction_s=self.database_idle_in_transaction_s,
        )

    @property
    def placement(self) -> Placement:
        return Placement(self.pooled_hosts, frozenset(self.dedicated_kinds))

    def crew(self, hosts: int) -> Crew:
        """*hosts*: how many share the twins, which may be others than were set at first."""
        most = -(-2 * hosts // 3) if self.ingest_max is None else self.ingest_max
        return Crew(
            self.ingest_min,
            max(self.ingest_min, most),
            self.ingest_deep,
            self.ingest_grow_after_s,
            self.ingest_shrink_after_s,
        )

    @property
    def policy(self) -> Policy:
        return Policy(
            over_ship_tolerance=self.over_ship_tolerance,
            carrier_bill_tolerance=self.carrier_bill_tolerance,
            freight_charge=self.freight_charge,
            require_master_data=self.require_master_data,
            dispatch_deadline=timedelta(seconds=self.dispatch_deadline_s),
            origin_deadline=timedelta(seconds=self.origin_deadline_s),
        )

    @property
    def residency(self) -> Residency:
        return Residency(self.resident_twins_max, self.resident_idle_s)

    @property
    def erp_names(self) -> tuple[str, ...]:
        """Every instance that something is or may be routed to."""
        routed = () if self.erp_connector == "none" else ("main", *self.company_erps.values())
        return tuple(sorted({*routed, *(name for name, one in self.erps.items() if one.connector != "none")}))

    def erp(self, name: str) -> ErpSettings:
        return self.erps.get(name) or ErpSettings(connector=self.erp_connector, url=self.erp_url)

    def erp_of(self, company: str) -> str:
        named = self.company_erps.get(company)
        if named is not None:
            return named
        fitting = (erp for pattern, erp in self.company_erps.items() if fnmatchcase(company, pattern))
        return next(fitting, "main")


def _named(told: str) -> tuple[str, str]:
    name, separator, key = told.partition(":")
    return (key, name) if separator else (told, f"key {sha256(told.encode()).hexdigest()[:8]}")
