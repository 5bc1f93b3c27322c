"""Twins over HTTP beside the emptiest reply that Ray Serve has, through the same HAProxy in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve

from ops.bench.asking import Asked, ask_for
from serve_app import REPLICA

CONNECTIONS = 32
TURNS, TURN_S = 3, 2.0
EMPTY = "/empty"


def serve_empty(replicas: int) -> None:
    """One more application, with as many replicas, that answers nothing."""

    class Empty:
        async def __call__(self, _request: Any) -> bytes:
            return b""

    empty = serve.deployment(
        Empty,
        name="empty",
        num_replicas=replicas,
        **REPLICA,
    )
    serve.run(empty.bind(), name="empty", route_prefix=EMPTY)


@dataclass(frozen=True, slots=True)
class Read:
    twins: Asked
    empty: Asked


async def read_in_turns(address: tuple[str, int], paths: Sequence[str]) -> Read:
    """The medians of some turns of each."""
    await ask_for(address, paths, CONNECTIONS, TURN_S)  # connections and twins are warm
    twins, empty = [], []
    for _ in range(TURNS):
        empty.append(await ask_for(address, [EMPTY], CONNECTIONS, TURN_S))
        twins.append(await ask_for(address, paths, CONNECTIONS, TURN_S))
    return Read(_middle(twins), _middle(empty))


def _middle(asked: list[Asked]) -> Asked:
    return sorted(asked, key=lambda one: one.rate)[len(asked) // 2]
