"""The HTTP side: ``serve run serve_app:app``. Composition root of the Ray Serve replicas."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from ray import serve
from starlette.types import ASGIApp

from adapters.http.api import Service, build_api
from adapters.http.erps import ErpDesk
from adapters.http.health import Readiness
from adapters.http.hosts import HostDesk
from adapters.http.reconciliations import Reconciling
from canonical.errors import TransientFailure
from ops.local import start_twins
from ops.metrics import exposition
from ops.settings import Settings
from ops.snapshots import read_snapshot
from ops.translators import REFUSALS, SIGNATURES, TRANSLATORS
from ops.wiring import Installation
from twins.runtime import placing
from twins.runtime.clock import WallClock
from twins.runtime.cluster import RayCalls, gateways, metrics
from twins.runtime.coalesce import CoalescedReads
from twins.runtime.cutover import report
from twins.runtime.feed import ChangeFeed
from twins.runtime.ingest import Directory
from twins.runtime.inquiry import Inquiry
from twins.runtime.kept import Boards, KeptReads
from twins.runtime.letters import LetterDesk
from twins.runtime.moving import level

_log = structlog.get_logger()

ONGOING_REQUESTS_MAX = 512
"""Ray Serve's default of five would make readers queue before they can be coalesced."""
SHUTDOWN_TIMEOUT_S = 5.0
"""Every answer takes milliseconds: one that takes longer will not come."""
REPLICA: dict[str, Any] = {
    "max_ongoing_requests": ONGOING_REQUESTS_MAX,
    "ray_actor_options": {"num_cpus": 0},
    "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
}
"""A line of log for each request would be a third of what a read costs."""
REPORTS_IN_LOOK_BACK = 3
"""How often, within the time that is averaged, a replica tells how many requests it has: as Serve does."""
START_AGAIN_S = 5.0
"""Between attempts to start the twins while database or broker are away."""


def _service(installation: Installation) -> Service:
    settings, calls = installation.settings, RayCalls(installation)
    directory = Directory(installation.placement, calls)
    store = installation.store()
    publisher = installation.publisher(directory, store)
    checks = {"database": store.ping, "hosts": calls.check}
    if settings.amqp_url is not None:
        checks["broker"] = publisher.check
    readiness = Readiness(checks)
    return Service(
        intake=directory,
        publisher=publisher,
        publishes_later=settings.amqp_url is not None,
        reads=KeptReads(CoalescedReads(directory), directory, Boards(calls.board, directory.look)),
        store=store,
        gaps=store,
        inquiry=Inquiry(store, store, installation.policy),
        translators=TRANSLATORS,
        signatures=SIGNATURES,
        refusals=REFUSALS,
        connection=installation.connection,
        audit=store,
        reconciling=Reconciling(
            installation.erps,
            installation.reconciliation(store, directory),
            installation.corrector(store, publisher),
            store,
            read_snapshot,
            WallClock(),
        ),
        dead_letters=store,
        letter_desk=LetterDesk(store, directory),
        api_keys=settings.key_names,
        webhook_secrets={
            name: secret.get_secret_value() for name, secret in settings.webhook_secrets.items()
        },
        metrics=lambda: exposition(installation, metrics, readiness.states),
        erps=ErpDesk(
            installation.erps,
            store,
            store,
            publisher,
            lambda: gateways(installation),
            store,
            partial(report, store, installation.books),
        ),
        hosts=HostDesk(
            store.placement,
            placing.seen,
            partial(placing.resize, installation, store),
            partial(placing.pin, installation, store),
            partial(placing.unpin, installation, store),
            partial(_levelled, installation),
            store,
        ),
        feed=ChangeFeed(store),
        checks=checks,
        latest=lambda: datetime.now(UTC) + installation.ahead_max,
        body_bytes_max=settings.http_body_bytes_max,
    )


async def _levelled(installation: Installation) -> tuple[list[dict[str, str]], int]:
    moves, left = await level(installation)
    return [asdict(one) for one in moves], left


def replicas(settings: Settings) -> dict[str, Any]:
    """A fixed number of them, or bounds and what Serve keeps within them by."""
    most = settings.http_replicas_max or settings.http_replicas
    if most <= settings.http_replicas:
        return {"num_replicas": settings.http_replicas}
    scaling = {
        "min_replicas": settings.http_replicas,
        "max_replicas": most,
        "target_ongoing_requests": settings.http_ongoing,
        "upscale_delay_s": settings.http_grow_after_s,
        "downscale_delay_s": settings.http_shrink_after_s,
        "look_back_period_s": settings.http_look_back_s,
        "metrics_interval_s": settings.http_look_back_s / REPORTS_IN_LOOK_BACK,
    }
    return {"autoscaling_config": scaling}


def build(installation: Installation) -> serve.Application:
    """The application for an installation; every replica opens connections of its own."""
    settings = installation.settings

    def make_api() -> ASGIApp:
        installation.set_up_process()
        return build_api(_service(installation))

    @serve.deployment(
        name="twinsync",
        graceful_shutdown_timeout_s=SHUTDOWN_TIMEOUT_S,
        **replicas(settings),
        **REPLICA,
    )
    @serve.ingress(make_api)
    class Twinsync:
        """Answers the OMS."""

    return Twinsync.bind()  # type: ignore[attr-defined]


def app(arguments: dict[str, str]) -> serve.Application:
    """For ``serve run serve_app:app``, beside twins that run: configured by the environment alone."""
    return build(Installation(Settings()))


def service(arguments: dict[str, str]) -> serve.Application:
    """For a RayService, where nobody runs ``twinsync up``: starts what does not run yet, then serves.

    Configured by the environment alone.
    """
    installation = Installation(Settings())
    asyncio.run(_start(installation))
    return build(installation)


async def _start(installation: Installation) -> None:
    """Patient with the world: Serve would not build an application again that failed once."""
    while True:
        try:
            return await start_twins(installation)
        except TransientFailure as failure:
            _log.warning("twins_not_started", reason=str(failure))
            await asyncio.sleep(START_AGAIN_S)
