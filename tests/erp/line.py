"""The line between twinsync and its ERP, and what can befall it: an HTTP proxy that a test has at hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import aiohttp
from aiohttp import web
from yarl import URL

from ops.local import free_port


class Fate(Enum):
    """Of one request."""

    PASSES = auto()
    IS_LOST = auto()
    """Never arrives; the sender gets 503."""
    ANSWER_IS_LOST = auto()
    """Is carried out, then the connection drops."""
    ANSWER_IS_AN_ERROR = auto()
    ANSWER_IS_LATE = auto()
    """Is carried out, then the sender is kept waiting until it gives up."""


Judge = Callable[[web.Request], Awaitable[Fate]]


async def all_pass(request: web.Request) -> Fate:
    return Fate.PASSES


@dataclass
class Line:
    """Carries requests to *target*, each as the judge says."""

    target: str
    port: int = field(default_factory=free_port)
    judge: Judge = all_pass
    requests: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._carry)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._session = aiohttp.ClientSession()
        try:
            yield self
        finally:
            await self._session.close()
            await runner.cleanup()

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fate = await self.judge(request)
        if fate is Fate.IS_LOST:
            return web.Response(status=503)
        answer = await self._forward(request)
        match fate:
            case Fate.ANSWER_IS_LOST:
                _drop(request)
            case Fate.ANSWER_IS_AN_ERROR:
                return web.Response(status=500)
            case Fate.ANSWER_IS_LATE:
                await asyncio.sleep(60)
        return answer

    async def _forward(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name in _CARRIED}
        url = f"{self.target}{request.raw_path}"
        body = await request.read()
        try:
            async with self._session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers
            ) as answer:
                read = await answer.read()
                kind = answer.headers.get("Content-Type", "text/plain").partition(";")[0]
                return web.Response(status=answer.status, body=read, content_type=kind)
        except aiohttp.ClientError:
            _drop(request)
            return web.Response(status=502)


_CARRIED = ("Authorization", "Content-Type", "X-Tryton-Context")


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
