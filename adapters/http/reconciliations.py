"""Reconciliations over HTTP: asked for, read while they run, and applied by id."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Protocol

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from adapters.http.audit import asked_by
from adapters.http.problems import Problem
from canonical.errors import RejectedMessage, TransientFailure
from twins.core.reconcile.report import Report
from twins.core.reconcile.snapshot import Snapshot
from twins.ports import Clock, Reports

_log = structlog.get_logger()
REPORTS_MAX = 100
JSON = "application/json"


class Runs(Protocol):
    async def run(self, report: Report, snapshot: Snapshot) -> Report: ...


class Applies(Protocol):
    async def apply(self, report: Report, chosen: list[str], by: str) -> Report: ...


@dataclass(frozen=True, slots=True)
class Reconciling:
    """What these routes stand on. Runs go on in the replica that was asked, one at a time."""

    erps: tuple[str, ...]
    run: Runs
    corrector: Applies
    reports: Reports
    read_snapshot: Callable[[bytes | None, bytes | None, bool], Snapshot]
    """Stock, orders, whether each is whole. Raises: RejectedMessage."""
    clock: Clock
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Asked(BaseModel):
    """*stock* and *orders*: files as they are, in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    erps: tuple[str, ...] | None = None
    stock: str | None = None
    orders: str | None = None
    whole: bool = True
    """What the files leave out is not there."""


class Chosen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    differences: list[str]


def routes(service: Reconciling) -> APIRouter:
    router = APIRouter(tags=["reconciliations"])

    @router.post("/v1/reconciliations")
    async def reconcile(asked: Asked, request: Request) -> Response:
        """Compare twins and ledger with the ERPs and with files of a WMS and an OMS; answers at once."""
        if service.running:
            raise Problem(409, "Already running", "one reconciliation at a time")
        snapshot = service.read_snapshot(
            _file(asked.stock, "stock"), _file(asked.orders, "orders"), asked.whole
        )
        now = service.clock.now()
        report = Report(_name(now), asked_by(request), now, _erps(service, asked))
        await service.reports.save(report)
        task = asyncio.create_task(_run(service, report, snapshot))
        service.running.add(task)
        task.add_done_callback(service.running.discard)
        return _answer(report, 202)

    @router.get("/v1/reconciliations")
    async def reports(limit: Annotated[int, Query(ge=1, le=REPORTS_MAX)] = 10) -> Response:
        """The newest first, without their differences."""
        found = await service.reports.reports(limit)
        return _json({"reconciliations": [_brief(one) for one in found]})

    @router.get("/v1/reconciliations/{report_id}")
    async def report(report_id: str) -> Response:
        return _answer(await _known(service, report_id))

    @router.post("/v1/reconciliations/{report_id}:apply")
    async def apply(report_id: str, chosen: Chosen, request: Request) -> Response:
        """Apply the corrections of these differences. Each is looked at once more, and noted in the trail."""
        known = await _known(service, report_id)
        if known.state != "done":
            raise Problem(409, "Not done", f"{report_id} is {known.state}")
        return _answer(await service.corrector.apply(known, chosen.differences, asked_by(request)))

    return router


async def _run(service: Reconciling, report: Report, snapshot: Snapshot) -> None:
    try:
        await service.run.run(report, snapshot)
    except TransientFailure as failure:
        _log.warning("reconciliation_failed", report=report.id, reason=str(failure))
    except Exception:  # noqa: BLE001 - top of a task
        _log.exception("reconciliation_broke", report=report.id)


async def _known(service: Reconciling, report_id: str) -> Report:
    found = await service.reports.report(report_id)
    if found is None:
        raise Problem(404, "No such reconciliation", f"nobody has asked for {report_id}")
    return found


def _erps(service: Reconciling, asked: Asked) -> tuple[str, ...]:
    if asked.erps is None:
        return service.erps
    if strange := sorted(set(asked.erps) - set(service.erps)):
        known = ", ".join(service.erps) or "none"
        raise RejectedMessage(f"no ERP {', '.join(strange)}; known: {known}", field="erps")
    return asked.erps


def _file(told: str | None, name: str) -> bytes | None:
    try:
        return None if told is None else base64.b64decode(told, validate=True)
    except ValueError as error:
        raise RejectedMessage(str(error), field=name) from error


def _name(now: datetime) -> str:
    return f"R-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def _brief(report: Report) -> dict[str, Any]:
    return {
        "id": report.id,
        "state": report.state,
        "asked_by": report.asked_by,
        "erps": report.erps,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "progress": report.progress,
        "counts": report.counts(),
    }


def _answer(report: Report, status: int = 200) -> Response:
    differences = [
        {"id": one.id, **_plain(one), "applied": report.applied.get(one.id)} for one in report.differences
    ]
    return _json(_brief(report) | {"differences": differences, "not_compared": report.not_compared}, status)


def _plain(difference: Any) -> dict[str, Any]:
    return {name: getattr(difference, name) for name in difference.__dataclass_fields__}


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type=JSON)
