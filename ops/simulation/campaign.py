"""Many seeds, side by side."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from ops.simulation.faults import Fault
from ops.simulation.verdict import Verdict, run_simulation


def run_campaign(
    seeds: Sequence[int], orders: Sequence[int], faults: frozenset[Fault] | None, jobs: int
) -> Iterator[tuple[Verdict, dict[str, Any]]]:
    """Each seed's verdict in the order of seeds, with the sums of all so far."""
    injected: Counter[str] = Counter()
    events = passed = 0
    for number, verdict in enumerate(
        _verdicts(seeds, partial(run_simulation, faults=faults), orders, jobs), 1
    ):
        injected.update(verdict["injected"])
        events += verdict["events"]
        passed += verdict["ok"]
        sums = {
            "runs": number,
            "passed": passed,
            "failed": number - passed,
            "events": events,
            "injected": dict(sorted(injected.items())),
        }
        yield verdict, sums


def _verdicts(seeds: Sequence[int], run: Any, orders: Sequence[int], jobs: int) -> Iterator[Verdict]:
    days = [orders] * len(seeds)
    if jobs == 1 or len(seeds) == 1:
        yield from map(run, seeds, days)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, seeds, days, chunksize=8)
