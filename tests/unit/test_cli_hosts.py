"""Where twins live, seen and changed from the command line, over the real API and SQLite."""

from __future__ import annotations

import json
from typing import Any

import pytest

import ops.asking
from adapters.sql.store import SqlStore
from tests.unit.test_cli import twinsync
from tests.unit.test_cli_dead_letters import store  # noqa: F401


def test_the_number_of_hosts_is_shown_and_changed(store: SqlStore) -> None:
    assert b"pooled hosts: 1; pinned: none" in twinsync("hosts").stdout
    assert b"pooled hosts: 3" in twinsync("hosts", "--count", "3").stdout
    lines = twinsync("hosts").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["host-0", "host-1", "host-2"]
    assert "does not answer" in lines[1], "none runs here"


def test_a_twin_is_pinned_and_unpinned(store: SqlStore) -> None:
    assert b"pinned: order/SO-1" in twinsync("pin", "order/SO-1").stdout
    assert b"pinned: none" in twinsync("unpin", "order/SO-1", "--reason", "over").stdout
    audited = twinsync("audit", "order/SO-1").stdout
    assert b"unpin" in audited
    assert b"over" in audited
    assert twinsync("pin", "nonsense/1").returncode == 2


def test_hosts_are_moved_until_none_is_left(store: SqlStore) -> None:
    lines = twinsync("rebalance").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["host-1", "host-2"]
    assert b"has its share" in twinsync("rebalance").stdout


def test_moving_ends_where_hosts_do_not_stay_on_the_nodes_that_they_are_moved_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Restless:
        def __init__(self, *_: Any) -> None: ...

        def tell(self, path: str, word: Any) -> dict[str, Any]:
            return {"moves": [{"host": "host-1", "origin": "a", "target": "b"}], "left": 1}

    monkeypatch.setattr(ops.asking, "Asking", Restless)
    done = twinsync("rebalance", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["left"] == 1
    assert b"could not be moved" in done.stderr
