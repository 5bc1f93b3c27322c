"""Ingest actors come and go, whoever starts and stops besides."""

from __future__ import annotations

from dataclasses import replace

from canonical.errors import TransientFailure
from twins.ports import Waiting
from twins.runtime.crew import Crew
from twins.runtime.ingests import IngestWatch, ingest_names

MUCH, LITTLE = Waiting(1_500, 1_500), Waiting(0, 0)


class Stage:
    """Actors as Ray knows them: one that drains is known until it has ended."""

    def __init__(self, *names: str, least: int = 1, most: int = 3) -> None:
        self.names = {"host-0", "gateway-main", *names}
        self.waiting_now: Waiting | None = MUCH
        self.drained: list[str] = []
        self.now_s = 0.0
        self.crew = Crew(least, most, deep=2_000, grow_after_s=10, shrink_after_s=60)
        self.watch = IngestWatch(
            lambda: self.crew,
            self,
            lambda: self.names,
            self.names.add,
            self.drained.append,
            lambda: self.now_s,
        )

    async def waiting(self) -> Waiting:
        if self.waiting_now is None:
            raise TransientFailure("the broker is away")
        return self.waiting_now

    async def pass_by(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1
            await self.watch.look()

    @property
    def ingests(self) -> list[str]:
        return ingest_names(self.names)


async def test_one_more_is_started_under_the_first_name_that_is_free() -> None:
    stage = Stage("ingest-0", "ingest-2")
    await stage.pass_by(11)
    assert stage.ingests == ["ingest-0", "ingest-1", "ingest-2"]
    await stage.pass_by(100)
    assert stage.ingests == ["ingest-0", "ingest-1", "ingest-2"]


async def test_the_bounds_may_change_while_it_looks() -> None:
    stage = Stage("ingest-0", most=1)
    await stage.pass_by(30)
    assert stage.ingests == ["ingest-0"]
    stage.crew = replace(stage.crew, most=2)
    await stage.pass_by(1)
    assert stage.ingests == ["ingest-0", "ingest-1"]
    stage.crew = replace(stage.crew, most=1)
    await stage.pass_by(1)
    assert stage.drained == ["ingest-1"]


async def test_the_last_one_is_drained_once_and_counts_no_more() -> None:
    stage = Stage("ingest-0", "ingest-1", "ingest-2")
    stage.waiting_now = LITTLE
    await stage.pass_by(62)
    assert stage.drained == ["ingest-2"]
    assert stage.watch.figures() == {"ingest_actors": 2, "queue_events": 0, "queue_bulk": 0}
    await stage.pass_by(62)
    assert stage.drained == ["ingest-2", "ingest-1"]
    await stage.pass_by(200)
    assert stage.drained == ["ingest-2", "ingest-1"]


async def test_while_one_drains_another_comes_under_another_name() -> None:
    stage = Stage("ingest-0", "ingest-1")
    stage.waiting_now = LITTLE
    await stage.pass_by(62)
    stage.waiting_now = MUCH
    await stage.pass_by(11)
    assert stage.ingests == ["ingest-0", "ingest-1", "ingest-2"]
    assert stage.watch.running == 2


async def test_who_comes_under_the_name_of_one_that_has_gone_counts() -> None:
    stage = Stage("ingest-0", "ingest-1", most=2)
    stage.waiting_now = LITTLE
    await stage.pass_by(62)
    stage.names.discard("ingest-1")
    stage.waiting_now = MUCH
    await stage.pass_by(12)
    assert stage.ingests == ["ingest-0", "ingest-1"]
    await stage.pass_by(100)
    assert stage.ingests == ["ingest-0", "ingest-1"]
    assert stage.watch.running == 2


async def test_while_the_broker_is_away_nothing_comes_or_goes_and_no_depth_is_told() -> None:
    stage = Stage("ingest-0", "ingest-1")
    await stage.pass_by(1)
    assert stage.watch.figures() == {"ingest_actors": 2, "queue_events": 1_500, "queue_bulk": 1_500}
    stage.waiting_now = None
    await stage.pass_by(1_000)
    assert stage.ingests == ["ingest-0", "ingest-1"]
    assert stage.drained == []
    assert stage.watch.figures() == {"ingest_actors": 2}


async def test_nothing_is_started_where_no_ingest_runs() -> None:
    """They are being stopped, or started: whoever does so knows how many."""
    stage = Stage()
    await stage.pass_by(1_000)
    assert stage.ingests == []


async def test_too_few_and_too_many_are_set_right_at_once() -> None:
    few = Stage("ingest-1", least=3)
    few.waiting_now = LITTLE
    await few.pass_by(1)
    assert few.ingests == ["ingest-0", "ingest-1", "ingest-2"]
    many = Stage(*(f"ingest-{number}" for number in range(12)))
    await many.pass_by(1)
    assert many.drained == [f"ingest-{number}" for number in range(3, 12)]


def test_names_are_in_the_order_of_their_numbers_and_others_are_none() -> None:
    assert ingest_names(["ingest-10", "ingest-2", "ingest", "ingest-x", "host-0"]) == [
        "ingest-2",
        "ingest-10",
    ]
