"""How many hosts share the twins, and which twins have one of their own: changed while events come.

What is to run is started first, then the placement is decided, then what nobody needs any more is ended. Who
dies in between has lost nothing: to ask for the same again does what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import ray
import structlog
from ray.exceptions import RayActorError, RayTaskError

from canonical.errors import TransientFailure
from canonical.identity import TwinRef
from twins.core.placement import Placement, is_dedicated
from twins.ports import Placements
from twins.runtime.cluster import NAMESPACE, Wiring, end_unneeded, figures_of, running_hosts, start_host
from twins.runtime.in_time import in_time
from twins.runtime.moving import node_of

_log = structlog.get_logger()

ANSWER_WITHIN_S = 3.0
START_WITHIN_S = 45.0
LOOK_WITHIN_S = 10.0
"""How long a host may take to hear of a new placement; one that does not finds out by its next commit."""


async def seen(placement: Placement) -> list[dict[str, Any]]:
    """What each pooled host, and each of a pinned twin, says of itself; None where it does not in time.

    One that the placement does not name has nothing to do, and is ended by the next change.
    """
    named = {*placement.pooled_names(), *map(str, placement.pinned)}
    running = set(running_hosts())
    names = sorted(named | {name for name in running if not is_dedicated(name)}, key=_by_number)
    nodes = await in_time({name: node_of(name) for name in names if name in running}, ANSWER_WITHIN_S)
    figures = await in_time({name: figures_of(name) for name in names if name in running}, ANSWER_WITHIN_S)
    return [
        {
            "host": name,
            "named": name in named,
            "node": nodes.get(name),
            "twins": figures.get(name, {}).get("resident_twins"),
            "events": figures.get(name, {}).get("events"),
            "placement": figures.get(name, {}).get("placement"),
        }
        for name in names
    ]


async def resize(wiring: Wiring, placements: Placements, count: int) -> Placement:
    """Let *count* hosts share the twins."""
    names = replace(await placements.placement(), pooled_hosts=count).pooled_names()
    return await _change(wiring, placements, names, lambda now: replace(now, pooled_hosts=count))


async def pin(wiring: Wiring, placements: Placements, ref: TwinRef) -> Placement:
    """Give a twin an actor of its own."""
    return await _change(wiring, placements, [str(ref)], lambda now: replace(now, pinned=now.pinned | {ref}))


async def unpin(wiring: Wiring, placements: Placements, ref: TwinRef) -> Placement:
    """Let a twin live among others again."""
    return await _change(wiring, placements, [], lambda now: replace(now, pinned=now.pinned - {ref}))


async def _change(
    wiring: Wiring,
    placements: Placements,
    names: Collection[str],
    change: Callable[[Placement], Placement],
) -> Placement:
    before = await placements.placement()
    await _start(wiring, names)
    now = before if change(before) == before else await placements.place(change)
    await in_time({name: _look(name) for name in running_hosts()}, LOOK_WITHIN_S)
    await end_unneeded(placements)
    _log.info("placed", version=now.version, pooled_hosts=now.pooled_hosts, pinned=len(now.pinned))
    return now


async def _start(wiring: Wiring, names: Collection[str]) -> None:
    """Returns when they answer, and know where twins live before the change."""
    hosts = [start_host(wiring, name) for name in names]
    try:
        async with asyncio.timeout(START_WITHIN_S):
            await asyncio.gather(*(host.ready.remote() for host in hosts))
            await asyncio.gather(*(host.look.remote() for host in hosts))
    except (RayActorError, RayTaskError, TimeoutError) as error:
        raise TransientFailure(f"{', '.join(names)} cannot be started: {error!r}") from error


async def _look(name: str) -> Placement:
    return await ray.get_actor(name, NAMESPACE).look.remote()  # type: ignore[no-any-return]


def _by_number(name: str) -> tuple[bool, int, str]:
    number = name.removeprefix("host-")
    return is_dedicated(name), int(number) if number.isdecimal() else 0, name
