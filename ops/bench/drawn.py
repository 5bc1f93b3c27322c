"""What the benchmarks found, as plots: drawn from what `--json` holds, so that nothing is measured anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from canonical.errors import RejectedMessage
from ops.bench.asking import percentile
from ops.plots import BLUE, GREEN, GREY, ORANGE, VIOLET, Bars, Curve, Lines, drawn

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
WIDE, HIGH = 640, 130
TARGET_MS = 100.0
"""By which a message is meant to be visible."""
SHARES = (0.25, 0.5, 0.75)


def draw(file: Path, folder: Path) -> list[Path]:
    """Draw what a bench wrote. Answers the files that were written.

    Raises: RejectedMessage where it is no bench.
    """
    try:
        told = from_json(file.read_bytes())
        plots = dict(_plots(told))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise RejectedMessage(f"not what a bench writes: {error!r}") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        (folder / name).write_text(plot)
    return [folder / name for name in plots]


def _plots(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    notes = _machine(told["machine"]), ", ".join(f"{name} {one}" for name, one in told["versions"].items())
    if "samples" in told:
        yield "overload.svg", _overload(told, notes)
        return
    figures = {name: float(one["median"]) for name, one in told["figures"].items()}
    measured = told["ratios"]["by_database"]
    rounds = max(len(one["rounds"]) for one in told["figures"].values())
    notes = f"{notes[0]}; medians of {rounds} rounds", notes[1]
    writes = [_write(figures, ratios, one) for one, ratios in measured.items()]
    yield "benchmark-write.svg", drawn(writes, columns=1, notes=notes)
    yield "benchmark-latency.svg", drawn([_latency(figures, one) for one in measured], notes=notes)


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, "
        f"Python {machine['python']}"
    )


def _write(figures: Mapping[str, float], ratios: Mapping[str, float], database: str) -> Bars:
    def bar(name: str, figure: float, product: float | None = None) -> tuple[str, float, str]:
        beside = "" if product is None else f"; the product takes {product:.2g} times as many"
        return name, figure, f"{figure:,.0f}{beside}"

    bars = [
        bar("raw consumer", figures["raw consumer"], ratios["write_vs_raw"]),
        bar("bare pipe", figures["bare pipe"], ratios["write_vs_pipe"]),
        bar("product", figures[f"product, {database}"]),
        bar("naive consumer", figures[f"naive consumer, {database}"], ratios["write_vs_naive"]),
    ]
    return Bars(f"{DATABASES[database]}, messages a second", bars, (GREY, GREY, BLUE, ORANGE))


def _latency(figures: Mapping[str, float], database: str) -> Lines:
    def curve(name: str, colour: str) -> Curve:
        return Curve(
            name,
            colour,
            [
                (share, figures[f"ms until visible, {name} at {share:.0%} load, {database}"])
                for share in SHARES
            ],
        )

    meant = Curve("meant, p99 at 50 %", GREY, [(0.0, TARGET_MS), (0.75, TARGET_MS)], dashed=True)
    ticks = [
        (share, f"{share:.0%}: {figures[f'messages a second at {share:.0%} load, {database}']:,.0f}/s")
        for share in SHARES
    ]
    return Lines(
        f"{DATABASES[database]}: from publishing to visible, ms (log)",
        "load, of what is taken from full queues",
        [curve("p50", BLUE), curve("p99", ORANGE), meant],
        log=True,
        least=1.0,
        most=10_000.0,
        along_most=1.0,
        along_ticks=ticks,
        width=380,
    )


def _overload(told: Mapping[str, Any], notes: Sequence[str]) -> str:
    samples: Sequence[Mapping[str, float]] = told["samples"]
    spans = [(name, *one["span"]) for name, one in told["phases"].items()]

    def sampled(name: str, colour: str, what: str) -> Curve:
        return Curve(name, colour, [(one["at_s"], one[what]) for one in samples])

    def panel(title: str, curves: Sequence[Curve], **how: Any) -> Lines:
        return Lines(
            title, "seconds", curves, spans=spans, along_most=seconds, width=WIDE, height=HIGH, **how
        )

    seconds = spans[-1][2]
    sustained = Curve("sustained", GREY, [(0, told["sustained"]), (seconds, told["sustained"])], dashed=True)
    target = Curve("meant", GREY, [(0, TARGET_MS), (seconds, TARGET_MS)], dashed=True)
    visible = [(at, ms) for at, ms in told["visible"]]
    reads = [(at, ms) for at, ms in told["reads"]]
    panels = [
        panel(
            "messages a second",
            [
                sampled("scans come", ORANGE, "scans_a_second"),
                sampled("taken", BLUE, "taken_a_second"),
                sustained,
            ],
        ),
        panel(
            "messages in the queues",
            [sampled("scans", ORANGE, "bulk_waiting"), sampled("all others", BLUE, "others_waiting")],
        ),
        panel(
            "orders: from publishing to visible, ms (log)",
            [
                Curve("an order", BLUE, visible, dots=True),
                _by_second("p99 a second", ORANGE, visible),
                target,
            ],
            log=True,
            least=1.0,
        ),
        panel(
            "reads of a twin over HTTP, ms (log)",
            [Curve("a read", GREEN, reads, dots=True), _by_second("p99 a second", ORANGE, reads)],
            log=True,
            least=1.0,
        ),
        panel("memory of the host, MB", [sampled("resident", VIOLET, "host_mb")]),
    ]
    return drawn(panels, columns=1, notes=notes)


def _by_second(name: str, colour: str, points: Sequence[tuple[float, float]]) -> Curve:
    seconds: dict[int, list[float]] = {}
    for at, figure in points:
        seconds.setdefault(int(at), []).append(figure)
    return Curve(name, colour, [(at + 0.5, percentile(one, 0.99)) for at, one in sorted(seconds.items())])
