"""The twins on Ray: hosts, ingest and gateways as named, detached actors, which only this starts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

import ray
import structlog
from pydantic_core import from_json
from ray.exceptions import RayActorError, RayTaskError

from canonical.envelope import Event
from canonical.errors import Fenced, Moving, TransientFailure
from canonical.identity import Kind, TwinRef, twin_ref
from twins.core.contributions import Contribution
from twins.core.placement import FIRST_HOST, Placement, is_dedicated
from twins.core.reconcile.difference import Kind as DifferenceKind
from twins.core.rules import Policy
from twins.ports import (
    Backfill,
    Backlog,
    Changes,
    CommandQueue,
    Consumer,
    Cutovers,
    DeadLetters,
    ErpConnector,
    ErpControl,
    GapStore,
    Intake,
    Placements,
    Publication,
    Queues,
    TwinStore,
    Verdict,
)
from twins.runtime.announcer import Announcer, forget
from twins.runtime.clock import WallClock
from twins.runtime.cores import keep_to_one_core
from twins.runtime.crew import Crew
from twins.runtime.expiring import Expiring
from twins.runtime.gaps import GapWatch
from twins.runtime.gateway import Gateway, gateway_name
from twins.runtime.host import Aspect, Residency, TwinHost
from twins.runtime.in_time import in_time
from twins.runtime.ingest import Directory
from twins.runtime.ingests import IngestWatch, ingest_name, ingest_names
from twins.runtime.letters import LetterWatch
from twins.runtime.line import ErpLine, Pace
from twins.runtime.reconcile.schedule import DIFFERENCES, Schedule
from twins.runtime.stamps import Board, Place

_log = structlog.get_logger()

NAMESPACE = "twinsync"
WATCH = "watch"
"""Name of the concurrency group in which an actor says that it is alive."""
PERIODS_CACHE_S = 5.0
READY_EVERY_S = 0.5
START_S = 60.0
"""How long an actor may take to start before it counts as frozen."""
GONE_WITHIN_S, GONE_LOOK_S = 5.0, 0.02
"""How long, and how often, it is looked whether an actor that was killed is gone."""
METRICS_WITHIN_S = 3.0
"""A scrape must not wait for a database that says nothing: then these figures are left out."""
Plain = tuple[bytes, Mapping[str, str], str | None]
"""A Publication in built-in types, which are pickled without a call into Python for each."""
HAS_BOARDS = hasattr(os, "memfd_create")
T = TypeVar("T")


class Store(
    TwinStore, Placements, GapStore, CommandQueue, ErpControl, Cutovers, DeadLetters, Changes, Protocol
):
    """What a host and a gateway need of the database."""


class Shadow(CommandQueue, Protocol):
    """What an ERP instance is told in shadow of another, and keeps of its answers."""

    async def reply(self, events: Sequence[Event]) -> list[Verdict]: ...


class Wiring(Protocol):
    """How this installation is put together; it travels to every actor, which opens its own connections."""

    @property
    def placement(self) -> Placement:
        """As the settings have it; see twins.ports.Placements."""
        ...

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

    @property
    def lease(self) -> timedelta:
        """How long an actor may be silent before it is replaced."""
        ...

    @property
    def archive_after(self) -> timedelta | None: ...

    @property
    def latency_target(self) -> timedelta:
        """How soon what may not wait is to be visible, whatever else comes."""
        ...

    def store(self) -> Store: ...

    def dead_letters(self) -> DeadLetters: ...

    def connector(self, erp: str) -> ErpConnector: ...

    def pace(self, erp: str) -> Pace: ...

    def shadow(self, erp: str) -> Shadow: ...

    def crew(self, hosts: int) -> Crew:
        """*hosts*: how many share the twins by now."""
        ...

    def consumer(self, intake: Intake, dead_letters: DeadLetters) -> Consumer | None: ...

    def queues(self) -> Queues | None:
        """None without a broker."""
        ...

    @property
    def changes_kept(self) -> timedelta: ...

    @property
    def announces(self) -> bool:
        """Changes are told at a broker, too."""
        ...

    def announcer(self) -> Announcer | None:
        """None where they are not."""
        ...

    def backfill(self) -> Backfill | None: ...

    @property
    def backfill_patience(self) -> timedelta: ...

    def schedule(self, directory: Directory) -> Schedule | None:
        """Reconciling by itself; None: only when asked."""
        ...

    @property
    def host_on_one_core(self) -> bool: ...

    def set_up_process(self) -> None:
        """Logging and event loop of an actor's process."""
        ...


# --- actors ----------------------------------------------------------------------------------------------


class Watched:
    """An actor that says it is alive however busy it is, and sees to it that the others are.

    Ray restarts an actor by its constructor, which has no event loop: its own first call has one. Such a call
    is lost where Ray still counts the actor as restarting, so it is made until one arrives.
    """

    _watching: asyncio.Task[None] | None = None
    _is_called = False

    def _call_ready(self) -> None:
        myself, self._is_called = ray.get_runtime_context().current_actor, False

        def insist() -> None:
            while not self._is_called:
                myself.ready.remote()
                sleep(READY_EVERY_S)

        threading.Thread(target=insist, name="first call", daemon=True).start()

    @ray.method(concurrency_group=WATCH)  # type: ignore[untyped-decorator]
    async def alive(self) -> int:
        """The process id. Answered by a thread of its own: only a process that is frozen or gone does not."""
        return os.getpid()

    def _watch(self, wiring: Wiring) -> None:
        if self._watching is None:
            myself = ray.get_runtime_context().get_actor_name()
            self._watching = asyncio.create_task(_watch_others(wiring, str(myself)))


class HostActor(Watched, TwinHost):
    """A twin host in a process of its own."""

    def __init__(self, wiring: Wiring, name: str) -> None:
        wiring.set_up_process()
        if wiring.host_on_one_core and not is_dedicated(name):
            keep_to_one_core(int(name.rpartition("-")[2]))
        directory = Directory(wiring.placement, RayCalls(wiring))
        store = wiring.store()
        super().__init__(
            name,
            store,
            WallClock(),
            wiring.policy,
            placement=wiring.placement,
            residency=wiring.residency,
            ahead_max=wiring.ahead_max,
            on_commands=lambda: nudge_gateways(wiring.erps),
            post=directory.post,
            archive_after=wiring.archive_after,
            board=_board(name),
            latency_target=wiring.latency_target,
            boards=HAS_BOARDS,
        )
        self._wiring = wiring
        self._dead_letters = self._changes = store
        self._gaps = GapWatch(store, wiring.backfill(), WallClock(), wiring.backfill_patience)
        self._letters = LetterWatch()
        self._leads = name == FIRST_HOST
        self._ingests = self._ingest_watch(wiring) if self._leads else None
        self._schedule = wiring.schedule(directory) if self._leads else None
        self._spared_until = monotonic() + START_S
        self._timers: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._call_ready()

    async def ready(self) -> str:
        """Start the timers. Answers the host's name."""
        self._is_called = True
        if self._timers is None:
            self._timers = asyncio.create_task(self.run_timers(self._wiring.sweep_every))
            self._timers.add_done_callback(lambda _: self._call_ready())
        elif self._timers.done():  # fenced; and Ray lets an actor exit within a call only
            await self._or_exit(self._timers)
        if self._board is not None and self._renewing is None:
            self._renewing = asyncio.create_task(self.run_board())
        if self._leads:
            self._watch(self._wiring)
        return self.name

    async def board(self) -> Place | None:
        """Where processes of this machine see what changes here."""
        return None if self._board is None else self._board.place

    async def look_around(self) -> None:
        """The first host also keeps as many ingest actors as the queues need, wakes those without a broker,
        asks for what is missing, counts dead letters, forgets old changes, and reconciles when it is due:
        each of it, whatever becomes of the rest. Raises: Fenced; TransientFailure.
        """
        self._check_needed()
        failures: list[Exception] = []
        for duty in self._duties():
            try:
                await duty
            except Fenced:
                raise
            except Exception as failure:  # noqa: BLE001 - raised once all else is done
                failures.append(failure)
        if failures:
            raise failures[0]

    def _duties(self) -> Iterator[Awaitable[object]]:
        if self._ingests is not None:
            yield self._ingests.look()
        if self._leads:
            yield wake(self._wiring)
            yield self._gaps.look()
            yield self._letters.look(self._dead_letters, self._clock.now())
            yield forget(self._changes, self._clock.now() - self._wiring.changes_kept, self._wiring.announces)
        if self._schedule is not None:
            yield self._schedule.look()

    def _check_needed(self) -> None:
        """An actor of one twin that lives elsewhere has nothing to do; a new one may be about to have it."""
        if not is_dedicated(self.name):
            return
        if self._is_mine(twin_ref(self.name)):
            self._spared_until = 0.0
        elif monotonic() > self._spared_until:
            raise Fenced(f"{self.name} has no actor of its own any more")

    async def take_plain(self, messages: list[Plain], may_wait: bool) -> list[Verdict]:
        told = [Publication(*one) for one in messages]
        return await self._or_exit(self.take(told, may_wait=may_wait))

    async def take_events(self, events: Sequence[Event]) -> list[Verdict]:
        return await self._or_exit(super().take_events(events))

    async def absorb(self, contributions: Sequence[Contribution]) -> None:
        await self._or_exit(super().absorb(contributions))

    def _ingest_watch(self, wiring: Wiring) -> IngestWatch | None:
        """Without a broker there is nothing that more could take."""
        queues = wiring.queues()
        if queues is None:
            return None
        return IngestWatch(
            lambda: wiring.crew(self._placement.pooled_hosts),
            queues,
            _running,
            lambda name: start_ingest(wiring, name),
            lambda name: ray.get_actor(name, NAMESPACE).drain.remote(),
            monotonic,
        )

    async def metrics(self) -> dict[str, float]:
        return asdict(self.counts) | {
            "resident_twins": self.resident_twins(),
            "placement": self._placement.version,
            "missing_numbers": self._gaps.missing,
            "dead_letters": self._letters.open,
            "dead_letter_oldest_s": self._letters.oldest_s,
            **(self._ingests.figures() if self._ingests is not None else {}),
            **self._reconciled(),
        }

    def _reconciled(self) -> dict[str, float]:
        if self._schedule is None:
            return {}
        return {DIFFERENCES + kind: self._schedule.counts.get(kind, 0) for kind in DifferenceKind}

    async def node(self) -> str:
        """Id of the Ray node that it runs on."""
        return str(ray.get_runtime_context().get_node_id())

    async def _or_exit(self, work: Awaitable[T]) -> T:
        """A host that lost its epoch has a successor: it must not answer for its twins again."""
        try:
            return await work
        except Fenced as fenced:
            _log.error("host_fenced", host=self.name, reason=str(fenced))
            ray.actor.exit_actor()
            raise


def _board(host: str) -> Board | None:
    """A megabyte, which a host of one twin does without, as do systems that share no memory this way."""
    return Board() if HAS_BOARDS and not is_dedicated(host) else None


class IngestActor(Watched):
    """Consumes from the broker into the twins. Any takes any message, as order does not matter."""

    def __init__(self, wiring: Wiring) -> None:
        wiring.set_up_process()
        self._wiring = wiring
        self._consumer = wiring.consumer(Directory(wiring.placement, RayCalls(wiring)), wiring.dead_letters())
        self._starting = asyncio.Lock()
        self._started = self._consumer is None
        self._announcer = wiring.announcer() if self._is_first() else None
        self._announcing: asyncio.Task[None] | None = None
        self._call_ready()

    async def ready(self) -> None:
        """Consume, and the first announces what changes. Raises: TransientFailure with the broker away."""
        self._is_called = True
        if self._is_first():
            self._watch(self._wiring)
        if self._announcer is not None and self._announcing is None:
            self._announcing = asyncio.create_task(self._announcer.run())
        async with self._starting:
            if not self._started and self._consumer is not None:
                await self._consumer.start()
                self._started = True

    @staticmethod
    def _is_first() -> bool:
        return bool(ray.get_runtime_context().get_actor_name() == ingest_name(0))

    async def stop(self) -> None:
        if self._consumer is not None and self._started:
            await self._consumer.stop()

    async def metrics(self) -> dict[str, float]:
        consumed = {} if self._consumer is None else self._consumer.figures()
        return consumed | ({} if self._announcer is None else self._announcer.figures())

    async def drain(self) -> None:
        """Finish what is being taken, and end: an actor that exits by itself is not started anew."""
        await self.stop()
        _log.warning("ingest_drained")
        ray.actor.exit_actor()


class GatewayActor(Watched):
    """Tells one ERP instance what the twins have decided."""

    def __init__(self, wiring: Wiring, erp: str) -> None:
        wiring.set_up_process()
        self._directory = Directory(wiring.placement, RayCalls(wiring))
        self._erp = TwinRef(Kind.ERP, erp)
        self._periods = Expiring(self._read_periods, PERIODS_CACHE_S)
        self._store, shadow = wiring.store(), wiring.shadow(erp)
        line = ErpLine(erp, wiring.connector(erp), wiring.pace(erp))
        known: dict[str, Any] = {
            "closed_through": self._closed_through,
            "is_paused": self._is_paused,
            "inherit_after_s": line.pace.timeout_s,
        }
        self._gateway = Gateway(
            erp,
            self._store,
            line,
            WallClock(),
            self._directory.take_events,
            host_of=lambda owner: self._directory.placement.host_of(owner),
            **known,
        )
        self._shadow = Gateway(erp, shadow, line, WallClock(), shadow.reply, name=f"shadow-{erp}", **known)
        """For what it is told in shadow of another instance; idle where it is not."""
        self._running: list[asyncio.Task[None]] = []
        self._call_ready()

    async def ready(self) -> None:
        self._is_called = True
        if not self._running:
            self._running = [asyncio.create_task(self._run(one)) for one in (self._gateway, self._shadow)]

    async def _run(self, gateway: Gateway) -> None:
        """Until a newer incarnation has taken over: then this one has nothing left to do."""
        try:
            await gateway.run()
        except Fenced as fenced:
            _log.error("gateway_fenced", erp=gateway.erp, reason=str(fenced))

    async def nudge(self) -> None:
        await self._gateway.nudge()
        await self._shadow.nudge()

    async def metrics(self) -> dict[str, float]:
        """With what the database says of its queue, as old as this call."""
        backlog = (await self._store.backlogs()).get(self._gateway.erp, Backlog())
        waited_s = (datetime.now(UTC) - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        return self._gateway.figures() | {
            "queued": backlog.queued,
            "troubled": backlog.troubled,
            "oldest_s": waited_s,
            "refusals_open": (await self._store.refusals()).get(self._gateway.erp, 0),
        }

    async def _is_paused(self) -> bool:
        return self._gateway.erp in await self._store.pauses()

    async def _closed_through(self, company: str) -> date | None:
        return (await self._periods.get()).get(company)

    async def _read_periods(self) -> dict[str, date]:
        (answer,) = await self._directory.read(Aspect.DOCUMENT, [self._erp])
        closed = from_json(answer[1])["closed_through"] if answer is not None else {}
        return {name: date.fromisoformat(day) for name, day in closed.items()}


_actor = ray.remote(concurrency_groups={WATCH: 1})
_RemoteHost = _actor(HostActor)
_RemoteIngest = _actor(IngestActor)
_RemoteGateway = _actor(GatewayActor)


# --- calls -----------------------------------------------------------------------------------------------


class RayCalls:
    """Implements HostCalls: hosts by actor name; a dedicated twin's actor starts with its first call."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._handles: dict[str, Any] = {}

    async def placement(self) -> Placement:
        return await self._call(FIRST_HOST, "look")  # type: ignore[no-any-return]

    async def take(self, host: str, messages: list[Publication], *, may_wait: bool) -> list[Verdict]:
        plain: list[Plain] = [(one.body, one.headers, one.content_type) for one in messages]
        return await self._call(host, "take_plain", plain, may_wait)  # type: ignore[no-any-return]

    async def take_events(self, host: str, events: list[Event]) -> list[Verdict]:
        return await self._call(host, "take_events", events)  # type: ignore[no-any-return]

    async def absorb(self, host: str, contributions: list[Contribution]) -> None:
        await self._call(host, "absorb", contributions)

    async def read(self, host: str, aspect: Aspect, refs: list[TwinRef]) -> list[tuple[int, bytes] | None]:
        """A dedicated twin that has no actor is read by a pooled host: reading starts nothing."""
        if is_dedicated(host) and not self._runs(host):
            return await self._call(FIRST_HOST, "look_up", aspect, refs)  # type: ignore[no-any-return]
        return await self._call(host, "read", aspect, refs)  # type: ignore[no-any-return]

    async def news(
        self, host: str, aspect: Aspect, ref: TwinRef, known: int | None, patience_s: float
    ) -> tuple[int, bytes] | None:
        if is_dedicated(host) and not self._runs(host):
            return (await self.read(host, aspect, [ref]))[0]
        return await self._call(host, "news", aspect, ref, known, patience_s)  # type: ignore[no-any-return]

    async def board(self, host: str) -> Place | None:
        """See HostActor.board; a dedicated twin has none. Raises: TransientFailure."""
        return None if is_dedicated(host) else await self._call(host, "board")

    async def check(self) -> None:
        """Returns when all pooled hosts answer. Raises: TransientFailure."""
        names = (await self._call(FIRST_HOST, "goes_by")).pooled_names()
        await asyncio.gather(*(self._call(name, "ready") for name in names))

    async def metrics(self, host: str) -> dict[str, float]:
        return await self._call(host, "metrics")  # type: ignore[no-any-return]

    async def _call(self, host: str, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._handle(host), method).remote(*arguments)
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except (RayActorError, ValueError) as error:
            self._handles.pop(host, None)
            raise Moving(f"host {host} cannot be reached: {error}") from error

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
            if is_dedicated(host):
                self._handles[host] = start_host(self._wiring, host)
            else:
                self._handles[host] = ray.get_actor(host, NAMESPACE)
        return self._handles[host]


async def nudge_gateways(erps: Sequence[str]) -> None:
    for erp in erps:
        try:
            await ray.get_actor(gateway_name(erp), NAMESPACE).nudge.remote()
        except (RayActorError, ValueError) as error:
            raise TransientFailure(f"gateway {erp} cannot be reached: {error}") from error


# --- start -----------------------------------------------------------------------------------------------

_ACTOR: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
    "max_concurrency": 1_000,
    "num_cpus": 0.001,
    "scheduling_strategy": "SPREAD",
}
"""CPU is shared as the operating system shares it: hosts wait for the database as often as they compute.
The thousandth that is asked for keeps them off a head that offers none, and makes Ray heed the strategy: it
hands an actor that asks for nothing to a node at random, and that node may keep it."""


def start_host(wiring: Wiring, name: str, place: Any = "SPREAD") -> Any:
    """*place*: a Ray scheduling strategy."""
    return _RemoteHost.options(name=name, **_ACTOR | {"scheduling_strategy": place}).remote(wiring, name)


def start_ingest(wiring: Wiring, name: str) -> Any:
    return _RemoteIngest.options(name=name, **_ACTOR).remote(wiring)


def _least_ingests(wiring: Wiring) -> list[str]:
    """Those that run at any time."""
    return [ingest_name(number) for number in range(wiring.crew(1).least)]


async def start(wiring: Wiring) -> None:
    """Start what is not running yet: hosts, gateways, ingest. Returns when all of them answer."""
    store = wiring.store()
    try:
        placement = await store.configure(wiring.placement)
        hosts = [start_host(wiring, name) for name in placement.pooled_names()]
        gateways = [
            _RemoteGateway.options(name=gateway_name(erp), **_ACTOR).remote(wiring, erp)
            for erp in wiring.erps
        ]
        await asyncio.gather(*(actor.ready.remote() for actor in (*hosts, *gateways)))
        await end_unneeded(store)
    finally:
        await store.close()
    ingests = [start_ingest(wiring, name) for name in _least_ingests(wiring)]
    await asyncio.gather(*(ingest.ready.remote() for ingest in ingests))


async def wake(wiring: Wiring) -> None:
    """Make sure that ingest and gateways run, which does nothing where they do. Raises: TransientFailure.

    An ingest that may come and go is woken too, and not missed.
    """
    names = [*_least_ingests(wiring), *(gateway_name(erp) for erp in wiring.erps)]
    further = set(ingest_names(_running())) - set(names)
    await asyncio.gather(*map(_wake, further), return_exceptions=True)
    try:
        await asyncio.gather(*map(_wake, names))
    except (RayActorError, RayTaskError, ValueError) as error:
        raise TransientFailure(f"cannot wake ingest and gateways: {error}") from error


async def _wake(name: str) -> None:
    await ray.get_actor(name, NAMESPACE).ready.remote()


async def _watch_others(wiring: Wiring, myself: str) -> None:
    """Replace every actor of this installation that falls silent for a lease, until cancelled.

    One that has never answered is being started, and is given longer; so is another under the same name.
    """
    seen: dict[Any, float] = {}
    answered: set[Any] = set()
    while True:
        await asyncio.sleep(wiring.lease.total_seconds() / 2)
        others = _others(myself)
        answers = await asyncio.gather(*(_answers(actor, wiring.lease) for actor in others))
        for (actor, name), answer in zip(others.items(), answers, strict=True):
            since = seen.setdefault(actor, monotonic())
            if answer is Life.SILENT and (actor in answered or monotonic() - since > START_S):
                _replace(name)
            if answer is not Life.SILENT:
                seen[actor] = monotonic()
        answered = {actor for actor, answer in zip(others, answers, strict=True) if answer is Life.ALIVE}
        seen = {actor: since for actor, since in seen.items() if actor in others}


class Life(Enum):
    ALIVE = "alive"
    SILENT = "silent"
    AWAY = "being started, or stopped"


def _others(myself: str) -> dict[Any, str]:
    """Actors of this installation and their names."""
    found: dict[Any, str] = {}
    for name in sorted(set(_running()) - {myself}):
        with suppress(ValueError):  # it was stopped meanwhile
            found[ray.get_actor(name, NAMESPACE)] = name
    return found


async def _answers(actor: Any, lease: timedelta) -> Life:
    try:
        async with asyncio.timeout(lease.total_seconds()):
            await actor.alive.remote()
    except TimeoutError:
        return Life.SILENT
    except RayActorError:
        return Life.AWAY
    return Life.ALIVE


def _replace(name: str) -> None:
    """Ray notices processes that ended, not those that are frozen: killed, they are started anew.

    Killing one that was only slow costs time and nothing else: its successor's epoch fences it.
    """
    _log.error("actor_silent", actor=name)
    try:
        ray.kill(ray.get_actor(name, NAMESPACE), no_restart=False)
    except ValueError:
        return  # it was stopped meanwhile


def _running() -> list[str]:
    """Names of this installation's actors."""
    known = ray.util.list_named_actors(all_namespaces=True)
    return [str(one["name"]) for one in known if one["namespace"] == NAMESPACE]


async def end_unneeded(placements: Placements) -> None:
    """End the hosts that have no twin left, once what they have in hand is committed.

    Each is asked for anew: others may change the placement meanwhile.
    """
    for name in running_hosts():
        if (await placements.placement()).names(name):
            continue
        try:
            host = ray.get_actor(name, NAMESPACE)
            await host.drain.remote()
            ray.kill(host)
        except (RayActorError, RayTaskError, ValueError) as error:
            _log.info("host_not_running", host=name, reason=str(error))


def running_hosts() -> list[str]:
    """Names of the hosts that run, pooled or not."""
    return [name for name in _running() if name.startswith("host-") or is_dedicated(name)]


async def stop(wiring: Wiring) -> None:
    """End the actors of this installation, ingest first; what is committed stays, the rest comes again."""
    ingests = ingest_names(_running())
    await asyncio.gather(*map(_stop_ingest, ingests))
    gateways = (gateway_name(erp) for erp in wiring.erps)
    await _end({*ingests, *gateways, *running_hosts()})
    await _end(set(ingest_names(_running())))  # the first host may have started one meanwhile


async def _stop_ingest(name: str) -> None:
    try:
        await ray.get_actor(name, NAMESPACE).stop.remote()
    except (RayActorError, ValueError) as error:
        _log.info("ingest_not_running", actor=name, reason=str(error))


async def _end(names: set[str]) -> None:
    """Returns when nobody finds them any more, or after a while."""
    for name in names:
        with suppress(ValueError):
            ray.kill(ray.get_actor(name, NAMESPACE))
    give_up_at = monotonic() + GONE_WITHIN_S
    while names & set(_running()) and monotonic() < give_up_at:  # noqa: ASYNC110 - Ray says so to nobody
        await asyncio.sleep(GONE_LOOK_S)


async def metrics(wiring: Wiring) -> dict[tuple[str, str], dict[str, float]]:
    """(role, actor name) → figures, of the hosts, ingests and gateways that answer in time.

    Of twins with an actor of their own, those alone that somebody has pinned: a kind may have any number.
    """
    names = [("host", name) for name in running_hosts() if not _is_one_of_a_kind(wiring, name)]
    names += [("ingest", name) for name in ingest_names(_running())]
    names += [("gateway", gateway_name(erp)) for erp in wiring.erps]
    return await in_time({who: figures_of(who[1]) for who in names}, METRICS_WITHIN_S)


def _is_one_of_a_kind(wiring: Wiring, host: str) -> bool:
    return is_dedicated(host) and twin_ref(host).kind in wiring.placement.dedicated


async def figures_of(name: str) -> dict[str, float]:
    return await ray.get_actor(name, NAMESPACE).metrics.remote()  # type: ignore[no-any-return]


async def gateways(wiring: Wiring) -> dict[str, dict[str, float]]:
    """Figures of the gateways that answer in time, by ERP."""
    return await in_time({erp: figures_of(gateway_name(erp)) for erp in wiring.erps}, METRICS_WITHIN_S)
