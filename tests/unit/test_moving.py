"""Hosts are spread evenly, by as few moves as that takes; one that is moved ends what it has in hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical.errors import Moving
from tests.stories import placed
from tests.unit.test_host import Clock
from twins.core.rules import Policy
from twins.runtime import host as host_module
from twins.runtime.host import TwinHost
from twins.runtime.levelling import levelled

NODES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)
WHERE = st.dictionaries(st.integers(0, 20).map("host-{}".format), st.sampled_from("abcdefgh"), max_size=20)


@given(WHERE, NODES)
def test_no_node_has_two_hosts_more_than_another(where: dict[str, str], nodes: list[str]) -> None:
    moves = levelled(where, nodes)
    after = where | {move.host: move.target for move in moves}
    many = Counter(after.values())
    assert set(many) <= set(nodes)
    assert max((many[node] for node in nodes), default=0) - min(many[node] for node in nodes) <= 1
    assert all(where[move.host] == move.origin for move in moves)


@given(WHERE, NODES)
def test_no_host_is_moved_that_could_have_stayed(where: dict[str, str], nodes: list[str]) -> None:
    """As many must leave as a node has over its share, and all from nodes that are gone."""
    moves = levelled(where, nodes)
    share, more = divmod(len(where), len(nodes))
    held = sorted((sum(node == one for node in where.values()) for one in nodes), reverse=True)
    stay = sum(min(many, share + (rank < more)) for rank, many in enumerate(held))
    assert len(moves) == len(where) - stay
    assert len({move.host for move in moves}) == len(moves)


def test_what_is_level_stays() -> None:
    assert levelled({"host-0": "a", "host-1": "b", "host-2": "a"}, ["a", "b"]) == []


async def test_a_host_that_is_moved_commits_what_it_has_and_takes_no_more(tmp_path: Path) -> None:
    store = SqlStore(sqlite_url(tmp_path))
    await store.migrate()
    host = TwinHost("host-0", store, Clock(), Policy())
    taking = [asyncio.create_task(host.take_events([placed(order=f"SO-{number}")])) for number in range(5)]
    await asyncio.sleep(0)
    await host.drain()
    assert sum((await store.arrivals()).values()) == 5
    await asyncio.gather(*taking)
    with pytest.raises(Moving):
        await host.take_events([placed(order="SO-5")])
    with patch.object(host_module, "monotonic", lambda: 1e9):  # whoever meant to move it has died
        await host.take_events([placed(order="SO-5")])
    assert sum((await store.arrivals()).values()) == 6
    await store.close()
