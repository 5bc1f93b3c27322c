"""docs/changes.md, as those who read it would run it: who follows ends where the twins are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from pydantic_core import from_json

from canonical.identity import Kind
from ops.demo.day import make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from ops.local import start_http
from ops.wiring import Installation
from tests.live.installations import KEY, all_stored, broker, publish, running, settings
from tests.stories import golden
from twins.ports import TwinFilter
from twins.runtime.ingests import ingest_name

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]
TOLD = Path(__file__).parents[2] / "docs" / "changes.md"
BOUNDED_S = 60.0
Heard = dict[str, tuple[str, int]]
"""Twin → status and version."""


def example() -> str:
    (code,) = re.findall(r"^```python hear\n(.*?)^```", TOLD.read_text(), re.DOTALL | re.MULTILINE)
    return str(code)


@contextlib.asynccontextmanager
async def started(*command: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, **more},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def twins(installation: Installation, kinds: Iterable[Kind]) -> Heard:
    store = installation.store()
    try:
        rows = [row for kind in kinds for row in await store.rows(TwinFilter(kind), 10_000)]
    finally:
        await store.close()
    return {str(row.ref): (row.status, row.version) for row in rows}


async def test_who_listens_at_the_broker_ends_where_the_twins_are(tmp_path: Path) -> None:
    """Whoever tells it dies in between."""
    import ray

    from twins.runtime.cluster import NAMESPACE

    kinds = (Kind.ORDER, Kind.STOCK, Kind.SHIPMENT)
    url, prefix = broker(), f"told-{secrets.token_hex(3)}"
    day = make_day(12, 40)
    events = told(day, disorder(day, 12, duplicated=0.1, late=0.2))
    heard: Heard = {}

    async def listen(out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            twin, status, version, *_ = line.decode().split()
            heard[twin] = (status, int(version))

    names = {"TWINSYNC_AMQP_URL": url, "TWINSYNC_AMQP_PREFIX": prefix}
    chosen = settings(tmp_path, amqp_url=url, amqp_prefix=prefix)
    async with running(chosen) as installation, started("-c", example(), **names) as listener:
        assert listener.stdout is not None
        listening = asyncio.create_task(listen(listener.stdout))
        half = len(events) // 2
        await publish(installation, events[:half])
        async with asyncio.timeout(BOUNDED_S):
            while not heard:
                await asyncio.sleep(0.1)
        ray.kill(ray.get_actor(ingest_name(0), NAMESPACE), no_restart=False)
        await publish(installation, events[half:])
        await all_stored(installation, events)
        wanted = await twins(installation, kinds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUNDED_S):
                while not wanted.items() <= heard.items():
                    await asyncio.sleep(0.1)
                    wanted = await twins(installation, kinds)
        assert {twin: heard.get(twin) for twin in wanted} == wanted
        await _remove(url, f"{prefix}.example")
        listening.cancel()


async def _remove(url: str, queue: str) -> None:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        await (await connection.channel()).queue_delete(queue)


async def test_who_follows_over_http_ends_where_the_twins_are(tmp_path: Path) -> None:
    heard: Heard = {}

    async def listen(out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            change = from_json(line)
            heard[change["subject"]] = (change["data"]["status"], change["data"]["version"])

    async with running(settings(tmp_path)) as installation:
        start_http(installation)
        address = f"http://127.0.0.1:{installation.settings.http_port}"
        known = {"TWINSYNC_URL": address, "TWINSYNC_API_KEY": KEY}
        await publish(installation, golden()[:-3])
        command = ("-m", "ops.cli", "follow", "--json", "--after", "0", "--kind", "order")
        async with started(*command, **known) as follower:
            assert follower.stdout is not None
            listening = asyncio.create_task(listen(follower.stdout))
            async with asyncio.timeout(BOUNDED_S):
                while not heard:
                    await asyncio.sleep(0.1)
            await publish(installation, golden()[-3:])
            wanted = await twins(installation, [Kind.ORDER])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BOUNDED_S):
                    while heard != wanted:
                        await asyncio.sleep(0.1)
            assert heard == wanted, "and of no other kind"
            listening.cancel()
