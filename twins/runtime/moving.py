"""Hosts on other nodes while events come: each ends what it has in hand, and its successor goes on there."""

from __future__ import annotations

import asyncio
from typing import Any

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


async def level(wiring: Wiring) -> tuple[list[Move], int]:
    """Move one pooled host to a node that has fewer; answers what was moved, and how many are left.

    A host that does not answer is left alone: it is being started. Raises: TransientFailure.
    """
    placement = await RayCalls(wiring).placement()
    asked = {name: node_of(name) for name in placement.pooled_names()}
    moves = levelled(await in_time(asked, ANSWER_WITHIN_S), _nodes())
    for one in moves[:1]:
        await move(wiring, one)
    return moves[:1], len(moves[1:])


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
        while _is_known(one.host, actor):  # noqa: ASYNC110 - Ray says so to nobody
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


def _is_known(name: str, actor: Any) -> bool:
    """By that name; it may have a successor already, by whom else ever."""
    try:
        return bool(ray.get_actor(name, NAMESPACE) == actor)
    except ValueError:
        return False
