"""HTTP replicas come and go with how many requests there are at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.local import start_http
from tests.live.installations import HEADERS, publish, running, settings
from tests.stories import ORDER, golden

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]

READERS = 12
HASTY = {"http_ongoing": 2.0, "http_grow_after_s": 0.3, "http_shrink_after_s": 1.0, "http_look_back_s": 1.5}


def replicas() -> int:
    """Those that run."""
    from ray import serve

    states: Any = serve.status().applications["twinsync"].deployments["twinsync"].replica_states
    return int(states.get("RUNNING", 0))


async def _read_on(address: str, read: list[int], stopping: asyncio.Event) -> None:
    """What waits for the database: a twin that is remembered is read at once, and never many at a time.

    HAProxy ends connections that are kept open when replicas come or go: then it is asked anew.
    """
    async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=20) as http:
        while not stopping.is_set():
            try:
                read.append((await http.get(f"/v1/orders/{ORDER}/history")).status_code)
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def _until_there_are(many: int) -> None:
    async with asyncio.timeout(40):
        while await asyncio.to_thread(replicas) != many:
            await asyncio.sleep(0.1)


async def test_a_second_replica_comes_while_many_read_and_goes_when_nobody_does(tmp_path: Path) -> None:
    async with running(settings(tmp_path, http_replicas=1, http_replicas_max=2, **HASTY)) as installation:
        address = await asyncio.to_thread(start_http, installation)
        await publish(installation, golden())
        await _until_there_are(1)
        read, stopping = list[int](), asyncio.Event()
        readers = [asyncio.create_task(_read_on(address, read, stopping)) for _ in range(READERS)]
        try:
            await _until_there_are(2)
        finally:
            stopping.set()
            await asyncio.gather(*readers)
        assert set(read) == {200}
        await _until_there_are(1)
        async with httpx.AsyncClient(base_url=address, headers=HEADERS) as http:
            assert (await http.get(f"/v1/orders/{ORDER}")).status_code == 200
