"""Malformed messages by every way in, to a whole twinsync: some; `make bad-input` tells thousands."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import httpx
import pytest

from adapters.amqp.topology import Names
from ops.local import start_http
from tests.live.bad_input import KINDS
from tests.live.bad_input_told import by_amqp, by_http, goods, stored_at_last
from tests.live.installations import HEADERS, broker, running, settings

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("on_ray")]


async def test_each_is_refused_by_a_reason_that_names_the_field_and_good_ones_are_taken(
    tmp_path: Path,
) -> None:
    url, prefix = broker(), f"test-{secrets.token_hex(4)}"
    count = 2 * len(KINDS) + 1
    async with running(settings(tmp_path, amqp_url=url, amqp_prefix=prefix)) as installation:
        address = await asyncio.to_thread(start_http, installation)
        store = installation.store()
        async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=60) as http:
            ended = await by_http(http, 1, count)
        ended += await by_amqp(url, Names(prefix), store, 2, count)
        good = len(goods(count, "http")) + len(goods(count, "amqp"))
        stored = await stored_at_last(store, good)
        await store.close()
    assert [one for one in ended if not one.right] == []
    assert stored == good
