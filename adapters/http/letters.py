"""Dead letters over HTTP: looked at, sent again as they are or edited, discarded."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Annotated, Any, Literal, Protocol, Self

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import to_json

from adapters.http.audit import Cursor, asked_by
from adapters.http.problems import Problem
from canonical.damaged import spread
from canonical.envelope import BODY_BYTES_MAX
from canonical.types import WHOLE_MAX
from twins.ports import DeadLetters, Fault, Letter, LetterFilter, LetterState, Publication, Rejected, Verdict

PAGE_DEFAULT, PAGE_MAX = 50, 500
SHOWN_BYTES_MAX = BODY_BYTES_MAX
"""Whatever is larger can never be taken as it is: its beginning is enough to see what it was."""
BEGINNING_BYTES = 4_096


class Replayed(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def verdict(self) -> Verdict: ...


class Desk(Protocol):
    """See twins.runtime.letters.LetterDesk."""

    async def replay(self, number: int, by: str, edited: Publication | None = None) -> Replayed | None: ...

    async def replay_each(self, wanted: LetterFilter, limit: int, by: str) -> list[Any]: ...

    async def discard(self, number: int, by: str, why: str) -> bool: ...

    async def discard_each(self, wanted: LetterFilter, limit: int, by: str, why: str) -> list[int]: ...


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Edit(_Asked):
    """What to send in the place of a letter; what is left out stays as it is."""

    body: str | None = None
    body_base64: str | None = None
    headers: dict[str, str] | None = None
    content_type: str | None = None

    def of(self, message: Publication) -> Publication:
        body = message.body
        if self.body is not None:
            body = self.body.encode()
        elif self.body_base64 is not None:
            body = _decoded(self.body_base64)
        headers = dict(message.headers) if self.headers is None else self.headers
        return Publication(body, headers, self.content_type or message.content_type)


class Several(_Asked):
    """Open letters, chosen by a filter; *cursor*: only those before it."""

    reason: str | None = None
    field: str | None = None
    fault: Fault | None = None
    source: str | None = None
    type: str | None = None
    since: AwareDatetime | None = None
    cursor: Annotated[int | None, Field(ge=0, le=WHOLE_MAX)] = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX

    @property
    def wanted(self) -> LetterFilter:
        return LetterFilter(
            LetterState.OPEN,
            self.reason,
            self.field,
            self.fault,
            self.source,
            self.type,
            self.since,
            self.cursor,
        )


Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


class Discard(_Asked):
    why: Why


class DiscardSeveral(Several):
    why: Why

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        chosen = (self.reason, self.field, self.fault, self.source, self.type, self.since)
        if all(one is None for one in chosen):
            raise ValueError("name at least one of reason, field, fault, source, type, since")
        return self


def routes(letters: DeadLetters, desk: Desk) -> APIRouter:
    router = APIRouter(tags=["dead letters"])

    @router.get("/v1/dead-letters")
    async def listed(
        reason: Annotated[str | None, Query(description="part of the reason")] = None,
        field: str | None = None,
        fault: Fault | None = None,
        state: Annotated[LetterState | Literal["any"], Query()] = LetterState.OPEN,
        source: str | None = None,
        type: str | None = None,
        since: Annotated[AwareDatetime | None, Query(description="seen at or after")] = None,
        cursor: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    ) -> Response:
        """Messages that were refused: why, whose fault it is, and what became of them; the newest first."""
        only = state if isinstance(state, LetterState) else None
        wanted = LetterFilter(only, reason, field, fault, source, type, since, cursor)
        found = await letters.letters(wanted, limit + 1)
        more = found[limit - 1].number if len(found) > limit else None
        return _json({"dead_letters": found[:limit], "next_cursor": more})

    @router.get("/v1/dead-letters/{number:int}")
    async def shown(number: int) -> Response:
        """One letter, with its headers, and its payload as text where it is text, else in base64."""
        letter, message = await _found(letters, number)
        return _json(asdict(letter) | _payload(message))

    @router.post("/v1/dead-letters/{number:int}:replay")
    async def replay(number: int, request: Request, edit: Edit | None = None) -> Response:
        """Send it again the usual way, as it is or edited, and say what became of it.

        A refusal is an open letter with the new reason; an edited one is a letter of its own, which replaces
        the one it was made of.
        """
        edited = None if edit is None else edit.of((await _found(letters, number))[1])
        replayed = await desk.replay(number, asked_by(request), edited)
        if replayed is None:
            raise _unknown(number)
        return _json(_became(replayed))

    @router.post("/v1/dead-letters:replay")
    async def replay_several(request: Request, several: Several) -> Response:
        """Send again the open letters that a filter finds, the newest first, at most *limit* of them."""
        replayed = await desk.replay_each(several.wanted, several.limit, asked_by(request))
        refused = [_became(one) for one in replayed if isinstance(one.verdict, Rejected)]
        more = replayed[-1].number if len(replayed) == several.limit else None
        return _json({"taken": len(replayed) - len(refused), "refused": refused, "next_cursor": more})

    @router.post("/v1/dead-letters/{number:int}:discard")
    async def discard(number: int, request: Request, discard: Discard) -> Response:
        """Close a letter for good, and say why. It stays, and the audit trail says who it was."""
        if not await desk.discard(number, asked_by(request), discard.why):
            raise _unknown(number)
        return _json({"number": number, "became": LetterState.DISCARDED})

    @router.post("/v1/dead-letters:discard")
    async def discard_several(request: Request, several: DiscardSeveral) -> Response:
        numbers = await desk.discard_each(several.wanted, several.limit, asked_by(request), several.why)
        more = numbers[-1] if len(numbers) == several.limit else None
        return _json({"discarded": len(numbers), "next_cursor": more})

    return router


async def _found(letters: DeadLetters, number: int) -> tuple[Letter, Publication]:
    found = await letters.letter(number) if number < 2**63 else None
    if found is None:
        raise _unknown(number)
    return found


def _unknown(number: int) -> Problem:
    return Problem(404, "No such dead letter", f"there is no dead letter {number}")


def _became(replayed: Replayed) -> dict[str, Any]:
    verdict = replayed.verdict
    if isinstance(verdict, Rejected):
        return {"number": replayed.number, "became": "refused", **asdict(verdict)}
    return {"number": replayed.number, "became": "taken", "arrival": verdict.arrival}


def _payload(message: Publication) -> dict[str, Any]:
    whole = len(message.body) <= SHOWN_BYTES_MAX
    body = message.body if whole else message.body[:BEGINNING_BYTES]
    text = spread(body)
    told = {"body": text} if text is not None else {"body_base64": base64.b64encode(body)}
    return {"content_type": message.content_type, "headers": message.headers, "whole": whole, **told}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Problem(422, "Request refused", "it is no base64", field="body_base64") from None


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
