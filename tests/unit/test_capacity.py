"""The capacity model: it never wants less for more, and its plans carry loads that half of them do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from adapters.amqp.topology import BULK_TYPES
from canonical.errors import RejectedMessage
from ops.bench.queues import events_of_a_day
from ops.capacity import measured, simulation
from ops.capacity.check import check, simulated_carried
from ops.capacity.counted import Counted, Hosts, counted, mail
from ops.capacity.installation import (
    AS_BUILT,
    BATCH_MAX,
    Inputs,
    Installation,
    carried,
    database_limits,
    limits,
    portion,
    shipped,
)
from ops.capacity.measured import Measured, read_bench
from ops.capacity.model import FAILURES, Demand, fail_over, needed, with_replica
from ops.capacity.report import BEGIN, END
from ops.capacity.simulation import Database, Job, Lane, Load, Message, Outcome, Simulation
from ops.cli import app
from twins.core.portions import LEAST

SHAPES = st.sampled_from((AS_BUILT, Installation(hosts=4), shipped(8), shipped(4)))
MORE = st.floats(1.0, 100.0)


# --- the model


@settings(max_examples=200)
@given(
    rate=st.floats(1.0, 1e6),
    twins=st.floats(1.0, 1e10),
    days=st.floats(0.0, 1e3),
    queries=st.floats(0.0, 1e5),
    resident=st.floats(0.0, 1.0),
    regions=st.integers(1, 4),
    more=st.tuples(MORE, MORE, MORE, MORE),
    shape=SHAPES,
)
def test_more_demand_never_needs_less(
    rate: float,
    twins: float,
    days: float,
    queries: float,
    resident: float,
    regions: int,
    more: tuple[float, float, float, float],
    shape: Installation,
) -> None:
    less = Demand(rate, twins, 0.02, resident, regions, days, queries)
    greater = replace(
        less,
        events_per_s=rate * more[0],
        twins=twins * more[1],
        retention_days=days * more[2],
        queries_per_s=queries * more[3],
    )
    few, many = needed(less, shape=shape), needed(greater, shape=shape)
    for name in (
        "installations",
        "workers",
        "broker_nodes",
        "database_servers",
        "serve_replicas",
        "disk_bytes",
        "growth_bytes_day",
        "memory_bytes",
        "cores",
    ):
        assert getattr(many, name) >= getattr(few, name) * (1 - 1e-9), name


@given(rate=st.floats(1.0, 2e6), regions=st.integers(1, 4), shape=SHAPES)
def test_nothing_is_planned_fuller_than_it_may_be(rate: float, regions: int, shape: Installation) -> None:
    """And a region that fails finds that room in the others."""
    plan = needed(Demand(rate, regions=regions), shape=shape)
    left = (regions - 1) / regions if regions > 1 else 1.0
    assert max(plan.utilisation.values()) <= Inputs().assumed.utilisation_max * left + 1e-9


def test_the_parts_of_a_message_add_up_to_what_the_whole_machine_spent_on_it() -> None:
    m = Measured()
    parts = m.ingest_us + m.broker_us + m.fold_us + m.commit_us + m.other_us
    assert parts == pytest.approx(m.cores * 1e6 / m.product_per_s)


def test_twins_that_are_not_in_memory_cost_their_reading() -> None:
    all_in_memory, half = Demand(50_000.0), Demand(50_000.0, resident_share=0.5)
    assert needed(half).planned["host"] > 3 * needed(all_in_memory).planned["host"]


def test_a_lost_region_loses_what_its_copy_had_not_got_and_twins_come_back_slowly() -> None:
    demand, inputs = Demand(100_000.0, regions=2), Inputs()
    by_name = {away.name: fail_over(demand, inputs, away) for away in FAILURES}
    synchronous = by_name["a region is lost, synchronous copy"]
    asynchronous = by_name["a region is lost, asynchronous copy"]
    assert (synchronous.lost, asynchronous.lost) == (0, 50_000)
    assert synchronous.current_s > synchronous.again_s > 0
    assert by_name["a database server dies, synchronous standby"].activations_s == 0


# --- counting


def test_what_is_assumed_of_mail_and_rows_is_what_the_core_does() -> None:
    """Counts hold for the demo's day; times of folding are of a machine, and none are compared here."""
    found, told = counted(_day(), BULK_TYPES), Counted()
    for name in ("rows", "bulk_share", "letters_a_message", "letters_a_letter", "rows_a_letter"):
        assert getattr(found, name) == pytest.approx(getattr(told, name), rel=0.3), name


@pytest.mark.parametrize(("hosts", "batch"), [(4, 300), (16, 50)])
def test_mail_of_messages_is_foretold_by_its_generations(hosts: int, batch: int) -> None:
    tally = Hosts(hosts, batch).take(_day())
    assert tally.letters / tally.messages == pytest.approx(mail(Counted(), hosts), rel=0.35)


def _day() -> list[object]:
    from canonical.envelope import parse_structured

    return [parse_structured(one.body) for one in events_of_a_day(2_500, seed=1)]


# --- the simulation


def test_a_plan_carries_its_load_and_half_of_it_does_not() -> None:
    for rate in (10_000.0, 20_000.0):
        found = check(Demand(rate), Inputs(), AS_BUILT, seconds=2.0)
        assert found.holds, found


def test_half_of_the_hosts_of_one_installation_do_not_carry_it() -> None:
    found = check(Demand(15_000.0), Inputs(), shipped(4), seconds=2.0)
    assert found.installations == 1
    assert found.enough.keeps_up
    assert not found.half.keeps_up


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_the_simulation_carries_what_the_arithmetic_says(hosts: int) -> None:
    shape = Installation(hosts=hosts)
    assert simulated_carried(Inputs(), shape, seconds=1.5) == pytest.approx(carried(Inputs(), shape), rel=0.2)


@pytest.mark.parametrize("shape", [shipped(4), shipped(8)])
def test_and_so_with_several_ingests(shape: Installation) -> None:
    found = simulated_carried(Inputs(), shape, seconds=1.5)
    assert found == pytest.approx(carried(Inputs(), shape), rel=0.2)


def test_a_thin_log_is_full_first_in_both() -> None:
    """Several installations share it; one alone leaves it idle while it folds."""
    inputs = Inputs()
    thin = replace(inputs, assumed=replace(inputs.assumed, wal_bytes_per_s=40e6))
    most = database_limits(thin, AS_BUILT)["log"]
    assert most < 3 * carried(inputs, AS_BUILT) / 2
    found = Simulation(thin, AS_BUILT, Load(1.3 * most, seconds=2.0), installations=3).run()
    assert found.carried_per_s == pytest.approx(most, rel=0.1)
    assert not found.keeps_up


def test_twins_that_must_be_read_slow_both_down_alike() -> None:
    inputs = Inputs()
    load = Load(carried(inputs, AS_BUILT), seconds=2.0, absent=0.3)
    assert not Simulation(inputs, AS_BUILT, load).run().keeps_up
    found = simulated_carried(inputs, AS_BUILT, absent=0.3)
    assert found == pytest.approx(carried(inputs, AS_BUILT, 0.3), rel=0.15)


def test_a_far_copy_costs_latency_and_little_throughput_where_the_target_allows_for_it() -> None:
    near, far = Inputs(), with_replica(Inputs(), 30_000.0)
    patient = replace(AS_BUILT, latency_target_s=1.0)
    assert carried(far, patient) > 0.8 * carried(near, AS_BUILT)
    patiently, plainly = (simulated_carried(*one, seconds=4.0) for one in ((far, patient), (near, AS_BUILT)))
    assert patiently > 0.8 * plainly
    assert _ran(far, 2_000.0, patient).p50_ms > _ran(near, 2_000.0).p50_ms + 30


def test_with_a_far_copy_scans_are_cut_small_for_a_target_that_no_commit_can_meet() -> None:
    far = with_replica(Inputs(), 30_000.0)
    assert portion(far, AS_BUILT) == LEAST
    assert carried(far, AS_BUILT) < 0.2 * carried(Inputs(), AS_BUILT)
    assert not _ran(far, 2_000.0).keeps_up


def test_calls_of_several_ingests_do_not_keep_scans_from_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would, did scans give way whenever somebody else waits: among three ingests somebody does."""
    load = Load(20_000.0, seconds=2.0)
    assert Simulation(Inputs(), shipped(4), load).run().keeps_up
    monkeypatch.setattr(simulation, "GIVES_WAY_MAX", 10**9)
    assert not Simulation(Inputs(), shipped(4), load).run().keeps_up


def test_ingests_do_not_cost_hosts_turns() -> None:
    """They did, while each call had one of its own."""
    few, many = (limits(Inputs(), Installation(hosts=8, ingests=ingests)) for ingests in (6, 12))
    assert few["turns"] == many["turns"]
    assert limits(Inputs(), Installation(hosts=8))["turns"] > 2 * limits(Inputs(), AS_BUILT)["turns"]


MESSAGE, LETTER = Counted().rows, Counted().rows_a_letter + 1


@pytest.mark.parametrize(
    ("calls", "turns"),
    [
        (("take", "mail", "mail"), [3 * MESSAGE, 4 * LETTER]),
        (("take", "take", "mail"), [3 * MESSAGE, 3 * MESSAGE + 2 * LETTER]),
        (("take", "scans", "mail", "take"), [3 * MESSAGE, 3 * MESSAGE + 2 * LETTER, 40 * MESSAGE]),
        (("take", *["take"] * 700), [3 * MESSAGE, 1_998 * MESSAGE, 102 * MESSAGE]),
    ],
)
def test_a_host_takes_all_that_waits_in_one_turn_and_scans_last(
    calls: tuple[str, ...], turns: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All come while the first is folded. A turn is told by the rows that it writes."""
    written: list[float] = []

    def commit(_: Database, mean_us: float, rows: float, then: Callable[[], None]) -> None:
        written.append(rows)
        then()

    monkeypatch.setattr(Database, "commit", commit)
    alone = replace(Inputs(), counted=replace(Counted(), letters_a_message=0.0, letters_a_letter=0.0))
    sim = Simulation(alone, Installation(hosts=2), Load(1e-3, seconds=0.5))
    host = sim.places[0].hosts[0]
    for call in calls:
        if call == "mail":
            host.take(Job([], False, lambda: None, letters=2))
        else:
            many = 40 if call == "scans" else 3
            host.take(Job([Message(0.0, 0)] * many, call == "scans", lambda: None))
    sim.run()
    assert written == pytest.approx(turns)


def test_a_lane_that_is_behind_has_two_full_batches_under_way() -> None:
    sim = Simulation(Inputs(), AS_BUILT, Load(1e-3, seconds=0.001, warm_up_s=0.0))
    ingest = sim.places[0].ingests[0]
    lane = Lane(sim, ingest, 0, sim.places[0].hosts[0])
    for _ in range(1_600):
        lane.add(Message(0.0, 0))
    assert (lane.called, len(lane.gathering)) == (BATCH_MAX, 1_100)
    sim.run()
    assert len(lane.gathering) == 600


@settings(max_examples=15, deadline=None)
@given(
    rate=st.floats(500.0, 20_000.0),
    bursty=st.booleans(),
    hosts=st.integers(1, 4),
    installations=st.integers(1, 2),
    seed=st.integers(0, 1_000),
)
def test_all_that_arrives_has_left_or_waits(
    rate: float, bursty: bool, hosts: int, installations: int, seed: int
) -> None:
    shape = Installation(hosts=hosts, ingests=2)
    load = Load(rate, bursty, seconds=0.3, warm_up_s=0.1)
    found = Simulation(Inputs(), shape, load, installations=installations, seed=seed).run()
    assert found.arrived == found.left + found.waiting > 0
    assert found.letters_sent == found.letters_absorbed + found.letters_waiting
    assert (found.letters_sent > 0) == (hosts > 1)


def test_a_seed_says_all() -> None:
    assert _ran(Inputs(), 5_000.0) == _ran(Inputs(), 5_000.0)


def _ran(inputs: Inputs, rate: float, shape: Installation = AS_BUILT) -> Outcome:
    return Simulation(inputs, shape, Load(rate, seconds=1.0), seed=3).run()


# --- the bench


def test_a_bench_is_read_by_its_figures(tmp_path: Path) -> None:
    found = read_bench(_bench(tmp_path))
    assert found == Measured(
        machine="A processor, 4 cores",
        cores=4,
        rounds=3,
        product_per_s=6_000.0,
        raw_per_s=12_000.0,
        transaction_us=1_500.0,
        letter_us=12.0,
        fold_us=70.0,
        commit_us=60.0,
        batch_messages=450.0,
        disk_bytes=5_000.0,
        different_share=0.5,
        spread=0.5,
    )
    assert len(astuple(found)) == len(fields(Measured))


def test_what_a_bench_compares_has_the_same_names_here() -> None:
    from ops.bench import run

    for name in ("RAW", "PRODUCT", "ONE_ROW", "LETTER"):
        assert getattr(measured, name) == getattr(run, name)


def test_a_bench_without_postgresql_is_refused(tmp_path: Path) -> None:
    file = _bench(tmp_path)
    file.write_text(file.read_text().replace("postgresql", "sqlite"))
    with pytest.raises(RejectedMessage, match="no bench of postgresql"):
        read_bench(file)


@pytest.mark.parametrize("text", ["", "[]", '{"figures": {}}', '{"figures": {"a": 1}}'])
def test_what_is_no_bench_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(RejectedMessage):
        read_bench(file)


def _bench(folder: Path) -> Path:
    figures = {
        "raw consumer": 12_000.0,
        "product, postgresql": 6_000.0,
        "messages a batch, postgresql": 450.0,
        "µs of a transaction of one row, postgresql": 1_500.0,
        "µs of a letter taken in, postgresql": 12.0,
        "µs of folding an event, postgresql": 70.0,
        "µs of committing an event, postgresql": 60.0,
        "bytes on disk a different event, postgresql": 5_000.0,
    }
    told = {
        "machine": {"processor": "A processor", "cores": 4},
        "messages": 1_000,
        "different": 500,
        "figures": {
            name: {"median": one, "rounds": [one * 0.75, one, one * 1.25]} for name, one in figures.items()
        },
        "ratios": {"write_vs_raw": 0.5, "by_database": {"sqlite": {"write_vs_raw": 0.5}}},
    }
    file = folder / "bench.json"
    file.write_text(json.dumps(told))
    return file


# --- the command


def test_the_command_shows_what_a_load_needs(tmp_path: Path) -> None:
    asked = ["capacity", "--events-per-second", "10000", "--twins", "1e6", "--bench", str(_bench(tmp_path))]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0, found.output
    assert "A processor, 4 cores" in found.output
    assert "Needed with 1,000,000 twins" in found.output


def test_the_command_refuses_what_is_no_bench(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("{}")
    assert CliRunner().invoke(app, ["capacity", "--bench", str(file)]).exit_code == 2
    assert CliRunner().invoke(app, ["capacity", "--bench", str(tmp_path / "none")]).exit_code == 2


def test_the_document_has_the_marks_that_new_tables_go_between() -> None:
    text = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert "Needed with 1,000,000,000 twins" in text.partition(BEGIN)[2].partition(END)[0]
