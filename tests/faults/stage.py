"""What the campaign plays on: two Ray nodes, a quota, an ERP that believes everything, and the servers."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.process import RunningErp
from adapters.simulated_erp.process import start as start_erp
from ops.local import free_port
from ops.settings import ErpSettings, Settings
from ops.wiring import Installation
from tests.services import Server, postgres, rabbitmq

QUOTA_MB = 1_500
LEASE_S = 3.0
KEY = secrets.token_urlsafe(12)
HEALTH = {
    "health_check_initial_delay_ms": 1_000,
    "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 1_000,
    "health_check_failure_threshold": 3,
}
"""As cluster.yaml sets it: a node that is silent for three seconds is dead."""


@dataclass
class Nodes:
    """Two raylets on this machine; the second can be killed, and another be added."""

    cluster: Any
    second: Any

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Nodes]:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": os.cpu_count(), "include_dashboard": False, "_system_config": HEALTH}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        os.environ["RAY_ADDRESS"] = cluster.address
        try:
            yield cls(cluster, _added(cluster))
        finally:
            cluster.shutdown()

    def raylet(self) -> subprocess.Popen[bytes]:
        """The second node's."""
        process: subprocess.Popen[bytes] = self.second.all_processes["raylet"][0].process
        return process

    def raylets(self) -> set[int]:
        nodes = [self.cluster.head_node, self.second]
        return {node.all_processes["raylet"][0].process.pid for node in nodes}

    def replace_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = _added(self.cluster)


def _added(cluster: Any) -> Any:
    node = cluster.add_node(num_cpus=os.cpu_count())
    cluster.wait_for_nodes()
    return node


@dataclass
class Stage:
    nodes: Nodes
    installation: Installation
    erp: SimulatedErpConnector
    quota: Path | None
    broker: Server | None = None
    database: Server | None = None
    said: list[str] = field(default_factory=list)


@contextlib.contextmanager
def stage(nodes: Nodes, folder: Path, *, services: bool) -> Iterator[Stage]:
    """*services*: RabbitMQ and PostgreSQL; otherwise SQLite and embedded delivery."""
    with contextlib.ExitStack() as stack:
        quota, said = stack.enter_context(_quota(folder))
        erp = stack.enter_context(start_erp(naive_idempotency=True))
        home = quota or folder
        broker = stack.enter_context(rabbitmq(folder)) if services else None
        database = stack.enter_context(postgres(home, max_wal_size="128MB")) if services else None
        installation = Installation(
            _settings(home / "data", erp).model_copy(
                update={
                    "amqp_url": broker.url if broker else None,
                    "amqp_prefix": f"faults-{secrets.token_hex(3)}",
                    "database_url": database.url if database else None,
                }
            )
        )
        connector = SimulatedErpConnector(erp.url)
        yield Stage(nodes, installation, connector, quota, broker, database, said)


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[Installation]:
    """The same product where nothing happens to it: SQLite, embedded, an ERP of its own."""
    with start_erp() as erp:
        yield Installation(_settings(folder / "undisturbed", erp))


def _settings(data: Path, erp: RunningErp) -> Settings:
    return Settings(
        data_dir=data,
        erp_connector="simulated",
        erp_url=erp.url,
        erps={"main": ErpSettings(connector="simulated", url=erp.url, rate_per_s=1_000, burst=200)},
        pooled_hosts=2,
        lease_s=LEASE_S,
        sweep_every_s=1.0,
        http_port=free_port(),
        http_replicas=2,
        api_keys=(SecretStr(f"campaign:{KEY}"),),
        log_level="warning",
    )


# --- the quota -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _quota(folder: Path) -> Iterator[tuple[Path | None, list[str]]]:
    """A file system of a fixed size, where this user may mount one."""
    place = folder / "quota"
    place.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={QUOTA_MB}m,mode=755", "twinsync", str(place)]
    mounted = subprocess.run(asked, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        yield None, [f"no quota: {mounted.stderr.strip()}; as root, the disk is filled too"]
        return
    try:
        yield place, []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


@contextlib.contextmanager
def filled(quota: Path) -> Iterator[int]:
    """Not a byte is left; answers how many were taken."""
    filler = quota / "filler"
    chunk = b"\0" * (1 << 20)
    with filler.open("wb", buffering=0) as file:
        while chunk:
            try:
                if file.write(chunk) < len(chunk):
                    chunk = chunk[: len(chunk) // 2]
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                chunk = chunk[: len(chunk) // 2]
        taken = file.tell()
    try:
        yield taken
    finally:
        filler.unlink()


def engine(installation: Installation) -> Any:
    return create_async_engine(installation.settings.store_url)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201
