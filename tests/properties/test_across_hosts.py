"""Where twins live, what their hosts forget and what becomes of the mail: none of it makes a difference."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from canonical.envelope import Event
from tests.properties.compared import assert_same
from tests.properties.generated import arbitrary, generated, seeds, stock_histories
from tests.properties.hosts import Cluster, Hosts
from tests.world import World


@generated()
@given(arbitrary, seeds)
def test_where_the_twins_live_makes_no_difference(events: list[Event], seed: int) -> None:
    apart = Hosts(Random(seed))
    apart.run(events)
    assert_same(apart.all_twins(), World().take_each(events).twins)


histories = st.sampled_from([arbitrary, stock_histories, stock_histories]).flatmap(lambda drawn: drawn)
"""Twins of stock alone are read in part."""


def test_hosts_that_forget_and_mail_that_is_lost_end_as_everything_together() -> None:
    """Crashes before and after commits, mail lost, doubled and overtaken; what is on disk is swept again."""
    struck: Counter[str] = Counter()

    @generated()
    @given(histories, st.integers(2, 3), st.integers(1, 3), seeds)
    def check(events: list[Event], hosts: int, checkpoint_every: int, seed: int) -> None:
        cluster = Cluster(hosts, Random(seed), checkpoint_every)
        cluster.run(events)
        assert_same(cluster.all_twins(), World().take_each(events).twins)
        struck.update(cluster.injected)
        struck["read in part"] += cluster.shelf.partly_loaded

    check()
    assert len(struck) == 5, struck
    assert min(struck.values()) > 10, struck
