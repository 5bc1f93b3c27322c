"""Reads that travel together do not fail together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from canonical.errors import TransientFailure
from canonical.identity import TwinRef, order
from tests.stories import ORDER, golden
from tests.unit.test_host import FickleStore, host, messages
from tests.unit.test_host import store as store
from tests.unit.test_http_api import OneHost
from twins.core.placement import Placement
from twins.core.twin import Stored
from twins.runtime.coalesce import CoalescedReads
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory


async def test_twins_in_memory_are_read_while_the_database_is_away(
    store: FickleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host(store)
    await one.take(messages(*golden()))

    async def away(refs: Sequence[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        raise TransientFailure("the database is away")

    monkeypatch.setattr(store, "load", away)
    reads = CoalescedReads(Directory(Placement(), OneHost(one)))
    answers = await asyncio.gather(
        *(reads.read(Aspect.DOCUMENT, order(name)) for name in (ORDER, "SO-404", ORDER)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [tuple, TransientFailure, tuple]
