"""Carriers scan a parcel many times on its way; its shipment hears of each milestone once."""

from __future__ import annotations

from dataclasses import replace

from canonical.envelope import Event
from canonical.facts.base import Retracted
from canonical.facts.tracking import Milestone, TrackingRegistered, TrackingScanned
from canonical.identity import twin_ref
from tests.stories import dispatched, master_data, placed
from tests.world import World, tell
from twins.core.contributions import CarrierWord, Contribution, MilestoneReached

NUMBER = "tracking/ups:1Z1"
NAMED = tell(NUMBER, TrackingRegistered(shipment_id="SHP-1"), 50, source="/test/ups")


def scanned(minute: int, milestone: Milestone = Milestone.IN_TRANSIT) -> Event:
    return tell(NUMBER, TrackingScanned(milestone=milestone), minute, source="/test/ups")


def numbered(sequence: int, minute: int) -> Event:
    return replace(scanned(minute), source="/test/numbering", sequence=sequence)


def on_its_way() -> World:
    shipped = dispatched("SHP-1", 6, 60, tracking="1Z1")
    return World().take_each([*master_data(), placed(), shipped, scanned(100)])


def evidence(world: World) -> tuple[str, ...]:
    findings = world.snapshot("shipment/SHP-1").findings
    return next(one.events for one in findings if one.code == "dispatch-missing")


def test_one_more_scan_of_a_milestone_is_no_news_to_the_shipment() -> None:
    world = on_its_way()
    shipment = world.snapshot("shipment/SHP-1")
    effects = world.take([scanned(200), scanned(300)])
    assert [str(ref) for ref in effects.touched] == [NUMBER]
    assert world.snapshot("shipment/SHP-1") is shipment
    witnesses = world.snapshot(NUMBER).document()["witnesses"]
    assert len(witnesses[Milestone.IN_TRANSIT]) == 3


def test_an_earlier_scan_of_a_milestone_is_news() -> None:
    world = on_its_way()
    world.take([scanned(90)])
    reached = world.snapshot("shipment/SHP-1").document()["milestones"][Milestone.IN_TRANSIT]
    assert reached == scanned(90).time


def test_the_first_scan_of_a_milestone_taken_back_is_news() -> None:
    world = on_its_way()
    first = scanned(100)
    taken_back = Retracted(source=first.source, id=first.id, reason="did_not_occur")
    world.take([scanned(200), tell(NUMBER, taken_back, 300)])
    reached = world.snapshot("shipment/SHP-1").document()["milestones"][Milestone.IN_TRANSIT]
    assert reached == scanned(200).time


def test_that_nobody_dispatched_is_shown_by_the_first_scan_of_each_milestone() -> None:
    scans = [scanned(100), scanned(200), scanned(300, Milestone.DELIVERED), scanned(400, Milestone.DELIVERED)]
    world = World().take_each([NAMED, *scans])
    assert set(evidence(world)) == {scans[0].event_id, scans[2].event_id}


def test_the_first_scan_is_the_earliest_whatever_number_its_source_gave_it() -> None:
    late, early = numbered(1, 200), numbered(2, 100)
    world = World().take_each([NAMED, late, early])
    assert evidence(world) == (early.event_id,)


def test_what_earlier_code_has_told_of_each_scan_shows_the_same() -> None:
    scans = [scanned(100), scanned(200)]
    world = World().take_each([NAMED, *scans])
    shown = evidence(world)
    told = MilestoneReached(Milestone.IN_TRANSIT, scans[0].time, tuple(one.event_id for one in scans))
    shipment = world.twins[twin_ref("shipment/SHP-1")]
    word = CarrierWord((told,), (), None)
    assert shipment.absorb(Contribution(twin_ref(NUMBER), shipment.ref, 1_000, word))
    shipment.settle()
    assert evidence(world) == shown
