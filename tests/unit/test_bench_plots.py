"""What a bench wrote can be drawn without measuring it anew, and has the names that others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from ops.cli import app

MACHINE = {"processor": "A processor", "cores": 2, "memory_gib": 24.0, "python": "3.11.7"}
SVG = "{http://www.w3.org/2000/svg}"


def bench() -> dict[str, Any]:
    from ops.bench.run import Figures, ratios

    figures = Figures()
    figures.add("raw consumer", 12_000.0)
    figures.add("bare pipe", 10_000.0)
    for database in ("sqlite", "postgresql"):
        figures.add(f"product, {database}", 6_000.0)
        figures.add(f"naive consumer, {database}", 300.0)
        figures.add(f"reads of twins, {database}", 4_000.0)
        figures.add(f"empty replies, {database}", 5_000.0)
        for share in (0.25, 0.5, 0.75):
            figures.add(f"messages a second at {share:.0%} load, {database}", 6_000 * share)
            figures.add(f"ms until visible, p50 at {share:.0%} load, {database}", 40.0)
            figures.add(f"ms until visible, p99 at {share:.0%} load, {database}", 90.0)
    return {
        "machine": MACHINE,
        "versions": {"ray": "2"},
        "figures": {name: {"median": one[0], "rounds": one} for name, one in figures.rounds.items()},
        "ratios": {"by_database": {one: ratios(figures, one) for one in ("sqlite", "postgresql")}},
    }


def overload() -> dict[str, Any]:
    from ops.bench.overload import Sample, Seen

    seen = Seen(sustained=4_000.0, sent=7_500.0)
    seen.phases = {"before": (0.0, 2.0), "flooded": (2.0, 4.0), "draining": (4.0, 5.0), "after": (5.0, 6.0)}
    seen.visible = [(second / 10, 0.05) for second in range(60)]
    seen.reads = [(second / 10, 0.004) for second in range(60)]
    seen.samples = [Sample(float(second), 7_500.0, 4_000.0, 900, 3, 250.0) for second in range(1, 8)]
    return {"machine": MACHINE, "versions": {"ray": "2"}} | seen.figures()


def drawn(folder: Path, told: dict[str, Any]) -> dict[str, ElementTree.Element]:
    file = folder / "bench.json"
    file.write_text(json.dumps(told))
    found = CliRunner().invoke(app, ["bench-plots", str(file), "--plots", str(folder / "plots")])
    assert found.exit_code == 0, found.output
    return {one.name: ElementTree.parse(one).getroot() for one in (folder / "plots").iterdir()}


def texts(plot: ElementTree.Element) -> str:
    return "\n".join("".join(one.itertext()) for one in plot.iter(f"{SVG}text"))


def test_a_bench_becomes_bars_beside_their_limits_and_latency_by_load(tmp_path: Path) -> None:
    plots = drawn(tmp_path, bench())
    assert set(plots) == {"benchmark-write.svg", "benchmark-latency.svg"}
    bars = [float(one.attrib["width"]) for one in plots["benchmark-write.svg"].iter(f"{SVG}rect")][1:5]
    assert bars == pytest.approx([300.0, 250.0, 150.0, 7.5], abs=0.1)
    assert "12,000; the product takes 0.5 times as many" in texts(plots["benchmark-write.svg"])
    assert "A processor, 2 cores" in texts(plots["benchmark-write.svg"])
    assert "50%: 3,000/s" in texts(plots["benchmark-latency.svg"])


def test_a_flood_becomes_five_panels_over_the_same_seconds(tmp_path: Path) -> None:
    plots = drawn(tmp_path, overload())
    assert set(plots) == {"overload.svg"}
    told = texts(plots["overload.svg"])
    for title in ("messages a second", "in the queues", "visible", "reads", "memory"):
        assert title in told
    assert told.count("flooded") == 5
    spans = [one.attrib["x"] for one in plots["overload.svg"].iter(f"{SVG}rect") if "x" in one.attrib]
    assert len(spans) == 20
    assert len(set(spans)) == 4


def test_a_stretch_in_which_nothing_was_seen_has_no_figures() -> None:
    """On a machine that is so busy that the observer itself comes to nothing."""
    from ops.bench.overload import Seen

    seen = Seen(phases={"before": (0.0, 1.0)})
    assert seen.figures()["phases"]["before"]["read_p99_ms"] is None
    assert seen.table().row_count == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}, "versions": {}, "figures": {"a": 1}}'])
def test_what_is_no_bench_is_not_drawn(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    found = CliRunner().invoke(app, ["bench-plots", str(file), "--plots", str(tmp_path / "plots")])
    assert found.exit_code == 2
    assert not (tmp_path / "plots").exists()


def test_ratios_have_the_names_that_were_agreed() -> None:
    assert set(bench()["ratios"]["by_database"]["sqlite"]) == {
        "write_vs_raw",
        "write_vs_pipe",
        "write_vs_naive",
        "read_vs_empty",
    }
