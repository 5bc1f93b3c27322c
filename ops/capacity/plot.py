"""Latency and utilisation against load, simulated, as an SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10

from ops.capacity.installation import AS_BUILT, Inputs, carried
from ops.capacity.simulation import Load, Outcome, Simulation

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1)
"""Of what the model says is full."""
WIDTH, HEIGHT, LEFT, TOP = 320, 220, 50, 40
Line = tuple[str, str, list[float]]
"""Name, colour, one figure a load."""


def plotted(inputs: Inputs) -> str:
    """Two panels beside each other; loads in messages a second, of one installation of one host."""
    full = carried(inputs, AS_BUILT)
    loads = [share * full for share in SHARES]
    found = [Simulation(inputs, AS_BUILT, Load(load, seconds=3.0)).run() for load in loads]
    latency: list[Line] = [
        ("p99", "#c2410c", [one.p99_ms for one in found]),
        ("p50", "#1d4ed8", [one.p50_ms for one in found]),
    ]
    busy: list[Line] = [
        (place, colour, [min(one.utilisation[place], 1.0) for one in found])
        for place, colour in (("ingest", "#047857"), ("host", "#1d4ed8"), ("commit", "#7c3aed"))
    ]
    busy.append(("batch / 500", "#6b7280", [min(_batch(one), 1.0) for one in found]))
    panels = (
        _panel("latency, ms (log)", 0, loads, latency, lambda ms: log10(max(ms, 1)) / 4, (1, 10, 100, 1e3)),
        _panel("utilisation", WIDTH + LEFT, loads, busy, lambda share: share, (0.0, 0.25, 0.5, 0.75, 1.0)),
    )
    wide, high = 2 * (WIDTH + LEFT) + LEFT, HEIGHT + 2 * TOP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="{wide}" height="{high}" fill="white"/>\n{"".join(panels)}</svg>\n'
    )


def _batch(one: Outcome) -> float:
    return one.batch_messages / 500


def _panel(
    title: str,
    left: int,
    loads: Sequence[float],
    lines: Sequence[Line],
    height: Callable[[float], float],
    ticks: Sequence[float],
) -> str:
    """*height*: a figure's place between 0, the bottom, and 1."""
    x0, y0 = left + LEFT, TOP + HEIGHT
    most = max(loads) * 1.02

    def x(load: float) -> float:
        return round(x0 + load / most * WIDTH, 1)

    def y(figure: float) -> float:
        return round(y0 - min(max(height(figure), 0.0), 1.0) * HEIGHT, 1)

    parts = [f'<text x="{x0}" y="{TOP - 22}" font-weight="bold">{title}</text>\n']
    parts += [
        f'<path d="M{x0} {y(tick)}h{WIDTH}" stroke="#e5e7eb"/>'
        f'<text x="{x0 - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>\n'
        for tick in ticks
    ]
    parts += [
        f'<text x="{x(load)}" y="{y0 + 16}" text-anchor="middle">{load:,}</text>\n'
        for load in range(0, int(most) + 1, 2_000)
    ]
    parts.append(f'<text x="{x0 + WIDTH / 2}" y="{y0 + 32}" text-anchor="middle">messages/s</text>\n')
    for number, (name, colour, figures) in enumerate(lines):
        points = " ".join(f"{x(load)},{y(figure)}" for load, figure in zip(loads, figures, strict=True))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x0 + number * 75}" y="{TOP - 8}" fill="{colour}">{name}</text>\n'
        )
    return "".join(parts)
