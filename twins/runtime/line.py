"""The line to one ERP: throttle, time-out and circuit breaker around its connector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from time import monotonic
from typing import TypeVar

import structlog
from aiolimiter import AsyncLimiter

from canonical.errors import TransientFailure
from canonical.postings import Command
from twins.core.breaker import Breaker, Circuit
from twins.core.retries import Backoff, RetryBudget
from twins.ports import Answer, Confirmed, ErpConnector

_log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How an ERP instance may be talked to."""

    rate_per_s: float = 200.0
    burst: int = 50
    """Calls that may follow one another at once after a quiet while."""
    concurrency: int = 16
    timeout_s: float = 10.0
    """For one call, the wait for the throttle not included."""
    breaker: Breaker = field(default_factory=Breaker)
    backoff: Backoff = field(default_factory=Backoff)
    retries: RetryBudget = field(default_factory=RetryBudget)


class Withheld(Exception):
    """Nothing was told: the circuit is open."""


@dataclass(slots=True)
class LineCounts:
    told: int = 0
    looked_up: int = 0
    unanswered: int = 0
    """Time-outs and failures after which it is not known whether the ERP took the command."""
    timed_out: int = 0
    throttled: int = 0
    """Calls that had to wait for the throttle."""
    throttle_wait_s: float = 0.0
    openings: int = 0
    """How often the circuit opened."""


class ErpLine:
    def __init__(
        self, erp: str, connector: ErpConnector, pace: Pace, moment: Callable[[], float] = monotonic
    ) -> None:
        """*moment*: seconds on a clock that only goes forward."""
        self.counts = LineCounts()
        self._erp = erp
        self._connector = connector
        self._pace = pace
        self._moment = moment
        self._limiter = AsyncLimiter(pace.burst, pace.burst / pace.rate_per_s)
        self._breaker = pace.breaker
        self._asking: dict[str, asyncio.Event] = {}
        """Idempotency keys that somebody asks about now."""

    @property
    def pace(self) -> Pace:
        return self._pace

    @property
    def circuit(self) -> Circuit:
        return self._breaker.circuit

    def room(self) -> int | None:
        """How many calls may begin now; None: as many as there are slots."""
        if self.circuit is Circuit.CLOSED:
            return None
        return 0 if self._admitted() is None else 1

    async def ask(self, command: Command, posting_date: date | None, *, known: bool) -> Answer | None:
        """Tell a command. *known*: the ERP may have it, so it is looked up first.

        One asks about a key at a time; whoever had to wait looks it up.
        Raises: TransientFailure where its fate is not known; Withheld.
        """
        key = command.idempotency_key
        while (other := self._asking.get(key)) is not None:
            await other.wait()
            known = True
        done = self._asking[key] = asyncio.Event()
        try:
            return await self._ask(command, posting_date, known)
        finally:
            del self._asking[key]
            done.set()

    async def _ask(self, command: Command, posting_date: date | None, known: bool) -> Answer | None:
        if known:
            found = await self._look_up(command.idempotency_key)
            if found is not None:
                return found
        return await self._call(lambda: self._tell(command, posting_date))

    async def _look_up(self, key: str) -> Confirmed | None:
        self.counts.looked_up += 1
        return await self._call(lambda: self._connector.look_up(key))

    async def _tell(self, command: Command, posting_date: date | None) -> Answer | None:
        self.counts.told += 1
        return await self._connector.tell(command, posting_date=posting_date)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._throttled()
        breaker = self._admitted()
        if breaker is None:
            raise Withheld
        self._breaker = breaker
        try:
            answer = await self._in_time(call)
        except Exception:
            self.counts.unanswered += 1
            self._fail()
            raise
        self._breaker = self._breaker.answered()
        return answer

    async def _in_time(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                return await call()
        except TimeoutError as error:
            self.counts.timed_out += 1
            raise TransientFailure(f"no answer within {self._pace.timeout_s:g} s") from error

    async def _throttled(self) -> None:
        if self._limiter.has_capacity():
            await self._limiter.acquire()
            return
        self.counts.throttled += 1
        began = self._moment()
        await self._limiter.acquire()
        self.counts.throttle_wait_s += self._moment() - began

    def _admitted(self) -> Breaker | None:
        return self._breaker.admit(self._moment(), self._pace.timeout_s)

    def _fail(self) -> None:
        was = self.circuit
        self._breaker = self._breaker.failed(self._moment())
        if self.circuit is Circuit.OPEN and was is not Circuit.OPEN:
            self.counts.openings += 1
            _log.warning("erp_circuit_open", erp=self._erp, failures=self._breaker.failures)
