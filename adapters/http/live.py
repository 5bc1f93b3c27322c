"""The short way to a live twin: what the OMS asks for most does not pass through routing and validation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.http.keys import Keys
from canonical.errors import RejectedMessage, TransientFailure
from canonical.identity import TwinRef, twin_ref

Read = Callable[[TwinRef], Awaitable[tuple[int, bytes] | None]]

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
    """

    def __init__(self, app: ASGIApp, *, read: Read, keys: Keys) -> None:
        self._app = app
        self._read = read
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ref = _asked(scope)
        if ref is not None:
            headers = dict(scope["headers"])
            answer = await self._answer(ref, headers)
            if answer is not None:
                await _send(send, *answer, headers.get(b"if-none-match"))
                return
        await self._app(scope, receive, send)

    async def _answer(self, ref: TwinRef, headers: dict[bytes, bytes]) -> tuple[int, bytes] | None:
        key, bearer = headers.get(b"x-api-key", b""), headers.get(b"authorization", b"")
        if self._keys.holder(key, bearer) is None:
            return None
        try:
            return await self._read(ref)
        except TransientFailure:
            return None


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


async def _send(send: Send, version: int, body: bytes, known: bytes | None) -> None:
    tag = b'"%d"' % version
    status, headers = 304, [(b"etag", tag)]
    if known == tag:
        body = b""
    else:
        status = 200
        headers += [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
