"""The arithmetic beside the simulation: a plan must carry its load, and half of it must not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from ops.capacity.installation import Inputs, Installation, carried
from ops.capacity.model import Demand, needed
from ops.capacity.simulation import Load, Outcome, Simulation

P99_MAX_MS = 2_000.0
"""Of what keeps up, bursts included."""
TOO_MUCH = 1.3
"""Of what the arithmetic says is full: nothing is expected to keep up with it."""
HALVINGS = 5
"""Of the range between that and nothing: to a twenty-fifth of what is full."""


@dataclass(frozen=True, slots=True)
class Check:
    """One database server, with the installations that share it, at the peak."""

    events_per_s: float
    installations: int
    enough: Outcome
    bursty: Outcome
    half: Outcome
    """The same load, and half of the installations; of the hosts, where there is one installation."""

    @property
    def holds(self) -> bool:
        steady = (self.enough, self.bursty)
        return all(one.keeps_up and one.p99_ms < P99_MAX_MS for one in steady) and not self.half.keeps_up


def check(demand: Demand, inputs: Inputs, shape: Installation, seconds: float = 3.0, seed: int = 1) -> Check:
    """Only the flow is simulated: what memory and disks ask for beyond that is left out of the plan."""
    plan = needed(replace(demand, twins=0.0, retention_days=0.0), inputs, shape)
    share = ceil(plan.installations / plan.database_servers)
    rate = demand.events_per_s * share / plan.installations

    fewer, halved = (share // 2, shape) if share > 1 else (1, replace(shape, hosts=max(shape.hosts // 2, 1)))

    def outcome(installations: int, of: Installation, *, bursty: bool = False) -> Outcome:
        load = Load(rate, bursty, seconds)
        return Simulation(inputs, of, load, installations=installations, seed=seed).run()

    enough, bursts = outcome(share, shape), outcome(share, shape, bursty=True)
    return Check(rate, share, enough, bursts, outcome(fewer, halved))


def simulated_carried(
    inputs: Inputs, shape: Installation, seconds: float = 2.0, seed: int = 1, *, absent: float = 0.0
) -> float:
    """Messages a second that one installation keeps up with.

    Where more is offered it carries less of it: what may not wait takes turns from scans, and they are left.
    """
    least, most = 0.0, carried(inputs, shape, absent) * TOO_MUCH
    for _ in range(HALVINGS):
        rate = (least + most) / 2
        load = Load(rate, seconds=seconds, absent=absent)
        found = Simulation(inputs, shape, load, seed=seed).run()
        least, most = (rate, most) if found.keeps_up else (least, rate)
    return least
