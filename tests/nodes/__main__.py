"""A day over RabbitMQ while a node is added, hosts move to it, and it is lost: four hosts, one machine.

    python -m tests.services run -- python -m tests.nodes
    python -m tests.nodes --namespaces

The second way has each node in a network namespace of its own, and loses the second by cutting the link
between them: its hosts go on there and reach the database, but their epochs have passed. It starts its own
RabbitMQ.

Exit status 0 where every host was where it should be, nothing was lost, and all is as the pure core says; 2
where this machine permits no namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.local import ray_home
from tests.live.installations import broker, publish, running, settings
from tests.nodes.namespaces import FATE, NEAR_ADDRESS, FarNode, Namespaces, namespaces
from tests.services import Unavailable, rabbitmq

HOSTS, ORDERS, AT_ONCE = 4, 120, 10
out = Console(width=150)


@dataclass(frozen=True)
class Stage:
    """One node that stays, and a second that comes and goes."""

    head: Any
    """As Cluster takes it for its first node."""
    amqp_url: str
    add: Callable[[Any], Any]
    """Answers the second node, which may not have joined yet."""
    lose: Callable[[Any], None]
    lost: str
    remove: Callable[[Any, Any], None]
    """Leave nothing of it."""


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--namespaces", action="store_true")
    arguments.add_argument("--within", nargs=3, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if asked.namespaces:
        return _in_namespaces()
    logging.getLogger("ray").setLevel(logging.ERROR)
    Path(".build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir=".build")).resolve()
    try:
        with _apart(Namespaces(*asked.within), folder) if asked.within else _beside() as stage:
            _on_ray(stage, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _in_namespaces() -> int:
    """Play it in the near namespace, in a process of its own: one that has started cannot enter."""
    try:
        with namespaces() as made:
            myself = [sys.executable, "-m", "tests.nodes", "--within", made.near, made.far, made.link]
            return subprocess.run(
                made.within(made.near, myself), env=os.environ | FATE, check=False
            ).returncode
    except Unavailable as unavailable:
        out.print(f"nodes: NOT TESTED in namespaces of their own. {unavailable}")
        return 2


@contextlib.contextmanager
def _beside() -> Iterator[Stage]:
    """Nodes on the loopback; the second one's raylet is killed."""
    yield Stage(
        head={},
        amqp_url=broker(),
        add=lambda cluster: cluster.add_node(num_cpus=2),
        lose=lambda node: node.all_processes["raylet"][0].process.kill(),
        lost="that node is killed",
        remove=lambda cluster, node: cluster.remove_node(node, allow_graceful=False),
    )


@contextlib.contextmanager
def _apart(there: Namespaces, folder: Path) -> Iterator[Stage]:
    """Within the near namespace; the second node is in the far one, and the link between them is cut."""

    def remove(_: Any, node: FarNode) -> None:
        there.mend()
        node.remove()

    (folder / "broker").mkdir()
    log = folder / "far.log"
    with rabbitmq(folder / "broker", NEAR_ADDRESS) as server:
        try:
            yield Stage(
                head={"node_ip_address": NEAR_ADDRESS},
                amqp_url=server.url,
                add=lambda cluster: FarNode(there, cluster.address, log),
                lose=lambda _: there.cut(),
                lost="the link to it is cut",
                remove=remove,
            )
        except BaseException:
            if log.exists():
                out.print("The far node said:", log.read_text(errors="replace")[-2_000:], markup=False)
            raise


def _on_ray(stage: Stage, folder: Path) -> None:
    with ray_home(folder / "ray"):
        import ray
        from ray.cluster_utils import Cluster

        from tests.faults.stage import HEALTH

        head = {"num_cpus": 2, "include_dashboard": False, "_system_config": HEALTH, **stage.head}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            options = {"namespace": "twinsync", "log_to_driver": False, "logging_level": "ERROR"}
            here = {"_" + name: value for name, value in stage.head.items()}
            ray.init(cluster.address, **options, **here)
            asyncio.run(_play(cluster, stage, folder))
        finally:
            ray.shutdown()
            cluster.shutdown()


async def _play(cluster: Any, stage: Stage, folder: Path) -> None:
    from tests.live.installations import assert_equal

    day = make_day(5, ORDERS)
    events = told(day, disorder(day, 5, duplicated=0.1, late=0.2))
    chosen = settings(
        folder,
        pooled_hosts=HOSTS,
        amqp_url=stage.amqp_url,
        amqp_prefix=f"nodes-{secrets.token_hex(3)}",
        amqp_heartbeat_s=2,
        lease_s=3.0,
    )
    table = Table("", "seconds", "hosts by node", "events taken by then", box=None, header_style="dim")
    async with running(chosen) as installation:
        started = time.perf_counter()
        moved = asyncio.Event()
        telling = asyncio.create_task(_tell(installation, events, moved))

        async def note(what: str, began: float, *spread: int) -> None:
            await _until_spread(installation, spread)
            lasted = time.perf_counter() - began
            taken = await _taken(installation)
            table.add_row(what, f"{lasted:.1f}", ", ".join(map(str, spread)), f"{taken:,}")

        await note("four hosts on one node", started, HOSTS)
        began = time.perf_counter()
        second = stage.add(cluster)
        await _until_nodes(2)
        moves = await _rebalanced(installation)
        await note(f"a node is added; {len(moves)} hosts moved to it", began, 2, 2)
        assert await _rebalanced(installation) == []
        assert not telling.done(), "the day must go on while hosts move"
        before = _epochs(installation)
        began = time.perf_counter()
        stage.lose(second)
        await _until_nodes(1)
        await note(f"{stage.lost}; its hosts are back", began, HOSTS)
        lost = {move.host for move in moves}
        await _until_claimed(installation, {host: epoch for host, epoch in before.items() if host in lost})
        assert not telling.done(), "the day must go on while a node is lost"
        stage.remove(cluster, second)
        began = time.perf_counter()
        second = stage.add(cluster)
        await _until_nodes(2)
        await _rebalanced(installation)
        await note("another node is added", began, 2, 2)
        assert not telling.done(), "the day must go on while hosts move again"
        moved.set()
        await telling
        await note("the whole day is published", started, 2, 2)
        distinct = {event.event_id: event for event in reversed(events)}.values()
        await _until_taken(installation, len({event.event_id for event in events}))
        await assert_equal(installation, list(distinct)[::-1])
        await note("all is as the pure core says", started, 2, 2)
    stage.remove(cluster, second)
    out.print(table)


async def _tell(installation: Any, events: list[Any], moved: asyncio.Event) -> None:
    """A few at a time until all moves are made, then the rest of the day at once."""
    left = list(events)
    while left and not moved.is_set():
        await publish(installation, left[:AT_ONCE])
        del left[:AT_ONCE]
        await asyncio.sleep(0.3)
    await publish(installation, left)


async def _rebalanced(installation: Any) -> list[Any]:
    """As the command line asks for it: one move after the other, while any are left."""
    from twins.runtime.moving import level

    moves, left = await level(installation)
    while left:
        more, left = await level(installation)
        moves += more
    return moves


async def _until_nodes(many: int) -> None:
    """Until so many are alive."""
    import ray

    async with asyncio.timeout(60):
        while sum(bool(node["Alive"]) for node in ray.nodes()) != many:
            await asyncio.sleep(0.1)


def _epochs(installation: Any) -> dict[str, int]:
    """Host → the newest epoch that was claimed under its name."""
    file = installation.settings.data_dir / "twinsync.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT host, epoch FROM hosts"))


async def _until_claimed(installation: Any, before: dict[str, int]) -> None:
    """Until each of these hosts has a later epoch than this: what its predecessor does counts no more."""
    async with asyncio.timeout(60):
        while any(_epochs(installation)[host] <= epoch for host, epoch in before.items()):
            await asyncio.sleep(0.2)


async def _until_spread(installation: Any, spread: tuple[int, ...]) -> None:
    """Until every host answers, from as many nodes, so many on each. A dead node's may answer a while."""
    from ray.exceptions import RayError

    from twins.runtime.moving import node_of

    names, on = installation.placement.pooled_names(), Counter[str]()
    async with asyncio.timeout(60):
        while sorted(on.values()) != sorted(spread):
            await asyncio.sleep(0.1)
            with contextlib.suppress(RayError, ValueError):
                on = Counter(await asyncio.gather(*map(node_of, names)))


async def _taken(installation: Any) -> int:
    store = installation.store()
    try:
        return sum((await store.arrivals()).values())
    finally:
        await store.close()


async def _until_taken(installation: Any, many: int) -> None:
    async with asyncio.timeout(120):
        while (taken := await _taken(installation)) < many:
            await asyncio.sleep(0.2)
    assert taken == many, f"{taken} stored, {many} told"


if __name__ == "__main__":
    sys.exit(main())
