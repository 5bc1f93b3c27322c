"""Health, for machines: whether the process lives, whether it can work, and its metrics. No key is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic_core import to_json

from adapters.http import problems
from canonical.errors import TransientFailure

READY_WITHIN_S = 1.0
"""Whoever asks asks often, and has little patience."""

Check = Callable[[], Coroutine[Any, Any, None]]
"""Returns when what it looks at answers. Raises: TransientFailure."""


class Readiness:
    """Asks all checks at once and answers in time. One that gives no answer is asked again when it has."""

    def __init__(self, checks: Mapping[str, Check], within_s: float = READY_WITHIN_S) -> None:
        self._checks = checks
        self._within_s = within_s
        self._asked: dict[str, asyncio.Task[str | None]] = {}

    async def failures(self) -> dict[str, str]:
        """Name of each check that fails → why."""
        for name, check in self._checks.items():
            asked = self._asked.get(name)
            if asked is None or asked.done():  # what came too late tells of the past
                self._asked[name] = asyncio.create_task(_failure(check))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=self._within_s)
        answers = {name: self._answer(asked) for name, asked in self._asked.items()}
        return {name: failure for name, failure in answers.items() if failure is not None}

    async def states(self) -> dict[str, bool]:
        """Name of each check → whether it succeeds."""
        failing = await self.failures()
        return {name: name not in failing for name in self._checks}

    def _answer(self, asked: asyncio.Task[str | None]) -> str | None:
        return asked.result() if asked.done() else f"no answer within {self._within_s:g} s"


async def _failure(check: Check) -> str | None:
    try:
        await check()
    except TransientFailure as failure:
        return str(failure)
    except Exception as error:  # noqa: BLE001  whatever it is, this process cannot work
        return repr(error)
    return None


def routes(checks: Mapping[str, Check], exposition: Callable[[], Awaitable[tuple[bytes, str]]]) -> APIRouter:
    router, readiness = APIRouter(tags=["health"]), Readiness(checks)

    @router.get("/healthz")
    async def healthz() -> Response:
        """The process answers."""
        return _json({"status": "up"})

    @router.get("/readyz")
    async def readyz() -> Response:
        """Database, hosts and broker answer too, within a second; else 503, and which does not, and why."""
        failures = await readiness.failures()
        if failures:
            told = "; ".join(f"{name}: {why}" for name, why in failures.items())
            return problems.problem(503, "Not ready", told, failing=failures)
        return _json({"status": "ready", "checked": list(checks)})

    @router.get("/metrics")
    async def metrics() -> Response:
        body, content_type = await exposition()
        return Response(body, media_type=content_type)

    return router


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
