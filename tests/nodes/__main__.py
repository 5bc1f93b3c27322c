"""A day over RabbitMQ while a node is added, hosts move to it, and it is killed: four hosts, one machine.

    python -m tests.services run -- python -m tests.nodes

Exit status 0 where every host was where it should be, nothing was lost, and all is as the pure core says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.local import ray_home
from tests.live.installations import broker, publish, running, settings

HOSTS, ORDERS, AT_ONCE = 4, 120, 10
out = Console(width=150)


def main() -> int:
    logging.getLogger("ray").setLevel(logging.ERROR)
    Path(".build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir=".build")).resolve()
    try:
        with ray_home(folder / "ray"):
            import ray
            from ray.cluster_utils import Cluster

            from tests.faults.stage import HEALTH

            head = {"num_cpus": 2, "include_dashboard": False, "_system_config": HEALTH}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                ray.init(cluster.address, namespace="twinsync", log_to_driver=False, logging_level="ERROR")
                asyncio.run(_play(cluster, folder))
            finally:
                ray.shutdown()
                cluster.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _play(cluster: Any, folder: Path) -> None:
    from tests.live.installations import assert_equal
    from twins.runtime.moving import rebalance

    day = make_day(5, ORDERS)
    events = told(day, disorder(day, 5, duplicated=0.1, late=0.2))
    chosen = settings(
        folder,
        pooled_hosts=HOSTS,
        amqp_url=broker(),
        amqp_prefix=f"nodes-{secrets.token_hex(3)}",
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
        second = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        moves = await rebalance(installation)
        await note(f"a node is added; {len(moves)} hosts moved to it", began, 2, 2)
        assert await rebalance(installation) == []
        assert not telling.done(), "the day must go on while hosts move"
        began = time.perf_counter()
        second.all_processes["raylet"][0].process.kill()
        await note("that node is killed; its hosts are back", began, HOSTS)
        assert not telling.done(), "the day must go on while a node dies"
        cluster.remove_node(second, allow_graceful=False)
        began = time.perf_counter()
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        await rebalance(installation)
        await note("another node is added", began, 2, 2)
        assert not telling.done(), "the day must go on while hosts move again"
        moved.set()
        await telling
        await note("the whole day is published", started, 2, 2)
        distinct = {event.event_id: event for event in reversed(events)}.values()
        await _until_taken(installation, len({event.event_id for event in events}))
        await assert_equal(installation, list(distinct)[::-1])
        await note("all is as the pure core says", started, 2, 2)
    out.print(table)


async def _tell(installation: Any, events: list[Any], moved: asyncio.Event) -> None:
    """A few at a time until all moves are made, then the rest of the day at once."""
    for start in range(0, len(events), AT_ONCE):
        await publish(installation, events[start : start + AT_ONCE])
        await asyncio.sleep(0 if moved.is_set() else 0.3)


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
