"""What no request may be, refused before anything reads it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.http.problems import Problem, problem


class Limits:
    """ASGI middleware: no body larger than a limit, however it is sent, and no NUL in a path or query.

    A NUL is in no name here, and PostgreSQL would fail on one.
    """

    def __init__(self, app: ASGIApp, *, body_bytes_max: int) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif "\0" in scope["path"] or b"%00" in scope["query_string"]:
            answer = problem(422, "Request refused", "a NUL character in the path or query")
            await answer(scope, receive, send)
        elif _told_length(scope) > self._body_bytes_max:
            error = self._too_large()
            answer = problem(413, error.title, error.detail, **error.more)
            await answer(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        """For bodies that do not announce their length."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._body_bytes_max:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> Problem:
        limit = self._body_bytes_max
        return Problem(413, "Body too large", f"a body has at most {limit} bytes", body_bytes_max=limit)


def _told_length(scope: Scope) -> int:
    """The length that the request announces; 0 where it does not."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
