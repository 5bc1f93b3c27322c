"""What was done by hand, read over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic_core import to_json

from canonical.types import WHOLE_MAX
from twins.ports import Audit

PAGE_DEFAULT, PAGE_MAX = 50, 500


Cursor = Annotated[int | None, Query(ge=0, le=WHOLE_MAX, description="next_cursor of the page before")]


def asked_by(request: Request) -> str:
    """Name of the API key that a request came with."""
    return str(request.state.asked_by)


def routes(audit: Audit) -> APIRouter:
    router = APIRouter(tags=["audit"])

    @router.get("/v1/audit")
    async def audited(
        subject: Annotated[
            str | None, Query(description="what it was done to, such as dead-letter/7 or erp/main")
        ] = None,
        cursor: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Who did what by hand, when and why; the newest first."""
        found = await audit.audited(limit + 1, subject=subject, before=cursor)
        more = found[limit - 1].number if len(found) > limit else None
        return Response(to_json({"audit": found[:limit], "next_cursor": more}), media_type="application/json")

    return router
