"""A whole day of every case, through the real payload formats: disorder changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from canonical.envelope import Event
from ops.demo.day import in_order, make_day
from ops.demo.disorder import disorder
from ops.demo.telling import told
from tests.world import World


def run(events: Sequence[Event], batch: int) -> World:
    """An ERP that has confirmed everything before the next batch comes."""
    world = World()
    for start in range(0, len(events), batch):
        world.take(events[start : start + batch])
        world.confirm()
    return world


@pytest.mark.parametrize("seed", range(8))
def test_a_day_in_disorder_is_the_same_day(seed: int) -> None:
    day = make_day(seed, 40)
    ordered = run(told(day, in_order(day)), 50)
    disordered = run(told(day, disorder(day, seed, duplicated=0.2, late=0.3)), 1 + 7 * seed)
    assert disordered.documents_of_twins() == ordered.documents_of_twins()
    assert disordered.live() == ordered.live()


def test_the_day_posts_every_kind_of_command() -> None:
    day = make_day(1, 120)
    world = run(told(day, in_order(day)), 100)
    assert {posting.command for posting in world.live().values()} == {
        "reserve-stock",
        "goods-issue",
        "invoice",
        "freight-accrual",
        "carrier-bill",
        "return-receipt",
        "credit-note",
        "stock-adjustment",
        "transfer",
        "payment",
        "refund",
    }
