"""What the ERP refused is told again by a person's word: a post as its next version, a reversal as it is."""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import pytest

from canonical.envelope import Event
from canonical.facts.erp import PostingConfirmed, PostingRejected, PostingResent
from canonical.facts.shipment import ShipmentVoided
from canonical.identity import PostingKey, TwinRef, shipment, twin_ref
from canonical.postings import Action, Command
from tests.stories import golden
from tests.world import DAY, World, tell
from twins.core.dispatch import QueuedCommand, decide
from twins.core.ledger import Status

ISSUE = PostingKey("goods-issue/SHP-1")
ADJUSTED = "stock/SKU-1@DC-01"


def refused(key: str, version: int, action: Literal["post", "reverse"] = "post", again: int = 0) -> Event:
    fact = PostingRejected(posting_key=key, version=version, action=action, reason="no account", again=again)
    suffix = {"post": "", "reverse": "/reverse"}[action] + (f"/{again}" if again else "")
    return Event("/erp/main", f"{key}@{version}{suffix}/rejected", owner(key), DAY, fact)


def resent(
    key: str, version: int, request: str = "r1", action: Literal["post", "reverse"] = "post", again: int = 0
) -> Event:
    fact = PostingResent(
        posting_key=key, version=version, action=action, again=again, request=request, by="ann"
    )
    return Event("/operations", f"{key}@{version}/{request}", owner(key), DAY, fact)


def owner(key: str) -> TwinRef:
    command, _, name = key.partition("/")
    if command == "goods-issue":
        return shipment(name)
    return twin_ref(f"stock/{name.rpartition('/')[2]}")


@pytest.fixture
def world() -> World:
    told = World()
    told.take(golden())
    told.commands = []
    return told


def versions(world: World, key: str = ISSUE) -> list[Status]:
    return [one.status for one in world.twins[owner(key)].ledger.records[PostingKey(key)]]


def test_a_refused_post_is_sent_again_as_its_next_version(world: World) -> None:
    world.take_each([refused(ISSUE, 1), resent(ISSUE, 1)])
    assert versions(world) == [Status.ANNULLED, Status.QUEUED]
    ((_, command),) = world.commands
    assert command.idempotency_key == "goods-issue/SHP-1@2"


def test_nobody_sends_again_what_was_not_refused(world: World) -> None:
    world.take([resent(ISSUE, 1)])
    assert versions(world) == [Status.QUEUED]
    assert not world.commands


def test_order_and_repetition_of_refusal_and_resend_do_not_matter() -> None:
    told = [refused(ISSUE, 1), resent(ISSUE, 1, "r1"), resent(ISSUE, 1, "r2"), resent(ISSUE, 1, "r1")]
    for arriving in permutations(told):
        world = World()
        world.take(golden())
        world.commands = []
        world.take_each(arriving)
        assert versions(world) == [Status.ANNULLED, Status.QUEUED]
        assert len(world.commands) == 1, "told once, whoever asked how often"


def test_a_second_refusal_is_sent_again_by_a_second_word_only(world: World) -> None:
    world.take_each([refused(ISSUE, 1), resent(ISSUE, 1), refused(ISSUE, 2), resent(ISSUE, 1, "late")])
    assert versions(world) == [Status.ANNULLED, Status.REJECTED]
    world.take([resent(ISSUE, 2, "r2")])
    assert versions(world) == [Status.ANNULLED, Status.ANNULLED, Status.QUEUED]


def test_a_resend_survives_that_its_twin_left_memory(world: World) -> None:
    """The register is rebuilt from what is stored, refusal last."""
    from twins.core.rules import Policy
    from twins.core.twin import Stored, Twin

    world.take([resent(ISSUE, 1)])
    ref = shipment("SHP-1")
    before = world.twins[ref]
    stored = Stored(
        before.version,
        (*before.history.all_events(), *before.replies.values()),
        tuple(before.registers.values()),
        tuple(before.ledger),
    )
    world.twins[ref] = Twin.restore(ref, Policy(), stored)
    world.take([refused(ISSUE, 1)])
    assert versions(world) == [Status.ANNULLED, Status.QUEUED]


def test_a_finding_goes_when_the_refusal_is_answered(world: World) -> None:
    world.take([refused(ISSUE, 1)])
    assert "posting-rejected" in {one.code for one in world.snapshot("shipment/SHP-1").findings}
    world.take([resent(ISSUE, 1)])
    assert "posting-rejected" not in {one.code for one in world.snapshot("shipment/SHP-1").findings}


def test_a_corrective_fact_posts_the_corrected_content_and_settles_the_refusal(world: World) -> None:
    """Nobody has to resend: another content is another version, and the refused one was never made."""
    from canonical.facts.base import Retracted
    from canonical.facts.stock import StockAdjusted

    wrong = tell(ADJUSTED, StockAdjusted(adjustment_id="A-1", delta=-3, reason="broken"), 900)
    world.take([wrong])
    key = f"stock-adjustment/A-1/{ADJUSTED.removeprefix('stock/')}"
    world.commands = []
    world.take([refused(key, 1)])
    right = tell(ADJUSTED, StockAdjusted(adjustment_id="A-1", delta=-2, reason="broken"), 901, id="right")
    world.take([right, tell(ADJUSTED, Retracted(source=wrong.source, id=wrong.id), 902)])
    assert versions(world, key) == [Status.ANNULLED, Status.QUEUED]
    assert not [one for one in world.snapshot(ADJUSTED).findings if one.code == "posting-rejected"]


def voided_after_posting() -> World:
    world = World()
    world.take(golden())
    world.confirm()
    world.take([tell("shipment/SHP-2", ShipmentVoided(reason="fell off"), 5000)])
    world.commands = []
    return world


SECOND = PostingKey("goods-issue/SHP-2")


def test_a_refused_reversal_is_told_again_under_a_key_of_its_own() -> None:
    told = [refused(SECOND, 1, "reverse"), resent(SECOND, 1, action="reverse")]
    for arriving in permutations([*told, resent(SECOND, 1, "r2", "reverse")]):
        world = voided_after_posting()
        world.take_each(arriving)
        ((_, command),) = world.commands
        assert (command.action, command.version) == (Action.REVERSE, 1)
        assert command.idempotency_key == "goods-issue/SHP-2@1/reverse/1"
        assert versions(world, SECOND) == [Status.REVERSING]


def test_a_reversal_that_is_refused_again_shows_again_and_can_be_sent_again() -> None:
    world = voided_after_posting()
    world.take_each(
        [
            refused(SECOND, 1, "reverse"),
            resent(SECOND, 1, action="reverse"),
            refused(SECOND, 1, "reverse", again=1),
        ]
    )
    (record,) = world.twins[owner(SECOND)].ledger.records[SECOND]
    assert (record.status, record.reason, record.again) == (Status.REVERSING, "no account", 1)
    world.take([resent(SECOND, 1, "r2", "reverse", again=1)])
    assert world.commands[-1][1].idempotency_key == "goods-issue/SHP-2@1/reverse/2"
    done = PostingConfirmed(posting_key=SECOND, version=1, action="reverse", document="R-9")
    world.take([Event("/erp/main", "done", owner(SECOND), DAY, done)])
    assert versions(world, SECOND) == [Status.REVERSED]


def test_a_reversal_sent_again_goes_before_the_post_that_was_planned_since() -> None:
    """And the two do not annul each other: they are of different versions."""
    posting = World().take_each(golden()).live()[ISSUE]
    post = QueuedCommand(7, owner(ISSUE), Command(Action.POST, 2, posting), False)
    again = QueuedCommand(9, owner(ISSUE), Command(Action.REVERSE, 1, posting, 1), False)
    decided = decide([post, again], {(ISSUE, 1): Status.REVERSING, (ISSUE, 2): Status.QUEUED})
    assert [one.number for one in decided.send] == [9]
    assert not decided.annul
