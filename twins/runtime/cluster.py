"""The twins on Ray: hosts, ingest and gateways as named, detached actors, which only this starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, TypeVar

import ray
import structlog
from pydantic_core import from_json
from ray.exceptions import RayActorError, RayTaskError

from canonical.envelope import Event
from canonical.errors import Fenced, TransientFailure
from canonical.identity import Kind, TwinRef
from twins.core.contributions import Contribution
from twins.core.rules import Policy
from twins.ports import (
    Backfill,
    CommandQueue,
    Consumer,
    DeadLetters,
    ErpConnector,
    GapStore,
    Intake,
    Publication,
    TwinStore,
    Verdict,
)
from twins.runtime.gaps import GapWatch
from twins.runtime.gateway import Gateway
from twins.runtime.host import Aspect, Residency, TwinHost
from twins.runtime.ingest import Directory
from twins.runtime.letters import LetterWatch
from twins.runtime.placement import Placement

_log = structlog.get_logger()

NAMESPACE = "twinsync"
INGEST = "ingest"
PERIODS_CACHE_S = 5.0
T = TypeVar("T")


class Store(TwinStore, GapStore, CommandQueue, DeadLetters, Protocol):
    """What a host and a gateway need of the database."""


class Wiring(Protocol):
    """How this installation is put together; it travels to every actor, which opens its own connections."""

    @property
    def placement(self) -> Placement: ...

    @property
    def policy(self) -> Policy: ...

    @property
    def residency(self) -> Residency: ...

    @property
    def ahead_max(self) -> timedelta: ...

    @property
    def erps(self) -> tuple[str, ...]: ...

    @property
    def sweep_every(self) -> timedelta: ...

    def store(self) -> Store: ...

    def dead_letters(self) -> DeadLetters: ...

    def connector(self, erp: str) -> ErpConnector: ...

    def consumer(self, intake: Intake, dead_letters: DeadLetters) -> Consumer | None: ...

    def backfill(self) -> Backfill | None: ...

    @property
    def backfill_patience(self) -> timedelta: ...

    def set_up_process(self) -> None:
        """Logging and event loop of an actor's process."""
        ...


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


# --- actors ----------------------------------------------------------------------------------------------


def _call_ready_soon() -> None:
    """Ray restarts an actor by its constructor, which has no event loop yet: its own first call has one."""
    ray.get_runtime_context().current_actor.ready.remote()


class HostActor(TwinHost):
    """A twin host in a process of its own."""

    def __init__(self, wiring: Wiring, name: str) -> None:
        wiring.set_up_process()
        placement = wiring.placement
        directory = Directory(placement, RayCalls(wiring))
        store = wiring.store()
        super().__init__(
            name,
            store,
            WallClock(),
            wiring.policy,
            is_mine=lambda ref: placement.host_of(ref) == name,
            residency=wiring.residency,
            ahead_max=wiring.ahead_max,
            on_commands=lambda: nudge_gateways(wiring.erps),
            post=directory.post,
        )
        self._wiring = wiring
        self._dead_letters = store
        self._gaps = GapWatch(store, wiring.backfill(), WallClock(), wiring.backfill_patience)
        self._letters = LetterWatch()
        self._timers: asyncio.Task[None] | None = None
        _call_ready_soon()

    async def ready(self) -> str:
        """Start the timers. Answers the host's name."""
        if self._timers is None:
            self._timers = asyncio.create_task(self.run_timers(self._wiring.sweep_every))
        return self.name

    async def sweep(self) -> int:
        """The first host also wakes an ingest without a broker, asks for what is missing, counts letters."""
        overdue = await super().sweep()
        if self.name == self._wiring.placement.pooled_names()[0]:
            await wake(self._wiring)
            await self._gaps.look()
            await self._letters.look(self._dead_letters, self._clock.now())
        return overdue

    async def take(self, messages: Sequence[Publication]) -> list[Verdict]:
        return await self._or_exit(super().take(messages))

    async def take_events(self, events: Sequence[Event]) -> list[Verdict]:
        return await self._or_exit(super().take_events(events))

    async def absorb(self, contributions: Sequence[Contribution]) -> None:
        await self._or_exit(super().absorb(contributions))

    async def metrics(self) -> dict[str, float]:
        return asdict(self.counts) | {
            "resident_twins": self.resident_twins(),
            "missing_numbers": self._gaps.missing,
            "dead_letters": self._letters.open,
            "dead_letter_oldest_s": self._letters.oldest_s,
        }

    async def _or_exit(self, work: Awaitable[T]) -> T:
        """A host that lost its epoch has a successor: it must not answer for its twins again."""
        try:
            return await work
        except Fenced as fenced:
            _log.error("host_fenced", host=self.name, reason=str(fenced))
            ray.actor.exit_actor()
            raise


class IngestActor:
    """Consumes from the broker into the twins."""

    def __init__(self, wiring: Wiring) -> None:
        wiring.set_up_process()
        self._consumer = wiring.consumer(Directory(wiring.placement, RayCalls(wiring)), wiring.dead_letters())
        self._starting = asyncio.Lock()
        self._started = self._consumer is None
        _call_ready_soon()

    async def ready(self) -> None:
        """Consume. Raises: TransientFailure where the broker is away."""
        async with self._starting:
            if not self._started and self._consumer is not None:
                await self._consumer.start()
                self._started = True

    async def stop(self) -> None:
        if self._consumer is not None and self._started:
            await self._consumer.stop()


class GatewayActor:
    """Tells one ERP instance what the twins have decided."""

    def __init__(self, wiring: Wiring, erp: str) -> None:
        wiring.set_up_process()
        self._directory = Directory(wiring.placement, RayCalls(wiring))
        self._erp = TwinRef(Kind.ERP, erp)
        self._periods: dict[str, date] = {}
        self._periods_read_at: datetime | None = None
        self._gateway = Gateway(
            erp,
            wiring.store(),
            wiring.connector(erp),
            WallClock(),
            self._directory.take_events,
            closed_through=self._closed_through,
        )
        self._running: asyncio.Task[None] | None = None
        _call_ready_soon()

    async def ready(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Until a newer incarnation has taken over: then this one has nothing left to do."""
        try:
            await self._gateway.run()
        except Fenced as fenced:
            _log.error("gateway_fenced", erp=self._gateway.erp, reason=str(fenced))

    async def nudge(self) -> None:
        await self._gateway.nudge()

    async def metrics(self) -> dict[str, float]:
        return asdict(self._gateway.counts)

    async def _closed_through(self, company: str) -> date | None:
        now = datetime.now(UTC)
        if self._periods_read_at is None or now - self._periods_read_at > timedelta(seconds=PERIODS_CACHE_S):
            (answer,) = await self._directory.read(Aspect.DOCUMENT, [self._erp])
            closed = from_json(answer[1])["closed_through"] if answer is not None else {}
            self._periods = {name: date.fromisoformat(day) for name, day in closed.items()}
            self._periods_read_at = now
        return self._periods.get(company)


_RemoteHost = ray.remote(HostActor)
_RemoteIngest = ray.remote(IngestActor)
_RemoteGateway = ray.remote(GatewayActor)


# --- calls -----------------------------------------------------------------------------------------------


class RayCalls:
    """Implements HostCalls: hosts by actor name; a dedicated twin's actor starts with its first call."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._handles: dict[str, Any] = {}

    async def take(self, host: str, messages: list[Publication]) -> list[Verdict]:
        return await self._call(host, "take", messages)  # type: ignore[no-any-return]

    async def take_events(self, host: str, events: list[Event]) -> list[Verdict]:
        return await self._call(host, "take_events", events)  # type: ignore[no-any-return]

    async def absorb(self, host: str, contributions: list[Contribution]) -> None:
        await self._call(host, "absorb", contributions)

    async def read(self, host: str, aspect: Aspect, refs: list[TwinRef]) -> list[tuple[int, bytes] | None]:
        """A dedicated twin that has no actor is read by a pooled host: reading starts nothing."""
        if "/" in host and not self._runs(host):
            host = self._wiring.placement.pooled_names()[0]
        return await self._call(host, "read", aspect, refs)  # type: ignore[no-any-return]

    async def metrics(self, host: str) -> dict[str, float]:
        return await self._call(host, "metrics")  # type: ignore[no-any-return]

    async def _call(self, host: str, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._handle(host), method).remote(*arguments)
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except (RayActorError, ValueError) as error:
            self._handles.pop(host, None)
            raise TransientFailure(f"host {host} cannot be reached: {error}") from error

    def _runs(self, host: str) -> bool:
        if host in self._handles:
            return True
        try:
            self._handles[host] = ray.get_actor(host, NAMESPACE)
        except ValueError:
            return False
        return True

    def _handle(self, host: str) -> Any:
        if host not in self._handles:
            if "/" in host:
                self._handles[host] = start_host(self._wiring, host)
            else:
                self._handles[host] = ray.get_actor(host, NAMESPACE)
        return self._handles[host]


async def nudge_gateways(erps: Sequence[str]) -> None:
    for erp in erps:
        try:
            await ray.get_actor(_gateway_name(erp), NAMESPACE).nudge.remote()
        except (RayActorError, ValueError) as error:
            raise TransientFailure(f"gateway {erp} cannot be reached: {error}") from error


def _gateway_name(erp: str) -> str:
    return f"gateway-{erp}"


# --- start -----------------------------------------------------------------------------------------------

_ACTOR: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
    "max_concurrency": 1_000,
    "num_cpus": 0,
}
"""CPU is shared as the operating system shares it: hosts wait for the database as often as they compute."""


def start_host(wiring: Wiring, name: str) -> Any:
    return _RemoteHost.options(name=name, **_ACTOR).remote(wiring, name)


async def start(wiring: Wiring) -> None:
    """Start what is not running yet: hosts, gateways, ingest. Returns when all of them answer."""
    hosts = [start_host(wiring, name) for name in wiring.placement.pooled_names()]
    gateways = [
        _RemoteGateway.options(name=_gateway_name(erp), **_ACTOR).remote(wiring, erp) for erp in wiring.erps
    ]
    await asyncio.gather(*(actor.ready.remote() for actor in (*hosts, *gateways)))
    ingest = _RemoteIngest.options(name=INGEST, **_ACTOR).remote(wiring)
    await ingest.ready.remote()


async def wake(wiring: Wiring) -> None:
    """Make sure that ingest and gateways run, which does nothing where they do. Raises: TransientFailure."""
    try:
        names = [INGEST, *(_gateway_name(erp) for erp in wiring.erps)]
        await asyncio.gather(*(ray.get_actor(name, NAMESPACE).ready.remote() for name in names))
    except (RayActorError, RayTaskError, ValueError) as error:
        raise TransientFailure(f"cannot wake ingest and gateways: {error}") from error


async def stop(wiring: Wiring) -> None:
    """End the actors of this installation, ingest first; what is committed stays, the rest comes again."""
    try:
        ingest = ray.get_actor(INGEST, NAMESPACE)
        await ingest.stop.remote()
    except (RayActorError, ValueError) as error:
        _log.info("ingest_not_running", reason=str(error))
    names = [INGEST, *(_gateway_name(erp) for erp in wiring.erps), *wiring.placement.pooled_names()]
    names += [
        known["name"]
        for known in ray.util.list_named_actors(all_namespaces=True)
        if known["namespace"] == NAMESPACE and "/" in known["name"]
    ]
    for name in names:
        try:
            ray.kill(ray.get_actor(name, NAMESPACE))
        except ValueError:
            continue


async def metrics(wiring: Wiring) -> dict[tuple[str, str], dict[str, float]]:
    """(role, actor name) → counters, of the pooled hosts and the gateways."""
    names = [("host", name) for name in wiring.placement.pooled_names()]
    names += [("gateway", _gateway_name(erp)) for erp in wiring.erps]
    answers = await asyncio.gather(
        *(ray.get_actor(name, NAMESPACE).metrics.remote() for _, name in names), return_exceptions=True
    )
    return {
        who: answer
        for who, answer in zip(names, answers, strict=True)
        if not isinstance(answer, BaseException)
    }
