"""Every metric, once: name, kind, unit and meaning. Dashboards and alerts are checked against it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ops.wiring import Installation
from twins.runtime.gateway import gateway_name
from twins.runtime.reconcile.schedule import DIFFERENCES

Figures = dict[tuple[str, str], dict[str, float]]
"""(role, actor) → figure → value."""


@dataclass(frozen=True, slots=True)
class Entry:
    role: Literal["host", "ingest", "gateway"]
    figure: str
    """Name of the figure in the actor's counts."""
    name: str
    kind: Literal["counter", "gauge"]
    meaning: str


CATALOGUE: tuple[Entry, ...] = (
    Entry("host", "events", "twinsync_events", "counter", "Events committed"),
    Entry("host", "duplicates", "twinsync_events_duplicate", "counter", "Events that were known already"),
    Entry("host", "late", "twinsync_events_late", "counter", "Events folded in before others already folded"),
    Entry("host", "conflicts", "twinsync_events_conflicting", "counter", "Known ids told with other content"),
    Entry("host", "elsewhere", "twinsync_batches_elsewhere", "counter", "Batches refused: a twin had moved"),
    Entry("host", "placement", "twinsync_placement_version", "gauge", "Version of where twins live"),
    Entry("host", "rejected", "twinsync_messages_rejected", "counter", "Messages that went to dead letters"),
    Entry("host", "batches", "twinsync_batches", "counter", "Batches committed"),
    Entry("host", "commits", "twinsync_commits", "counter", "Transactions that committed them"),
    Entry("host", "commands", "twinsync_commands_planned", "counter", "Commands queued for an ERP"),
    Entry("host", "reversals", "twinsync_reversals_planned", "counter", "Commands that reverse a posting"),
    Entry("host", "activations", "twinsync_twins_activated", "counter", "Twins loaded from the database"),
    Entry("host", "passivations", "twinsync_twins_passivated", "counter", "Twins dropped from memory"),
    Entry("host", "deadlines", "twinsync_deadlines_passed", "counter", "Findings that became overdue"),
    Entry("host", "archived_twins", "twinsync_twins_archived", "counter", "Twins whose events were archived"),
    Entry("host", "archived_events", "twinsync_events_archived", "counter", "Events moved to the archive"),
    Entry("host", "archived_bytes", "twinsync_archive_bytes", "counter", "Bytes written to the archive"),
    Entry("host", "fold_s", "twinsync_fold_seconds", "counter", "Time spent folding batches"),
    Entry("host", "commit_s", "twinsync_commit_seconds", "counter", "Time spent committing batches"),
    Entry("host", "resident_twins", "twinsync_twins_resident", "gauge", "Twins in memory"),
    Entry("host", "missing_numbers", "twinsync_numbers_missing", "gauge", "Numbers that sources left out"),
    Entry("host", "dead_letters", "twinsync_dead_letters_open", "gauge", "Dead letters that nobody settled"),
    Entry(
        "host",
        "dead_letter_oldest_s",
        "twinsync_dead_letter_oldest_seconds",
        "gauge",
        "How long the oldest open dead letter has waited",
    ),
    Entry(
        "host", "ingest_actors", "twinsync_ingest_actors", "gauge", "Ingest actors, told by the first host"
    ),
    Entry("host", "queue_events", "twinsync_queue_waiting", "gauge", "Events but scans that no ingest holds"),
    Entry("host", "queue_bulk", "twinsync_queue_bulk_waiting", "gauge", "Scans that no ingest holds"),
    Entry("ingest", "consumed", "twinsync_messages_consumed", "counter", "Messages taken, and acknowledged"),
    Entry("ingest", "redelivered", "twinsync_messages_redelivered", "counter", "Those that came once more"),
    Entry("ingest", "held", "twinsync_messages_held", "gauge", "Messages in an ingest, for its next batch"),
    Entry("ingest", "announced", "twinsync_changes_announced", "counter", "Changes told at the broker"),
    Entry(
        "ingest",
        "announced_late_s",
        "twinsync_changes_late_seconds",
        "gauge",
        "How old the oldest change is that is not told there",
    ),
    Entry("gateway", "told", "twinsync_erp_commands_told", "counter", "Commands told to the ERP"),
    Entry("gateway", "confirmed", "twinsync_erp_confirmed", "counter", "Commands that the ERP confirmed"),
    Entry("gateway", "rejected", "twinsync_erp_rejected", "counter", "Commands that the ERP refused"),
    Entry("gateway", "annulled", "twinsync_erp_annulled", "counter", "Posts annulled before they were sent"),
    Entry("gateway", "looked_up", "twinsync_erp_looked_up", "counter", "Look-ups before telling again"),
    Entry("gateway", "unanswered", "twinsync_erp_unanswered", "counter", "Calls whose fate is unknown"),
    Entry("gateway", "timed_out", "twinsync_erp_timed_out", "counter", "Calls that took too long"),
    Entry("gateway", "retried", "twinsync_erp_retried", "counter", "Commands taken up again after a failure"),
    Entry(
        "gateway", "withheld", "twinsync_erp_withheld", "counter", "Commands kept back by the open circuit"
    ),
    Entry("gateway", "throttled", "twinsync_erp_throttled", "counter", "Calls that waited for the throttle"),
    Entry("gateway", "throttle_wait_s", "twinsync_erp_throttle_wait_seconds", "counter", "What they waited"),
    Entry("gateway", "openings", "twinsync_erp_circuit_openings", "counter", "How often the circuit opened"),
    Entry("gateway", "circuit", "twinsync_erp_circuit", "gauge", "0 closed, 1 open, 2 half-open: a probe"),
    Entry("gateway", "paused", "twinsync_erp_paused", "gauge", "1 while paused by hand"),
    Entry(
        "gateway", "retries_left", "twinsync_erp_retries_left", "gauge", "What the retry budget allows now"
    ),
    Entry("gateway", "queued", "twinsync_erp_queue", "gauge", "Commands not finished"),
    Entry("gateway", "waiting", "twinsync_erp_waiting", "gauge", "Commands that wait for another document"),
    Entry("gateway", "flying", "twinsync_erp_flying", "gauge", "Commands being told, or about to be"),
    Entry("gateway", "resting", "twinsync_erp_resting", "gauge", "Commands that wait for their next attempt"),
    Entry("gateway", "troubled", "twinsync_erp_troubled", "gauge", "Commands whose last attempt failed"),
    Entry("gateway", "refusals_open", "twinsync_erp_refusals_open", "gauge", "Refusals that nobody settled"),
    Entry("gateway", "oldest_s", "twinsync_erp_oldest_seconds", "gauge", "How long the oldest command waits"),
)


DIFFERENCES_NAME = "twinsync_reconciliation_differences"
DIFFERENCES_MEANING = "What the last reconciliation found, where it is scheduled"


READY_NAME = "twinsync_ready"
READY_MEANING = "1 where what readiness asks answers: database, hosts, broker"
RUNNING_NAME = "twinsync_erp_running"
RUNNING_MEANING = "1 where the ERP's gateway answers"
NAMES = frozenset({*(entry.name for entry in CATALOGUE), DIFFERENCES_NAME, READY_NAME, RUNNING_NAME})
"""Of all metrics; in the text format a counter's ends in ``_total``."""


async def exposition(
    installation: Installation,
    read: Callable[[Installation], Awaitable[Figures]],
    ready: Callable[[], Awaitable[Mapping[str, bool]]],
) -> tuple[bytes, str]:
    """All metrics of all actors in the Prometheus text format, and its content type.

    *ready*: name of each check → whether it succeeds.
    """
    registry = CollectorRegistry()
    figures, states = await asyncio.gather(read(installation), ready())
    registry.register(_Snapshot(figures, states, installation.erps))
    return generate_latest(registry), CONTENT_TYPE_LATEST


@dataclass(frozen=True, eq=False)
class _Snapshot:
    figures: Figures
    ready: Mapping[str, bool]
    erps: Sequence[str]

    def collect(self) -> Iterator[Metric]:
        for entry in CATALOGUE:
            family = CounterMetricFamily if entry.kind == "counter" else GaugeMetricFamily
            metric = family(entry.name, entry.meaning, labels=("actor",))
            for (role, actor), counts in sorted(self.figures.items()):
                if role == entry.role and entry.figure in counts:
                    metric.add_metric((actor,), counts[entry.figure])
            yield metric
        yield self._differences()
        yield self._ready()
        yield self._running()

    def _differences(self) -> Metric:
        metric = GaugeMetricFamily(DIFFERENCES_NAME, DIFFERENCES_MEANING, labels=("kind",))
        for counts in self.figures.values():
            for figure, value in counts.items():
                if figure.startswith(DIFFERENCES):
                    metric.add_metric((figure.removeprefix(DIFFERENCES),), value)
        return metric

    def _ready(self) -> Metric:
        metric = GaugeMetricFamily(READY_NAME, READY_MEANING, labels=("check",))
        for check, succeeds in self.ready.items():
            metric.add_metric((check,), float(succeeds))
        return metric

    def _running(self) -> Metric:
        """Whoever is gone tells nothing of itself, and no other figure of it would raise an alarm."""
        metric = GaugeMetricFamily(RUNNING_NAME, RUNNING_MEANING, labels=("actor",))
        for erp in self.erps:
            actor = gateway_name(erp)
            metric.add_metric((actor,), float(("gateway", actor) in self.figures))
        return metric
