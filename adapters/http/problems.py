"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from canonical.errors import InvariantViolated, Overloaded, RejectedMessage, TransientFailure

_log = structlog.get_logger()
PROBLEM = "application/problem+json"
RETRY_AFTER_S = 2
"""About as long as a database or broker takes that restarts; whoever comes too early comes again."""

_AGAIN = {"Retry-After": str(RETRY_AFTER_S)}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: _AGAIN, 503: _AGAIN}


class Problem(HTTPException):
    """Raised by a route; *more* becomes members of the document."""

    def __init__(self, status: int, title: str, detail: str, **more: Any) -> None:
        super().__init__(status, detail)
        self.title = title
        self.more = more


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(to_json(body), status, _HEADERS.get(status), PROBLEM)


def install(api: FastAPI) -> None:
    """Make every failure of the API a problem document that says whose fault it is."""

    @api.exception_handler(Problem)
    async def raised(request: Request, error: Problem) -> Response:
        return problem(error.status_code, error.title, str(error.detail), **error.more)

    @api.exception_handler(RejectedMessage)
    async def rejected(request: Request, error: RejectedMessage) -> Response:
        return problem(422, "Message refused", error.reason, field=error.field)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(422, "Request refused", first["msg"], field=".".join(map(str, first["loc"])))

    @api.exception_handler(TransientFailure)
    async def away(request: Request, error: TransientFailure) -> Response:
        return problem(503, "Try again", str(error))

    @api.exception_handler(InvariantViolated)
    async def broken(request: Request, error: InvariantViolated) -> Response:
        _log.error("request_broke", path=request.url.path, reason=str(error))
        return problem(500, "A fault of twinsync", "it is logged; what was asked for is not at fault")

    @api.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> Response:
        return problem(429, "Slow down", str(error))

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return problem(
            error.status_code, "Not found" if error.status_code == 404 else "Refused", error.detail
        )
