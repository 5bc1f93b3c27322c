"""Latency and utilisation against load, simulated, as an SVG."""

from __future__ import annotations

from collections.abc import Callable

from ops.capacity.installation import AS_BUILT, Inputs, carried
from ops.capacity.simulation import Load, Outcome, Simulation
from ops.plots import BLUE, GREEN, GREY, ORANGE, VIOLET, Curve, Lines, drawn

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1)
"""Of what the model says is full."""


def plotted(inputs: Inputs) -> str:
    """Two panels beside each other; loads in messages a second, of one installation of one host."""
    full = carried(inputs, AS_BUILT)
    loads = [share * full for share in SHARES]
    found = [Simulation(inputs, AS_BUILT, Load(load, seconds=3.0)).run() for load in loads]

    def curve(name: str, colour: str, figure: Callable[[Outcome], float]) -> Curve:
        return Curve(name, colour, [(load, figure(one)) for load, one in zip(loads, found, strict=True)])

    latency = [
        curve("p99", ORANGE, lambda one: one.p99_ms),
        curve("p50", BLUE, lambda one: one.p50_ms),
    ]
    busy = [
        curve("ingest", GREEN, lambda one: min(one.utilisation["ingest"], 1.0)),
        curve("host", BLUE, lambda one: min(one.utilisation["host"], 1.0)),
        curve("commit", VIOLET, lambda one: min(one.utilisation["commit"], 1.0)),
        curve("batch / 500", GREY, lambda one: min(one.batch_messages / 500, 1.0)),
    ]
    along = "messages/s"
    return drawn(
        [
            Lines("latency, ms (log)", along, latency, log=True, least=1.0, most=10_000.0),
            Lines("utilisation", along, busy, most=1.0),
        ]
    )
