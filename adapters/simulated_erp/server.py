"""The ERP behind HTTP. Every answer is JSON; every refusal is an RFC 9457 problem document.

============================  =========================================================================
POST /documents               `Instruction` → 201 (200: made before) `Document`; 422 refused
POST /documents/{n}/reversal  `ReversalByHand` → as above, of this very document
GET /documents                filters idempotency_key, posting_key, command, action, live; after, limit
GET /trial-balance            `TrialBalance`
GET /live-documents           `LiveDocuments`
GET /stock                    SKU → location → quantity on hand; empty where it was told no opening
POST /faults, GET /faults     `FaultSettings` → `FaultReport`
POST /standard-costs          `StandardCosts`, merged
POST /periods                 `PeriodClosing`
POST /stock                   `StockOpened`, merged
POST /tampering               `Tampering`: what people do behind twinsync's back
DELETE /                      as if new, faults included
GET /healthz                  200
============================  =========================================================================
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, Never, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from adapters.simulated_erp.books import Books, DocumentFilter, Posted, Refusal
from adapters.simulated_erp.faults import Fault, Faults
from adapters.simulated_erp.journal import Journal
from adapters.simulated_erp.models import (
    DOCUMENT,
    FAULT_REPORT,
    FAULT_SETTINGS,
    INSTRUCTION,
    LIVE_DOCUMENTS,
    PAGE,
    PERIOD_CLOSING,
    REVERSAL_BY_HAND,
    STANDARD_COSTS,
    STOCK,
    STOCK_OPENED,
    TAMPERING,
    TRIAL_BALANCE,
    Change,
    Entered,
    Erased,
    Instruction,
)
from canonical.postings import Action

T = TypeVar("T")

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
_PAGING = frozenset({"after", "limit"})
_FILTERS = frozenset(DocumentFilter.__dataclass_fields__)
_LIVE = {"true": True, "false": False}


class SimulatedErp:
    """Handlers over one set of books. One event loop owns it, and no handler awaits while it alters them."""

    def __init__(self, books: Books, journal: Journal | None = None) -> None:
        self._books = books
        self._journal = journal
        self._faults = Faults()

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.post("/documents", self.tell),
                web.get("/documents", self.documents),
                web.post("/documents/{number}/reversal", self.reverse),
                web.get("/trial-balance", self.trial_balance),
                web.get("/live-documents", self.live_documents),
                web.post("/faults", self.misbehave),
                web.get("/faults", self.faults),
                web.post("/standard-costs", self.set_standard_costs),
                web.post("/periods", self.close_period),
                web.get("/stock", self.stock),
                web.post("/stock", self.open_stock),
                web.post("/tampering", self.tamper),
                web.delete("/", self.erase),
                web.get("/healthz", self.healthz),
            ]
        )
        return application

    # --- what is told

    async def tell(self, request: web.Request) -> web.Response:
        told = _read(INSTRUCTION, await request.read())
        await self._think()
        fault = self._faults.draw(told.idempotency_key)
        if fault is Fault.FAIL:
            return _problem(503, "unavailable", "told to fail before posting")
        outcome = self._take(told)
        if isinstance(outcome, Refusal):
            return _problem(422, outcome.code, outcome.reason)
        return await self._answer(request, outcome, fault)

    async def reverse(self, request: web.Request) -> web.Response:
        """By hand: no fault strikes."""
        told = _read(REVERSAL_BY_HAND, await request.read())
        try:
            outcome = self._books.reverse(request.match_info["number"], told.idempotency_key)
        except ValueError as error:
            raise _rejected(422, "unknown-document", str(error)) from error
        if isinstance(outcome, Refusal):
            return _problem(422, outcome.code, outcome.reason)
        if not outcome.again:
            self._keep(Entered(outcome.document))
        return _json(DOCUMENT, outcome.document, status=200 if outcome.again else 201)

    async def _think(self) -> None:
        if self._faults.settings.latency_s:
            await asyncio.sleep(self._faults.settings.latency_s)

    def _take(self, told: Instruction) -> Posted | Refusal:
        if told.posting.key in self._faults.settings.refuse_keys:
            return Refusal("told-to-refuse", f"{told.posting.key} is to be refused")
        outcome = self._books.take(told)
        if isinstance(outcome, Posted) and not outcome.again:
            self._keep(Entered(outcome.document))
        return outcome

    async def _answer(self, request: web.Request, outcome: Posted, fault: Fault) -> web.Response:
        if fault is Fault.TIMEOUT_AFTER_POSTING:
            await asyncio.sleep(self._faults.settings.hang_s)
            if request.transport is not None:
                request.transport.abort()
        if fault is not Fault.NONE:
            return _problem(500, "reply-forgotten", "told to forget the reply")
        return _json(DOCUMENT, outcome.document, status=200 if outcome.again else 201)

    def _change(self, change: Change) -> None:
        self._books.apply(change)
        self._keep(change)

    def _keep(self, change: Change) -> None:
        if self._journal is not None:
            self._journal.append(change)

    # --- what is asked

    async def documents(self, request: web.Request) -> web.Response:
        await self._think()
        query = request.query
        if unknown := query.keys() - _PAGING - _FILTERS:
            raise _rejected(400, "unknown-parameter", ", ".join(sorted(unknown)))
        try:
            page = self._books.page(_filter(query), query.get("after"), _limit(query))
        except ValueError as error:
            raise _rejected(400, "bad-parameter", str(error)) from error
        return _json(PAGE, page)

    async def trial_balance(self, request: web.Request) -> web.Response:
        return _json(TRIAL_BALANCE, self._books.trial_balance())

    async def stock(self, request: web.Request) -> web.Response:
        found: dict[str, dict[str, Decimal]] = {}
        for (sku, location), quantity in self._books.stock().items():
            found.setdefault(sku, {})[location] = quantity
        return _json(STOCK, found)

    async def live_documents(self, request: web.Request) -> web.Response:
        return _json(LIVE_DOCUMENTS, self._books.live_documents())

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    # --- how it is set

    async def misbehave(self, request: web.Request) -> web.Response:
        settings = _read(FAULT_SETTINGS, await request.read(), floats=True)
        try:
            self._faults = Faults(settings)
        except ValueError as error:
            raise _rejected(422, "bad-rates", str(error)) from error
        return await self.faults(request)

    async def faults(self, request: web.Request) -> web.Response:
        return _json(FAULT_REPORT, self._faults.report())

    async def set_standard_costs(self, request: web.Request) -> web.Response:
        self._change(_read(STANDARD_COSTS, await request.read()))
        return web.Response(status=204)

    async def close_period(self, request: web.Request) -> web.Response:
        self._change(_read(PERIOD_CLOSING, await request.read()))
        return web.Response(status=204)

    async def open_stock(self, request: web.Request) -> web.Response:
        self._change(_read(STOCK_OPENED, await request.read()))
        return web.Response(status=204)

    async def tamper(self, request: web.Request) -> web.Response:
        try:
            self._change(_read(TAMPERING, await request.read()))
        except ValueError as error:
            raise _rejected(422, "unknown-document", str(error)) from error
        return web.Response(status=204)

    async def erase(self, request: web.Request) -> web.Response:
        self._change(Erased())
        self._faults = Faults()
        return web.Response(status=204)


def _filter(query: Mapping[str, str]) -> DocumentFilter:
    """Raises: ValueError."""
    live = query.get("live")
    if live is not None and live not in _LIVE:
        raise ValueError(f"live is true or false, not {live!r}")
    return DocumentFilter(
        idempotency_key=query.get("idempotency_key"),
        posting_key=query.get("posting_key"),
        command=query.get("command"),
        action=Action(query["action"]) if "action" in query else None,
        live=None if live is None else _LIVE[live],
    )


def _limit(query: Mapping[str, str]) -> int:
    """Raises: ValueError."""
    limit = int(query.get("limit", PAGE_DEFAULT))
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit is between 1 and {PAGE_MAX}, not {limit}")
    return limit


def _read(adapter: TypeAdapter[T], body: bytes, *, floats: bool = False) -> T:
    """Parse a body. Amounts are strings: a JSON number with a point in it may have lost its cents already."""
    refuse = None if floats else _no_float
    try:
        return _valid(adapter, json.loads(body, parse_float=refuse, parse_constant=_no_float))
    except ValueError as error:
        raise _rejected(400, "malformed", str(error)) from error


def _no_float(digits: str) -> Never:
    raise ValueError(f"an amount is a string, not the number {digits}")


def _valid(adapter: TypeAdapter[T], parsed: Any) -> T:
    try:
        return adapter.validate_python(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        raise _rejected(422, "invalid", f"{path}: {first['msg']}") from error


def _json(adapter: TypeAdapter[T], value: T, *, status: int = 200) -> web.Response:
    return web.Response(body=adapter.dump_json(value), status=status, content_type="application/json")


def _problem(status: int, code: str, detail: str) -> web.Response:
    body = _problem_body(status, code, detail)
    return web.Response(text=body, status=status, content_type="application/problem+json")


def _rejected(status: Literal[400, 422], code: str, detail: str) -> web.HTTPException:
    error = web.HTTPBadRequest if status == 400 else web.HTTPUnprocessableEntity
    return error(text=_problem_body(status, code, detail), content_type="application/problem+json")


def _problem_body(status: int, code: str, detail: str) -> str:
    kind = f"urn:twinsync:simulated-erp:{code}"
    return json.dumps({"type": kind, "title": code, "status": status, "detail": detail})
