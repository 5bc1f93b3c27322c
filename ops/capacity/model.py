"""What a load needs of everything, and what is full first. Arithmetic, which `ops.capacity.check` checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from ops.capacity.installation import (
    AS_BUILT,
    Inputs,
    Installation,
    database_limits,
    limits,
    work,
)

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Demand:
    """All regions together."""

    events_per_s: float
    """Messages at the peak, duplicates included."""
    twins: float = 1e9
    active_share: float = 0.02
    """Of the twins: those that events still come to."""
    resident_share: float = 1.0
    """Of the active ones: those that are kept in memory. Each message for another reads its twin first."""
    regions: int = 1
    """More than one: each holds its part, and room for its share of one that failed."""
    retention_days: float = 90.0
    """That events are kept. twinsync itself never deletes any."""
    queries_per_s: float = 1_000.0

    @property
    def active(self) -> float:
        return self.twins * self.active_share


@dataclass(frozen=True, slots=True)
class Needed:
    """At a utilisation that leaves room."""

    shape: Installation
    installations: int
    workers: int
    """Machines for hosts and ingest."""
    broker_nodes: int
    database_servers: int
    """Primaries; each has a standby, and with several regions a copy in another."""
    serve_replicas: int
    disk_bytes: float
    """Of the primaries together, when the retention is full."""
    growth_bytes_day: float
    memory_bytes: float
    """Of resident twins."""
    utilisation: Mapping[str, float]
    """Place → share of what is installed, while no region is away."""
    planned: Mapping[str, float]
    """Place → installations or servers that it alone would need: not rounded."""
    cores: int

    @property
    def hosts(self) -> int:
        return self.installations * self.shape.hosts

    @property
    def ingests(self) -> int:
        return self.installations * self.shape.ingests

    @property
    def bottleneck(self) -> str:
        """What is full first when the load grows."""
        return max(self.utilisation, key=lambda place: self.utilisation[place])


def needed(demand: Demand, inputs: Inputs | None = None, shape: Installation = AS_BUILT) -> Needed:
    """What carries the demand, in installations of one shape that do not speak to each other.

    More demand never needs less of anything.
    """
    inputs = inputs or Inputs()
    a, m = inputs.assumed, inputs.measured
    spare = demand.regions / (demand.regions - 1) if demand.regions > 1 else 1.0
    rate, full = demand.events_per_s * spare, a.utilisation_max
    absent = 1 - demand.resident_share
    resident = demand.active * spare * demand.resident_share
    one = work(inputs, shape, absent)

    flows = {place: rate / full / most for place, most in limits(inputs, shape, absent).items()}
    flows["memory"] = resident * m.resident_bytes / full / a.host_memory_bytes / shape.hosts
    kept = _kept_bytes(demand, inputs, spare)
    servers = {place: rate / full / most for place, most in database_limits(inputs, shape, absent).items()}
    servers["disks"] = _disks(demand.active * spare, rate * one.pages, inputs)
    servers["room"] = kept / full / a.database_disk_bytes
    databases = _whole(max(servers.values()), demand.regions)
    installations = max(_whole(max(flows.values()), demand.regions), databases)

    broker_us = one.broker * (a.broker_replicas + 1)
    broker = rate * broker_us / (full * a.broker_cores * 1e6 * a.broker_replicas)
    clusters = _whole(broker, demand.regions)
    replicas = _whole(demand.queries_per_s * spare / full / m.reads_per_s, demand.regions)
    host_cores = shape.hosts * a.cores_a_host + shape.ingests
    workers = ceil(installations * host_cores / a.worker_cores)
    copies = 3 if demand.regions > 1 else 2
    nodes = clusters * a.broker_replicas
    used = full / spare
    return Needed(
        shape=shape,
        installations=installations,
        workers=workers,
        broker_nodes=nodes,
        database_servers=databases,
        serve_replicas=replicas,
        disk_bytes=kept,
        growth_bytes_day=_different_a_day(demand.events_per_s, inputs) * m.kept_bytes,
        memory_bytes=resident * m.resident_bytes,
        utilisation={place: used * share / installations for place, share in flows.items()}
        | {place: used * share / databases for place, share in servers.items()}
        | {"broker": used * broker / clusters},
        planned=flows | servers | {"broker": broker},
        cores=workers * a.worker_cores
        + nodes * a.broker_cores
        + copies * databases * a.database_cores
        + replicas,
    )


def _whole(many: float, regions: int) -> int:
    """At least one in each region, and as many in each."""
    return max(1, ceil(many / regions - 1e-9)) * regions


def _different_a_day(events_per_s: float, inputs: Inputs) -> float:
    return events_per_s * inputs.assumed.mean_to_peak * DAY_S * inputs.measured.different_share


def _kept_bytes(demand: Demand, inputs: Inputs, spare: float) -> float:
    """Tables and indexes; no less than all twins take with their events archived."""
    m, a = inputs.measured, inputs.assumed
    fresh = min(demand.retention_days, a.archived_after_days)
    days = fresh * m.kept_bytes + (demand.retention_days - fresh) * m.archived_bytes
    told = _different_a_day(demand.events_per_s, inputs) * days
    return spare * max(told, demand.twins * a.events_a_twin * m.archived_bytes)


def _disks(active: float, pages_per_s: float, inputs: Inputs) -> float:
    """Servers whose disks bring the pages of active twins that do not fit into their memory.

    With s servers a share 1 - s × memory / pages' bytes is missed, and s × I/O must bring it.
    """
    m, a = inputs.measured, inputs.assumed
    hot_bytes = active * a.events_a_twin * m.kept_bytes / a.page_share
    memory = a.utilisation_max * a.database_memory_bytes
    return pages_per_s / (a.utilisation_max * a.io_per_s + pages_per_s * memory / max(hot_bytes, 1.0))


# --- fail-over -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Away:
    """How something fails. Times in s, all assumed but the lease."""

    name: str
    noticed_s: float
    taken_over_s: float
    """By the standby, by Ray, or by people who decide."""
    lost_s: float = 0.0
    """Commits that had been acknowledged and are not in the copy."""
    cold: bool = True
    """Memory is lost."""
    region: bool = False
    """Others take over; where there are none, hosts that are started elsewhere."""


FAILURES = (
    Away("a host dies", 5.0, 5.0),
    Away("a database server dies, synchronous standby", 10.0, 30.0, cold=False),
    Away("a region is lost, synchronous copy", 60.0, 300.0, region=True),
    Away("a region is lost, asynchronous copy", 60.0, 300.0, lost_s=1.0, region=True),
)


@dataclass(frozen=True, slots=True)
class FailOver:
    away: Away
    again_s: float
    """Until events are taken again."""
    current_s: float
    """Until what waited meanwhile is taken too, and twins are current."""
    backlog: float
    """Messages that waited at most: for that host, for the hosts on that server, or for all."""
    lost: float
    """Messages that were acknowledged and are not in the copy."""
    activations_s: float
    """That a host needs to bring back all of its twins, did it nothing else."""


def fail_over(demand: Demand, inputs: Inputs, away: Away, shape: Installation = AS_BUILT) -> FailOver:
    """One host, as all are in the same case: twins come back as they are asked for, each message costs more.

    A fluid: messages wait in the broker, the share of cold twins falls with each that is read. A region's
    load is taken over by hosts that were kept free for it.
    """
    plan = needed(demand, inputs, shape)
    part = 1 / demand.regions if away.region else 1.0
    hosts = plan.hosts * (1 - part) if away.region and demand.regions > 1 else float(plan.hosts)
    load, twins = demand.events_per_s / hosts, demand.active * demand.resident_share / hosts
    warm, cold = (min(limits(inputs, shape, absent).values()) / shape.hosts for absent in (0.0, 1.0))
    warm_s, more_s = 1 / warm, 1 / cold - 1 / warm
    outage = away.noticed_s + away.taken_over_s
    waiting = most = load * outage * part
    cold_share, at, step = (part if away.cold else 0.0), outage, 0.25
    while waiting > load * 0.05 and at < DAY_S:
        done = min(waiting + load * step, step / (warm_s + cold_share * more_s))
        waiting += load * step - done
        most = max(most, waiting)
        cold_share *= 1 - min(done / max(twins, done), 1.0)
        at += step
    affected = hosts if away.region else hosts / plan.database_servers if not away.cold else 1.0
    return FailOver(
        away=away,
        again_s=outage,
        current_s=at,
        backlog=most * affected,
        lost=away.lost_s * demand.events_per_s * part,
        activations_s=twins * part * more_s if away.cold else 0.0,
    )


def with_replica(inputs: Inputs, replica_us: float) -> Inputs:
    """Each commit waits for a copy so far away."""
    return replace(inputs, assumed=replace(inputs.assumed, replica_us=replica_us))
