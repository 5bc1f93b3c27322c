"""The short way to a live twin: what the OMS asks for most does not pass through routing and validation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.http.keys import Keys
from canonical.errors import RejectedMessage, TransientFailure
from canonical.identity import TwinRef, twin_ref

Answer = tuple[int, bytes] | None
Read = Callable[[TwinRef], Awaitable[Answer]]
News = Callable[[TwinRef, int | None, float], Awaitable[Answer]]
"""Twin, version that is known, seconds → the twin, as soon as it is of another version."""

WAIT_MAX_S = 5.0
"""The longest that who prefers to wait is kept waiting, however long that was to be."""
WAITING_MAX = 128
"""Who comes while so many wait is answered at once: others are to find a place in this replica."""
_WAIT = re.compile(rb"(?:^|[,;\s])wait\s*=\s*(\d{1,9})", re.IGNORECASE)

_NAMES: dict[tuple[str, int], str] = {
    ("orders", 1): "order/{}",
    ("shipments", 1): "shipment/{}",
    ("stock", 2): "stock/{}@{}",
    ("twins", 2): "{}/{}",
}
"""Collection and how many parts follow it → the twin's name."""


class LiveTwins:
    """ASGI middleware that answers 200 and 304 for a twin as it is now. It never refuses: whatever it cannot
    answer goes on to the application, which says why.

    With ``Prefer: wait=SECONDS`` (RFC 7240) it answers as soon as somebody has told of the twin or, beside
    ``If-None-Match``, as soon as it is of another version.
    """

    def __init__(self, app: ASGIApp, *, read: Read, news: News, keys: Keys) -> None:
        self._app = app
        self._read = read
        self._news = news
        self._keys = keys
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ref = _asked(scope)
        if ref is not None:
            headers = dict(scope["headers"])
            answer = await self._answer(ref, headers)
            if answer is not None:
                await _send(send, *answer, headers.get(b"if-none-match"))
                return
        await self._app(scope, receive, send)

    async def _answer(self, ref: TwinRef, headers: dict[bytes, bytes]) -> Answer:
        key, bearer = headers.get(b"x-api-key", b""), headers.get(b"authorization", b"")
        if self._keys.holder(key, bearer) is None:
            return None
        try:
            answer, patience_s = await self._read(ref), self._patience_s(headers)
            if patience_s and (answer is None or _tag(answer[0]) == headers.get(b"if-none-match")):
                return await self._awaited(ref, answer and answer[0], patience_s)
            return answer
        except TransientFailure:
            return None

    def _patience_s(self, headers: Mapping[bytes, bytes]) -> float:
        asked = _WAIT.search(headers.get(b"prefer", b""))
        return min(float(asked[1]), WAIT_MAX_S) if asked and self._waiting < WAITING_MAX else 0.0

    async def _awaited(self, ref: TwinRef, known: int | None, patience_s: float) -> Answer:
        self._waiting += 1
        try:
            return await self._news(ref, known, patience_s)
        finally:
            self._waiting -= 1


def _asked(scope: Scope) -> TwinRef | None:
    if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
        return None
    root, _, rest = scope["path"].partition("/v1/")
    collection, *parts = rest.split("/")
    name = _NAMES.get((collection, len(parts)))
    if root or name is None:
        return None
    try:
        return twin_ref(name.format(*parts))
    except RejectedMessage:
        return None


def _tag(version: int) -> bytes:
    return b'"%d"' % version


async def _send(send: Send, version: int, body: bytes, known: bytes | None) -> None:
    tag = _tag(version)
    status, headers = 304, [(b"etag", tag)]
    if known == tag:
        body = b""
    else:
        status = 200
        headers += [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
