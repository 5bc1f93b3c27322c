"""From one ERP instance to another: in shadow, compared, promoted or abandoned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from adapters.http.audit import asked_by
from adapters.http.problems import Problem
from canonical.types import Text
from twins.ports import Audit, Copy, Cutover, Cutovers

PAGE_DEFAULT, PAGE_MAX = 50, 500
Report = Callable[[Cutover, int, bool], Awaitable[Any]]
"""Cutover, how many of each kind to list, whether to compare books too → twins.runtime.cutover.report."""


class Shadowing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    of: Text
    reason: Text


class Because(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


def cutover_routes(erps: Sequence[str], cutovers: Cutovers, audit: Audit, report: Report) -> APIRouter:
    """*erps*: the instances that are configured."""
    router = APIRouter(tags=["erps"])

    async def noted(request: Request, erp: str, action: str, **detail: Any) -> Response:
        await audit.note(asked_by(request), action, f"erp/{erp}", detail)
        return _json({"erp": erp, **detail})

    @router.post("/v1/erps/{erp}:shadow")
    async def shadow(erp: str, wanted: Shadowing, request: Request) -> Response:
        """From now on tell it what the other is told; nothing depends on what it answers."""
        for name in (erp, wanted.of):
            if name not in erps:
                raise Problem(404, "No such ERP", f"{name!r} is not one of {', '.join(erps) or 'none'}")
        await cutovers.shadow(erp, wanted.of)
        return await noted(request, erp, "shadow", of=wanted.of, reason=wanted.reason)

    @router.post("/v1/erps/{erp}:promote")
    async def promote(erp: str, because: Because, request: Request) -> Response:
        """From this moment on, what would go to the instance beside which it was goes to it."""
        done = await cutovers.promote(erp)
        return await noted(request, erp, "promote", **asdict(done), reason=because.reason)

    @router.post("/v1/erps/{erp}:abandon")
    async def abandon(erp: str, because: Because, request: Request) -> Response:
        """End its time in shadow; it is told to reverse its copies."""
        taken_back = await cutovers.abandon(erp)
        return await noted(request, erp, "abandon", taken_back=taken_back, reason=because.reason)

    @router.get("/v1/erps/{erp}/report")
    async def differences(
        erp: str,
        books: Annotated[bool, Query(description="compare the booked amounts too; reads both ERPs")] = False,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """What the shadow said unlike the live instance; after a promotion, the copies left to be cleared."""
        known = {one.erp: one for one in await cutovers.cutovers()}
        if erp not in known:
            raise Problem(404, "Never in shadow", f"{erp} has been in shadow of no instance")
        told = await report(known[erp], limit, books)
        return _json(
            {
                **asdict(told.cutover),
                "alike": told.alike,
                "waiting": told.waiting,
                "different": told.different,
                "differences": [_copy(one) for one in told.differences],
                "to_clear": [_copy(one) for one in told.to_clear],
                "amounts_compared": told.amounts_compared,
                "booked_apart": [asdict(one) for one in told.booked_apart],
            }
        )

    return router


def _copy(one: Copy) -> dict[str, Any]:
    return {
        "key": one.key,
        "version": one.version,
        "erp": one.erp,
        "difference": one.difference,
        "live": asdict(one.live),
        "shadow": asdict(one.shadow),
    }


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
