"""The whole system, simulated with faults: nothing lost, nothing posted twice, the same truth."""

from __future__ import annotations

import pytest

from canonical.envelope import Event
from ops.demo.day import in_order, make_day
from ops.demo.telling import told
from ops.simulation import Fault, Simulation, run_simulation
from twins.core.history import History
from twins.core.rules import Policy


def day(seed: int, orders: int = 24) -> list[Event]:
    made = make_day(seed, orders)
    return told(made, in_order(made))


@pytest.mark.parametrize("seed", range(100, 112))
def test_faults_change_nothing(seed: int) -> None:
    verdict = run_simulation(day(seed), seed)
    assert verdict["ok"], verdict


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_alone_changes_nothing_and_does_strike(fault: Fault) -> None:
    verdict = run_simulation(day(7), 7, frozenset({fault}))
    assert verdict["ok"], verdict
    assert verdict["injected"][fault.value] > 0


def test_the_same_seed_is_the_same_run() -> None:
    assert run_simulation(day(3, 8), 3) == run_simulation(day(3, 8), 3)


def test_a_gateway_that_does_not_look_up_posts_twice_and_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters.simulated_erp.books import Books

    monkeypatch.setattr(Books, "find", lambda self, key: ())
    verdict = run_simulation(day(7), 7, frozenset({Fault.ERP_TIMEOUT}))
    assert not verdict["ok"]
    assert verdict["erp_keys_that_differ"]


def test_a_history_in_the_order_of_arrival_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(self: History[object], event: Event, effective: object) -> bool:
        from datetime import UTC, datetime, timedelta

        from twins.core.history import SortKey

        arrived = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self._told))
        key = SortKey(arrived, 0, event.source, -1, event.id)
        self._key_of[event.event_id] = key
        self._keys.append(key)
        return False

    monkeypatch.setattr(History, "_place", append)
    verdicts = [run_simulation(day(seed), seed, frozenset({Fault.REORDER})) for seed in (7, 8, 9)]
    assert not all(verdict["ok"] for verdict in verdicts)


def test_an_epoch_that_fences_nobody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.simulation import Disk

    monkeypatch.setattr(Disk, "claim", lambda self, host: self.epochs[host])
    verdict = run_simulation(day(7), 7, frozenset({Fault.ZOMBIE}))
    assert verdict["zombies_not_fenced"] > 0
    assert not verdict["ok"]


def test_what_is_delivered_is_what_the_day_told() -> None:
    events = day(5, 8)
    run = Simulation(events, 5, frozenset(), Policy())
    run.run()
    kept = {event.event_id for known in run.disk.events.values() for event in known.values()}
    assert {event.event_id for event in events} <= kept
    assert run.disk.queue == {}
