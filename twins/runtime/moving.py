"""Hosts on other nodes while events come: each ends what it has in hand, and its successor goes on there."""

from __future__ import annotations

import asyncio

import ray
import structlog
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from canonical.errors import TransientFailure
from twins.runtime.cluster import NAMESPACE, RayCalls, Wiring, start_host
from twins.runtime.in_time import in_time
from twins.runtime.levelling import Move, levelled

_log = structlog.get_logger()

ANSWER_WITHIN_S = 10.0
GONE_EVERY_S = 0.01
ATTEMPTS = 3


async def rebalance(wiring: Wiring, at_most: int | None = None) -> tuple[list[Move], int]:
    """Spread the pooled hosts evenly over the nodes that take actors, one after the other, *at_most* so many.

    Answers the moves that were made, and how many are left. A host that does not answer is left alone: it is
    being started. Raises: TransientFailure.
    """
    placement = await RayCalls(wiring).placement()
    asked = {name: node_of(name) for name in placement.pooled_names()}
    where = await in_time(asked, ANSWER_WITHIN_S)
    moves = levelled(where, _nodes())
    now = moves[:at_most]
    for one in now:
        await move(wiring, one)
    return now, len(moves) - len(now)


async def move(wiring: Wiring, one: Move) -> None:
    """Returns when the host answers on its new node; whoever calls it meanwhile waits a little, and again.

    Who is cancelled meanwhile leaves it to be finished: half way there is no such host. Ray may know a node
    that has just come and still start an actor elsewhere: then it is moved again. Raises: TransientFailure.
    """
    moving = asyncio.create_task(_move(wiring, one))
    _moving.add(moving)
    moving.add_done_callback(_moving.discard)
    try:
        await asyncio.shield(moving)
    except (ValueError, RayActorError) as error:
        raise TransientFailure(f"{one.host} is being moved or started by others: {error}") from error


_moving: set[asyncio.Task[None]] = set()


async def _move(wiring: Wiring, one: Move) -> None:
    for _ in range(ATTEMPTS):
        actor = ray.get_actor(one.host, NAMESPACE)
        await actor.drain.remote()
        ray.kill(actor)
        while _is_known(one.host):  # noqa: ASYNC110 - Ray says so to nobody
            await asyncio.sleep(GONE_EVERY_S)
        place = NodeAffinitySchedulingStrategy(one.target, soft=True)
        await start_host(wiring, one.host, place).ready.remote()
        found = await node_of(one.host)
        _log.info("host_moved", host=one.host, origin=one.origin, target=one.target, found=found)
        if found == one.target:
            return


async def node_of(name: str) -> str:
    return str(await ray.get_actor(name, NAMESPACE).node.remote())


def _nodes() -> list[str]:
    """Ids of those alive; a head that offers no CPU is to have no hosts, where others have any."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    working = [node for node in alive if node["Resources"].get("CPU")]
    return [str(node["NodeID"]) for node in working or alive]


def _is_known(name: str) -> bool:
    try:
        ray.get_actor(name, NAMESPACE)
    except ValueError:
        return False
    return True
