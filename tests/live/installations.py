"""Installations that the live tests start, feed and compare with the pure core."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from adapters.amqp.topology import Names, clear_away
from canonical.envelope import Event
from ops.demo.day import ANY_CLOCK_S
from ops.local import free_port, quiet, start_twins, stop_twins
from ops.settings import Settings
from ops.wiring import Installation
from tests.services import AMQP
from tests.world import World
from twins.ports import Publication
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory

KEY = "right"
HTTP_PORT = free_port()
"""Serve opens its port once."""
HEADERS = {"Authorization": f"Bearer {KEY}"}


def settings(folder: Path, **more: object) -> Settings:
    """The tests' facts have dates of their own, whatever this machine's clock says."""
    told = {
        "data_dir": folder,
        "api_keys": (SecretStr(KEY),),
        "http_port": HTTP_PORT,
        "ahead_max_s": ANY_CLOCK_S,
    }
    return Settings(**told | more)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(chosen: Settings) -> AsyncIterator[Installation]:
    installation = Installation(chosen)
    await start_twins(installation)
    try:
        yield installation
    finally:
        await stop_twins(installation)
        if chosen.amqp_url is not None:
            await clear_away(chosen.amqp_url, Names(chosen.amqp_prefix))


async def publish(installation: Installation, events: Sequence[Event]) -> None:
    from twins.runtime.cluster import RayCalls

    store = installation.store()
    publisher = installation.publisher(Directory(installation.placement, RayCalls(installation)), store)
    try:
        for start in range(0, len(events), 100):
            await publisher.publish([Publication(one.structured()) for one in events[start : start + 100]])
    finally:
        await publisher.close()
        await store.close()


def broker() -> str:
    url = os.environ.get(AMQP)
    if url is None:
        pytest.skip(f"no RabbitMQ: run through 'make test', or set {AMQP}")
    return url


async def all_stored(installation: Installation, events: Sequence[Event]) -> None:
    """Each of them: what the ERP replies is stored, too, and would be counted for those that still wait."""
    missing = {event.event_id for event in events}
    subjects = {event.subject for event in events}
    store = installation.store()
    try:
        async with asyncio.timeout(60):
            while missing := missing - {told.event.event_id for told in await store.told(subjects)}:
                await asyncio.sleep(0.2)
    finally:
        await store.close()


async def assert_equal(installation: Installation, events: Sequence[Event]) -> None:
    """Twins and live postings are what the pure core makes of the same events, once all is at rest."""
    from twins.runtime.cluster import RayCalls

    await quiet(installation, 0)
    expected = World().take_each(events)
    if installation.erps:
        expected.confirm()
    refs = sorted(expected.twins)
    answers = await Directory(installation.placement, RayCalls(installation)).read(Aspect.DOCUMENT, refs)
    for ref, answer in zip(refs, answers, strict=True):
        assert answer is not None, ref
        found = from_json(answer[1])
        del found["version"]
        assert found == from_json(to_json(expected.twins[ref].snapshot().document())), ref
    store = installation.store()
    live = await store.live_postings()
    await store.close()
    assert {key: record.posting for key, record in live.items()} == expected.live()
