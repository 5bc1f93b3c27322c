"""Everything that can be configured, from the environment: ``TWINSYNC_*``."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adapters.sql.engine import sqlite_url
from adapters.tryton.models import TrytonSettings
from canonical.identity import Kind
from twins.core.rules import Policy
from twins.runtime.host import Residency
from twins.runtime.placement import Placement


class Settings(BaseSettings):
    """With nothing set: no broker, SQLite in ``.twinsync``, a local Ray, and no ERP."""

    model_config = SettingsConfigDict(env_prefix="TWINSYNC_", frozen=True, extra="ignore")

    data_dir: Path = Path(".twinsync")
    database_url: str | None = None
    """``sqlite+aiosqlite:///…`` or ``postgresql+asyncpg://…``."""
    amqp_url: str | None = None
    """None: embedded delivery, where publishing returns after the commit."""
    amqp_prefix: str = "twinsync"
    """First word of the names of exchanges and queues."""
    prefetch: int = 2_000
    batch_size_max: int = 500

    pooled_hosts: Annotated[int, Field(ge=1, le=256)] = 1
    dedicated_kinds: tuple[Kind, ...] = ()
    """Kinds whose every twin is a Ray actor of its own: about 52 MB and a second each."""
    resident_twins_max: int = 100_000
    resident_idle_s: float = 900.0
    sweep_every_s: float = 5.0

    erp_connector: Literal["simulated", "tryton", "amqp", "none"] = "none"
    erp_url: str | None = None
    """Where the simulated ERP answers."""
    tryton: dict[str, TrytonSettings] = Field(default_factory=dict)
    """ERP instance → how its Tryton is reached."""
    company_erps: dict[str, str] = Field(default_factory=dict)
    """Company → ERP instance; those not named go to ``main``."""

    backfill_urls: dict[str, str] = Field(default_factory=dict)
    """Prefix of a source, such as ``/wms/`` → where to post which of its numbers are missing."""
    backfill_patience_s: float = 60.0
    """How long a missing number may be on its way before its source is asked for it."""

    over_ship_tolerance: Decimal = Decimal("0.05")
    carrier_bill_tolerance: Decimal = Decimal("0.10")
    require_master_data: bool = True
    dispatch_deadline_s: float = 86_400.0
    origin_deadline_s: float = 86_400.0

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    http_replicas: int = 1
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
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

    @property
    def store_url(self) -> str:
        return self.database_url or sqlite_url(self.data_dir.resolve())

    @property
    def placement(self) -> Placement:
        return Placement(self.pooled_hosts, frozenset(self.dedicated_kinds))

    @property
    def policy(self) -> Policy:
        return Policy(
            over_ship_tolerance=self.over_ship_tolerance,
            carrier_bill_tolerance=self.carrier_bill_tolerance,
            require_master_data=self.require_master_data,
            dispatch_deadline=timedelta(seconds=self.dispatch_deadline_s),
            origin_deadline=timedelta(seconds=self.origin_deadline_s),
        )

    @property
    def residency(self) -> Residency:
        return Residency(self.resident_twins_max, self.resident_idle_s)

    @property
    def erps(self) -> tuple[str, ...]:
        if self.erp_connector == "none":
            return ()
        return tuple(sorted({"main", *self.company_erps.values()}))

    def erp_of(self, company: str) -> str:
        return self.company_erps.get(company, "main")
