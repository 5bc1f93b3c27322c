"""A node comes, hosts move to it, it dies, another comes: a day of events goes on all the while."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.live.installations import broker
from tests.nodes.namespaces import namespaces
from tests.services import Unavailable

pytestmark = pytest.mark.live


def test_hosts_move_between_nodes_and_a_node_dies_without_loss() -> None:
    """Several raylets need a Ray of their own, and so a process."""
    broker()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.nodes"], capture_output=True, text=True, timeout=280, env={**os.environ}
    )
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr[-4_000:]
    assert "all is as the pure core says" in ended.stdout


def test_hosts_come_back_when_the_link_to_their_node_is_cut_and_those_beyond_it_count_no_more() -> None:
    """Each node in a network namespace of its own, where this machine permits that."""
    try:
        with namespaces():
            pass
    except Unavailable as unavailable:
        pytest.skip(str(unavailable))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.nodes", "--namespaces"], capture_output=True, text=True, timeout=280
    )
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr[-4_000:]
    assert "all is as the pure core says" in ended.stdout
