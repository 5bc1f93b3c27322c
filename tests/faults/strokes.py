"""How each trouble is done, and by when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from adapters.simulated_erp.models import FaultSettings
from tests.faults.plan import Stroke, Trouble
from tests.faults.stage import LEASE_S, Stage, filled

NAMESPACE = "twinsync"
AWAY_S = 3.0
"""How long a server is away before it is started again."""
LASTS_S = 6.0
"""How long the ERP is ill, or the disk full."""
FIND_WITHIN_S = 60.0


@dataclass
class Struck:
    stroke: Stroke
    at: datetime
    on: str
    """What it struck: an actor, a process, or what it put in its place."""
    over: datetime | None = None


async def strike(stroke: Stroke, stage: Stage) -> Struck:
    """Returns when the trouble is over, which is before the system has recovered."""
    struck = await _STROKES[stroke.trouble](stroke, stage)
    struck.over = datetime.now(UTC)
    return struck


def _now(stroke: Stroke, on: str) -> Struck:
    return Struck(stroke, datetime.now(UTC), on)


# --- actors ----------------------------------------------------------------------------------------------


async def _pid(name: str) -> int:
    """Of the actor's process; one that is being started is waited for."""
    import ray
    from ray.exceptions import RayActorError

    async with asyncio.timeout(FIND_WITHIN_S):
        while True:
            with contextlib.suppress(RayActorError, ValueError, TimeoutError):
                found = ray.get_actor(name, NAMESPACE).alive.remote()
                return int(await asyncio.wait_for(found, 2.0))
            await asyncio.sleep(0.1)


def _a_host(stroke: Stroke, stage: Stage) -> str:
    return Random(stroke.after).choice(stage.installation.placement.pooled_names())


async def _kill(stroke: Stroke, name: str) -> Struck:
    pid = await _pid(name)
    os.kill(pid, signal.SIGKILL)
    return _now(stroke, f"{name}, process {pid}")


async def kill_host(stroke: Stroke, stage: Stage) -> Struck:
    return await _kill(stroke, _a_host(stroke, stage))


async def kill_ingest(stroke: Stroke, stage: Stage) -> Struck:
    """One of those that run; while all are being started, the first."""
    import ray

    from twins.runtime.ingests import ingest_name, ingest_names

    known = ray.util.list_named_actors(all_namespaces=True)
    names = ingest_names([one["name"] for one in known if one["namespace"] == NAMESPACE])
    return await _kill(stroke, Random(stroke.after).choice(names or [ingest_name(0)]))


async def kill_gateway(stroke: Stroke, stage: Stage) -> Struck:
    return await _kill(stroke, "gateway-main")


async def freeze_host(stroke: Stroke, stage: Stage) -> Struck:
    """It goes on as a zombie, or finds that it was killed meanwhile."""
    name = _a_host(stroke, stage)
    pid = await _pid(name)
    os.kill(pid, signal.SIGSTOP)
    struck = _now(stroke, f"{name}, process {pid}")
    await asyncio.sleep(LEASE_S + 2.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    return struck


async def kill_replica(stroke: Stroke, stage: Stage) -> Struck:
    async with asyncio.timeout(FIND_WITHIN_S):
        while not (pids := _workers(stage, "ray::ServeReplica")):
            await asyncio.sleep(0.2)
    pid = Random(stroke.after).choice(sorted(pids))
    os.kill(pid, signal.SIGKILL)
    return _now(stroke, f"one of {len(pids)} replicas, process {pid}")


async def kill_node(stroke: Stroke, stage: Stage) -> Struck:
    """The node's workers die with it, once they notice; another node joins later."""
    raylet = stage.nodes.raylet()
    lost = [name.removeprefix("ray::").split(".")[0] for name in _children(raylet.pid).values()]
    raylet.kill()
    struck = _now(stroke, f"with {_counted(lost)}")
    await asyncio.to_thread(raylet.wait)
    await asyncio.sleep(AWAY_S)
    stage.nodes.replace_second()  # Ray sets signal handlers, which only the main thread may
    return struck


def _counted(names: list[str]) -> str:
    actors = sorted({name for name in names if name.endswith("Actor") or name.startswith("Serve")})
    return ", ".join(f"{names.count(name)} {name}" for name in actors) or "nothing on it"


def _workers(stage: Stage, title: str) -> set[int]:
    """Processes of our own raylets whose title begins so."""
    return {
        pid
        for raylet in stage.nodes.raylets()
        for pid, name in _children(raylet).items()
        if name.startswith(title)
    }


def _children(parent: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            its_parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if its_parent == parent:
                title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(process.name)] = title.strip()
    return found


# --- servers ---------------------------------------------------------------------------------------------


async def restart_broker(stroke: Stroke, stage: Stage) -> Struck:
    return await _restart(stroke, stage.broker, "RabbitMQ")


async def restart_database(stroke: Stroke, stage: Stage) -> Struck:
    return await _restart(stroke, stage.database, "PostgreSQL")


async def _restart(stroke: Stroke, server: Any, name: str) -> Struck:
    await asyncio.to_thread(server.kill)
    struck = _now(stroke, f"{name}, away for {AWAY_S:.0f} s and its start")
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(server.start)
    return struck


async def fill_disk(stroke: Stroke, stage: Stage) -> Struck:
    assert stage.quota is not None
    with filled(stage.quota) as taken:
        struck = _now(stroke, f"{taken / 1e6:.0f} MB taken, none left for {LASTS_S:.0f} s")
        await asyncio.sleep(LASTS_S)
    if stage.database is not None and not stage.database.runs():
        struck.on += "; PostgreSQL gave up and was started again"
        await asyncio.to_thread(stage.database.start)
    return struck


# --- the ERP ---------------------------------------------------------------------------------------------


def _ill(**faults: Any) -> Callable[[Stroke, Stage], Awaitable[Struck]]:
    async def strike_erp(stroke: Stroke, stage: Stage) -> Struck:
        await stage.erp.misbehave(FaultSettings(seed=stroke.after, **faults))
        struck = _now(stroke, f"for {LASTS_S:.0f} s")
        await asyncio.sleep(LASTS_S)
        await stage.erp.misbehave(FaultSettings())
        return struck

    return strike_erp


_STROKES: dict[Trouble, Callable[[Stroke, Stage], Awaitable[Struck]]] = {
    Trouble.KILL_HOST: kill_host,
    Trouble.FREEZE_HOST: freeze_host,
    Trouble.KILL_INGEST: kill_ingest,
    Trouble.KILL_GATEWAY: kill_gateway,
    Trouble.KILL_REPLICA: kill_replica,
    Trouble.KILL_NODE: kill_node,
    Trouble.RESTART_BROKER: restart_broker,
    Trouble.RESTART_DATABASE: restart_database,
    Trouble.DISK_FULL: fill_disk,
    Trouble.ERP_SLOW: _ill(latency_s=1.0),
    Trouble.ERP_FAILS: _ill(fail_rate=0.7),
    Trouble.ERP_SILENT: _ill(timeout_after_posting_rate=0.5, forget_reply_rate=0.2, hang_s=6.0),
}


def possible(stage: Stage) -> list[Trouble]:
    """What can strike this installation."""
    impossible = {
        Trouble.RESTART_BROKER: stage.broker is None,
        Trouble.RESTART_DATABASE: stage.database is None,
        Trouble.DISK_FULL: stage.quota is None,
    }
    return [trouble for trouble in Trouble if not impossible.get(trouble, False)]
