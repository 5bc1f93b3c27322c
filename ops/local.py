"""A whole twinsync on this machine: Ray, actors and HTTP, started and stopped as one.

Imported before Ray, since Ray reads its environment as it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.wiring import Installation

HOME_LENGTH_MAX = 26
"""HAProxy allows a socket's path 97 characters, and Serve puts it 70 below this folder."""


ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
"""Ray takes the machine's outer address even where it is told 127.0.0.1, unless it may form no cluster; and a
replica that ends stays half a minute, for other nodes' proxies to learn of it."""


@contextlib.contextmanager
def ray_home(folder: Path) -> Iterator[Path]:
    """A folder for Ray and Serve, named in the environment: enter it before importing either.

    It is *folder*, or where that would make the paths of sockets too long, one in the system's folder for
    temporary files that is removed afterwards. What the user has set in the environment stays.
    """
    with contextlib.ExitStack() as stack:
        home = folder.resolve()
        if len(str(home)) > HOME_LENGTH_MAX:
            home = Path(tempfile.mkdtemp(prefix="twinsync-"))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        here = {} if "RAY_ADDRESS" in os.environ else ALONE
        for name, value in {**_environment(home), **here}.items():
            if name not in os.environ:
                os.environ[name] = value
                stack.callback(os.environ.pop, name, None)
        yield home


def _environment(home: Path) -> dict[str, str]:
    """Niceness: Ray lets whatever else a machine runs go before its actors, by 15, the broker among it."""
    return {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(home / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(home),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(home / "server-state"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(home / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(home / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def local_ray(home: Path) -> Iterator[None]:
    """A Ray of our own on the loopback, or the one that ``RAY_ADDRESS`` names, which is left running."""
    import ray

    from twins.runtime.cluster import NAMESPACE

    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        options |= {
            "include_dashboard": False,
            "_temp_dir": str(home / "ray"),
            "num_cpus": os.cpu_count(),
        }
    ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


async def start_twins(installation: Installation) -> None:
    """Bring the database up to date and start every actor; returns when all of them answer."""
    from twins.runtime import cluster

    installation.settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = installation.store()
    try:
        await store.migrate()
    finally:
        await store.close()
    await cluster.start(installation)


async def stop_twins(installation: Installation) -> None:
    """End this installation's actors; their twins are in the database."""
    from twins.runtime import cluster

    await cluster.stop(installation)


def start_http(installation: Installation) -> str:
    """Serve the API. Answers its address."""
    from ray import serve

    from serve_app import build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    settings = installation.settings
    serve.start(http_options={"host": settings.http_host, "port": settings.http_port})
    serve.run(build(installation), name="twinsync", route_prefix="/")
    return f"http://{settings.http_host}:{settings.http_port}"


async def quiet(installation: Installation, published: int, *, every_s: float = 0.2) -> dict[str, float]:
    """Wait until everything published is committed and the ERP has answered everything.

    Answers the sum of all hosts' and gateways' counts.
    """
    from twins.runtime import cluster

    store = installation.store()
    try:
        while True:
            totals = total(await cluster.metrics(installation))
            replies = totals["confirmed"] + totals["refused"] + totals["annulled"]
            taken = totals["events"] + totals["duplicates"] + totals["rejected"] - replies
            if taken >= published and not await _pending(installation, store):
                return totals
            await asyncio.sleep(every_s)
    finally:
        await store.close()


async def _pending(installation: Installation, store: Any) -> bool:
    for erp in installation.erps:
        if await store.queued(erp, 1):
            return True
    return bool(await store.mail(1))


def total(metrics: dict[tuple[str, str], dict[str, float]]) -> dict[str, float]:
    """Sum the figures of all actors; the gateways' refusals are told apart from refused messages."""
    counted = ("events", "duplicates", "rejected", "confirmed", "refused", "annulled")
    totals: dict[str, float] = dict.fromkeys(counted, 0)
    for (role, _), figures in metrics.items():
        for name, value in figures.items():
            told = "refused" if role == "gateway" and name == "rejected" else name
            totals[told] = totals.get(told, 0) + value
    return totals
