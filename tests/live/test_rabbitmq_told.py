"""docs/rabbitmq.md, as those who read it would run it: a fact is told, and an ERP answers every command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_core import from_json

from canonical.identity import stock
from tests.live.installations import all_stored, assert_equal, broker, publish, running, settings
from tests.stories import golden
from tests.world import World
from twins.core.ledger import Status
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]
TOLD = Path(__file__).parents[2] / "docs" / "rabbitmq.md"
BOUNDED_S = 60.0


def example(name: str) -> str:
    (code,) = re.findall(rf"^```python {name}\n(.*?)^```", TOLD.read_text(), re.DOTALL | re.MULTILINE)
    return str(code)


@contextlib.asynccontextmanager
async def started(name: str, url: str, prefix: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "TWINSYNC_AMQP_URL": url, "TWINSYNC_AMQP_PREFIX": prefix}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", example(name), env=environment)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_a_fact_is_told_as_the_example_does(tmp_path: Path) -> None:
    from twins.runtime.cluster import RayCalls

    url, prefix = broker(), f"told-{secrets.token_hex(3)}"
    async with running(settings(tmp_path, amqp_url=url, amqp_prefix=prefix)) as installation:
        async with started("tell", url, prefix) as teller:
            assert await teller.wait() == 0
        directory = Directory(installation.placement, RayCalls(installation))
        ref = stock("SKU-1", "DC-01")
        answer = await directory.news(Aspect.DOCUMENT, ref, None, BOUNDED_S)
        assert answer is not None
        assert from_json(answer[1])["on_hand"]["sellable"] == "12"


async def test_an_erp_that_answers_as_the_example_does_books_each_posting_once(tmp_path: Path) -> None:
    url, prefix = broker(), f"told-{secrets.token_hex(3)}"
    chosen = settings(tmp_path, amqp_url=url, amqp_prefix=prefix, erp_connector="amqp")
    async with running(chosen) as installation, started("erp", url, prefix):
        await publish(installation, golden())
        await all_stored(installation, golden())
        async with asyncio.timeout(BOUNDED_S):
            await assert_equal(installation, golden())
        store = installation.store()
        try:
            records = await store.live_postings()
        finally:
            await store.close()
    assert records.keys() == World().take_each(golden()).live().keys()
    assert {record.status for record in records.values()} == {Status.CONFIRMED}
    documents = [record.document for record in records.values()]
    assert len(set(documents)) == len(documents)
