"""The way to each ERP instance, as people see and hold it: pauses, what waits, what was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from adapters.http.audit import asked_by
from adapters.http.cutover import Report, cutover_routes
from adapters.http.problems import Problem
from canonical.envelope import Event
from canonical.facts.erp import PostingResent
from canonical.types import Identifier, Text
from twins.core.breaker import Circuit
from twins.core.dispatch import QueuedCommand, priority
from twins.ports import (
    Audit,
    Backlog,
    Cutovers,
    ErpControl,
    Pause,
    Publication,
    Publisher,
    Rejection,
    RejectionFilter,
)

Figures = Mapping[str, Mapping[str, float]]
CIRCUITS = tuple(Circuit)
OPERATIONS = "/operations"
"""Source of what people decide here."""
PAGE_DEFAULT, PAGE_MAX = 50, 500

VERSION_DIGITS_MAX = 9
"""Of a posting: PostgreSQL takes 2,147,483,647."""


@dataclass(frozen=True, slots=True)
class ErpDesk:
    """What these routes stand on."""

    erps: Sequence[str]
    control: ErpControl
    audit: Audit
    publisher: Publisher
    figures: Callable[[], Awaitable[Figures]]
    """Of the gateways that run, by ERP: see twins.runtime.gateway.Gateway.figures."""
    cutovers: Cutovers
    report: Report


class Word(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Text


class Resend(BaseModel):
    """Which refusals are to be told again: those that fit all that is given."""

    model_config = ConfigDict(extra="forbid")

    request: Annotated[Identifier, Field(description="the same request twice is one")] = ""
    key: str | None = None
    version: int | None = None
    erp: str | None = None
    command: str | None = None
    reason: Annotated[str | None, Field(description="part of the ERP's reason")] = None
    all: bool = False

    @property
    def filter(self) -> RejectionFilter:
        return RejectionFilter(self.erp, self.command, self.reason, self.key, self.version)


def erp_routes(desk: ErpDesk) -> APIRouter:
    router = APIRouter(tags=["erps"])
    router.include_router(_instances(desk))
    router.include_router(_rejections(desk))
    router.include_router(cutover_routes(desk.erps, desk.cutovers, desk.audit, desk.report))
    return router


# --- instances -------------------------------------------------------------------------------------------


def _instances(desk: ErpDesk) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/erps")
    async def erps() -> Response:
        """Each instance: whether it is paused, its circuit, what waits for it and since when."""
        figures, pauses = await desk.figures(), await desk.control.pauses()
        backlogs = await desk.control.backlogs()
        names = sorted({*desk.erps, *pauses, *backlogs})
        return _json(
            {"erps": [_erp(name, pauses.get(name), backlogs.get(name), figures.get(name)) for name in names]}
        )

    @router.get("/v1/erps/{erp}/commands")
    async def commands(erp: str, limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT) -> Response:
        """Commands that it has not answered, the oldest first, with what went wrong last."""
        return _json({"commands": [_command(one) for one in await desk.control.oldest(erp, limit)]})

    @router.post("/v1/erps/{erp}:pause")
    async def pause(erp: str, word: Word, request: Request) -> Response:
        """Tell it nothing more, from half a second on, until it is resumed. What is on its way ends."""
        _known(desk, erp)
        await desk.control.pause(Pause(erp, datetime.now(UTC), asked_by(request), word.reason))
        await desk.audit.note(asked_by(request), "pause", f"erp/{erp}", {"reason": word.reason})
        return _json({"erp": erp, "paused": True})

    @router.post("/v1/erps/{erp}:resume")
    async def resume(erp: str, word: Word, request: Request) -> Response:
        if not await desk.control.resume(erp):
            raise Problem(409, "Not paused", f"ERP {erp} is not paused")
        await desk.audit.note(asked_by(request), "resume", f"erp/{erp}", {"reason": word.reason})
        return _json({"erp": erp, "paused": False})

    return router


def _known(desk: ErpDesk, erp: str) -> None:
    if erp not in desk.erps:
        raise Problem(404, "No such ERP", f"{erp!r} is not one of {', '.join(desk.erps) or 'none'}")


def _erp(
    name: str, pause: Pause | None, backlog: Backlog | None, figures: Mapping[str, float] | None
) -> dict[str, Any]:
    backlog = backlog or Backlog()
    return {
        "erp": name,
        "paused": None if pause is None else {"since": pause.since, "by": pause.by, "reason": pause.reason},
        "running": figures is not None,
        "circuit": None if figures is None else CIRCUITS[int(figures["circuit"])],
        "queued": backlog.queued,
        "sent": backlog.sent,
        "troubled": backlog.troubled,
        "oldest_queued_at": backlog.oldest,
        "figures": figures or {},
    }


def _command(one: QueuedCommand) -> dict[str, Any]:
    command = one.command
    return {
        "key": command.key,
        "version": command.version,
        "action": command.action.value,
        "twin": str(one.owner),
        "priority": priority(command.posting).name.lower(),
        "queued_at": one.queued_at,
        "sent": one.sent,
        "attempts": one.attempts,
        "trouble": one.trouble,
    }


# --- what was refused ------------------------------------------------------------------------------------


def _rejections(desk: ErpDesk) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/rejections")
    async def rejections(
        erp: str | None = None,
        command: str | None = None,
        reason: Annotated[str | None, Query(description="part of the ERP's reason")] = None,
        key: str | None = None,
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Postings and reversals that an ERP refused, and that nothing has settled since."""
        wanted = RejectionFilter(erp, command, reason, key, None, _place(cursor))
        found = await desk.control.rejections(wanted, limit + 1)
        more = found[limit - 1] if len(found) > limit else None
        return _json(
            {
                "rejections": [_rejection(one) for one in found[:limit]],
                "next_cursor": None if more is None else f"{more.key}@{more.version}",
            }
        )

    @router.post("/v1/rejections:resend")
    async def resend(wanted: Resend, request: Request) -> Response:
        """Have them told again, up to 500 at once: a post as its next version, a reversal as it is."""
        if wanted.filter == RejectionFilter() and not wanted.all:
            raise Problem(422, "Message refused", 'say which: a key, an erp, … or "all": true')
        by, found = asked_by(request), await desk.control.rejections(wanted.filter, PAGE_MAX + 1)
        told = found[:PAGE_MAX]
        await desk.publisher.publish([Publication(_resent(one, wanted, by).structured()) for one in told])
        for one in told:
            await desk.audit.note(by, "resend", f"{one.key}@{one.version}", {"reason": one.reason})
        names = [f"{one.key}@{one.version}" for one in told]
        return _json({"resent": names, "more": len(found) > PAGE_MAX})

    return router


def _place(cursor: str | None) -> tuple[str, int] | None:
    if cursor is None:
        return None
    key, _, version = cursor.rpartition("@")
    if not key or not version.isdecimal() or len(version) > VERSION_DIGITS_MAX:
        raise Problem(422, "Message refused", f"{cursor!r} is no cursor", field="cursor")
    return key, int(version)


def _rejection(one: Rejection) -> dict[str, Any]:
    return {
        "key": one.key,
        "version": one.version,
        "action": one.action.value,
        "reason": one.reason,
        "since": one.since,
        "twin": str(one.owner),
        "erp": one.erp,
        "content": one.posting,
    }


def _resent(one: Rejection, wanted: Resend, by: str) -> Event:
    request = wanted.request or uuid4().hex
    fact = PostingResent(
        posting_key=one.key,
        version=one.version,
        action=one.action.value,
        again=one.again,
        request=request,
        by=by,
    )
    name = f"{one.key}@{one.version}/{one.action.value}/{one.again}/{request}"
    return Event(OPERATIONS, name, one.owner, datetime.now(UTC), fact)


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
