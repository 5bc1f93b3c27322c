"""Where twins live: seen over HTTP, and changed by hand while events come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from adapters.http.audit import asked_by
from adapters.http.problems import Problem
from canonical.identity import TwinRef, twin_ref
from canonical.types import Text
from twins.core.placement import HOSTS_MAX, Placement
from twins.ports import Audit

PINNED_MAX = 64
"""An actor is a process of 140 MB."""


@dataclass(frozen=True, slots=True)
class HostDesk:
    """What these routes stand on. A change returns once no other host can commit what has moved."""

    placement: Callable[[], Awaitable[Placement]]
    seen: Callable[[Placement], Awaitable[Sequence[Mapping[str, Any]]]]
    """See twins.runtime.placing.seen."""
    resize: Callable[[int], Awaitable[Placement]]
    pin: Callable[[TwinRef], Awaitable[Placement]]
    unpin: Callable[[TwinRef], Awaitable[Placement]]
    level: Callable[[], Awaitable[tuple[Sequence[Mapping[str, str]], int]]]
    """Move a host to a node that has fewer; the moves (host, origin, target), and how many are left."""
    audit: Audit


class Resize(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, le=HOSTS_MAX)]
    reason: Text


class Rebalance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


class Pin(BaseModel):
    model_config = ConfigDict(extra="forbid")

    twin: Text
    reason: Text


def routes(desk: HostDesk) -> APIRouter:
    router = APIRouter(tags=["hosts"])

    @router.get("/v1/hosts")
    async def hosts() -> Response:
        """Each host: its node, how many twins it has in memory, how many events it took since it started."""
        placement = await desk.placement()
        return _json(_placement(placement) | {"hosts": await desk.seen(placement)})

    @router.post("/v1/hosts:resize")
    async def resize(asked: Resize, request: Request) -> Response:
        """Let so many hosts share the twins. Events go on coming; what has moved answers a second later."""
        placement = await desk.resize(asked.count)
        await desk.audit.note(asked_by(request), "resize", "hosts", asked.model_dump())
        return _json(_placement(placement))

    @router.post("/v1/hosts:rebalance")
    async def rebalance(asked: Rebalance, request: Request) -> Response:
        """Move one host to a node that has fewer; ask again while any are *left*. Events go on coming."""
        moves, left = await desk.level()
        for move in moves:
            await desk.audit.note(asked_by(request), "rebalance", "hosts", {**move, **asked.model_dump()})
        return _json({"moves": moves, "left": left})

    @router.post("/v1/hosts:pin")
    async def pin(asked: Pin, request: Request) -> Response:
        """Give a hot twin an actor of its own."""
        ref = twin_ref(asked.twin)
        pinned = (await desk.placement()).pinned
        if ref not in pinned and len(pinned) >= PINNED_MAX:
            raise Problem(409, "Too many", f"{len(pinned)} twins are pinned, which is the most")
        placement = await desk.pin(ref)
        await desk.audit.note(asked_by(request), "pin", str(ref), {"reason": asked.reason})
        return _json(_placement(placement))

    @router.post("/v1/hosts:unpin")
    async def unpin(asked: Pin, request: Request) -> Response:
        """Let it live among others again."""
        ref = twin_ref(asked.twin)
        placement = await desk.unpin(ref)
        await desk.audit.note(asked_by(request), "unpin", str(ref), {"reason": asked.reason})
        return _json(_placement(placement))

    return router


def _placement(placement: Placement) -> dict[str, Any]:
    return {
        "version": placement.version,
        "pooled_hosts": placement.pooled_hosts,
        "dedicated": sorted(placement.dedicated),
        "pinned": sorted(map(str, placement.pinned)),
    }


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
