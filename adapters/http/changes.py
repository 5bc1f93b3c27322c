"""Changes of twins as they are committed: server-sent events, which go on where they were cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from adapters.http.problems import Problem
from canonical.identity import Kind
from twins.changes import as_event
from twins.ports import Expired, Feed, Heard, TwinRow

NUMBER_MAX = 2**63 - 1
STILL_HERE_S = 10.0
"""A proxy ends connections on which nothing is said for long; many take a minute."""
STREAM_MAX_S, STREAM_BYTES_MAX = 900.0, 32 * 1_048_576
"""Serve takes what it is given, whether the client reads it or not."""
FIELDS = ("status", "customer_id", "sku", "location")
Wanted = Callable[[TwinRow], bool]


def routes(feed: Feed) -> APIRouter:
    router = APIRouter(tags=["changes"])

    @router.get("/v1/changes", response_class=StreamingResponse)
    async def changes(
        kind: Kind | None = None,
        status: Annotated[str | None, Query(description="that they have come to")] = None,
        customer_id: str | None = None,
        sku: str | None = None,
        location: str | None = None,
        finding: Annotated[str | None, Query(description="code of a finding that they have now")] = None,
        after: Annotated[
            int | None,
            Query(ge=0, le=NUMBER_MAX, description="id of the last event heard; else from now on"),
        ] = None,
        last_event_id: Annotated[
            int | None,
            Header(ge=0, le=NUMBER_MAX, description="the same, as browsers send it"),
        ] = None,
    ) -> Response:
        """Each twin as soon as it has changed, as a CloudEvent; one that changes often, now and then.

        The first event, `begin`, says from where: who lists twins after it has missed nothing. Each change is
        told at least once; of one twin, that with the largest version holds.
        """
        values = (status, customer_id, sku, location)
        asked = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}

        def is_wanted(row: TwinRow) -> bool:
            return (
                kind in (None, row.ref.kind)
                and all(getattr(row, name) == value for name, value in asked.items())
                and (finding is None or finding in row.findings)
            )

        heard = feed.follow(last_event_id if last_event_id is not None else after, STILL_HERE_S)
        try:
            first = await anext(heard)
        except Expired as expired:
            raise Problem(
                410,
                "Forgotten",
                f"changes before {expired.oldest} are not kept: follow from now on, then list the twins",
                oldest=expired.oldest,
            ) from None
        return _Stream(first, heard, is_wanted)

    return router


class _Stream(StreamingResponse):
    """Leaves the feed when it is over, however it ends."""

    def __init__(self, first: Heard, heard: AsyncGenerator[Heard], is_wanted: Wanted) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_told(first, heard, is_wanted), headers=headers, media_type="text/event-stream")
        self._heard = heard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._heard.aclose()


async def _told(first: Heard, heard: AsyncGenerator[Heard], is_wanted: Wanted) -> AsyncIterator[bytes]:
    """Ends after a while: the client goes on where it was."""
    yield format_sse_event(
        event="begin", id=str(first.settled), data_str=_json({"after": first.settled}), retry=1_000
    )
    sent, ends_at = 0, monotonic() + STREAM_MAX_S
    async for one in heard:
        events = _events([row for row in one.changed if is_wanted(row)], one.settled)
        yield events
        sent += len(events)
        if sent > STREAM_BYTES_MAX or monotonic() > ends_at:
            return


def _events(changed: Sequence[TwinRow], settled: int) -> bytes:
    """The id is told last: who is cut before hears all of them again."""
    events = [format_sse_event(event="change", data_str=_json(as_event(row))) for row in changed]
    return b"".join([*events, format_sse_event(comment="still here", id=str(settled))])


def _json(content: Any) -> str:
    return to_json(content).decode()
