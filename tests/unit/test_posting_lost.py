"""A posting that the ERP has lost: the same outcome whatever came before, after or twice."""

from __future__ import annotations

from itertools import permutations

import pytest

from canonical.facts.erp import PostingConfirmed, PostingLost, PostingRejected
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import PostingKey
from tests.stories import golden
from tests.world import World, tell
from twins.core.ledger import Record, Status, answered

ISSUE = PostingKey("goods-issue/SHP-1")
LOST = PostingLost(posting_key=ISSUE, version=1, reason="deleted")
CONFIRMED = PostingConfirmed(posting_key=ISSUE, version=1, action="post", document="D1")
REJECTED = PostingRejected(posting_key=ISSUE, version=1, action="post", reason="no")


def test_replies_about_a_lost_version_end_alike_in_any_order_and_number() -> None:
    posting = World().take_each(golden()).live()[ISSUE]
    for replies in permutations([LOST, CONFIRMED, REJECTED, LOST, CONFIRMED]):
        record = Record(posting, 1, Status.QUEUED)
        for reply in replies:
            record = answered(record, reply)
        assert record.status is Status.LOST


@pytest.mark.parametrize("key", ["goods-issue/SHP-1", "payment/P-1/SO-1", "credit-note/RMA-1/1/SO-1"])
def test_what_was_lost_and_is_still_desired_is_posted_as_the_next_version(key: str) -> None:
    world = World().take_each(golden()).confirm()
    owner = next(ref for ref, twin in world.twins.items() if PostingKey(key) in twin.ledger.records)
    lost = PostingLost(posting_key=key, version=1, reason="deleted")
    world.take([tell(owner, lost, id="lost")])
    world.take([tell(owner, lost, id="lost"), tell(owner, lost, id="lost again")])
    assert [(one.action, one.key, one.version) for _, one in world.commands] == [("post", key, 2)]


def test_an_adjustment_that_was_lost_is_posted_anew_though_its_shelf_plans_what_changed_alone() -> None:
    from canonical.facts.stock import StockAdjusted

    world = World().take_each(golden())
    world.take([tell("stock/SKU-1@DC-01", StockAdjusted(adjustment_id="A", delta=-1), 10)])
    world.confirm()
    key = next(key for key in world.live() if key.startswith("stock-adjustment"))
    world.take([tell("stock/SKU-1@DC-01", PostingLost(posting_key=key, version=1, reason="deleted"), 20)])
    assert [(one.action, one.key, one.version) for _, one in world.commands] == [("post", key, 2)]


def test_what_was_lost_and_is_desired_no_more_is_neither_posted_nor_reversed() -> None:
    world = World().take_each(golden()).confirm()
    voided = tell("shipment/SHP-1", ShipmentVoided(reason="fell off"), 5000)
    world.take([voided, tell("shipment/SHP-1", LOST, id="lost")])
    assert not [one for _, one in world.commands if one.key == ISSUE]
