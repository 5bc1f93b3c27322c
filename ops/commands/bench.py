"""Measuring this machine, from the command line."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import from_json, to_json

from canonical.errors import RejectedMessage
from ops.commands.asked import err, refused

Plots = Annotated[Path | None, typer.Option(help="Draw what was found, as SVG files in this folder.")]


def bench(
    broker: Annotated[
        str,
        typer.Option(envvar="TWINSYNC_AMQP_URL", help="AMQP address of a RabbitMQ; queues are made in it."),
    ],
    database: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL to measure beside SQLite; databases are made in its server, and dropped."
        ),
    ] = None,
    events: Annotated[int, typer.Option(min=1_000, help="Messages a round, duplicates included.")] = 40_000,
    rounds: Annotated[int, typer.Option(min=1, help="Each measures everything once.")] = 5,
    json: Annotated[
        Path | None, typer.Option(help="Write machine, versions, figures and ratios here.")
    ] = None,
    plots: Plots = None,
    data_dir: Annotated[Path, typer.Option(help="Where the databases of a round live.")] = Path(
        ".twinsync/bench"
    ),
) -> None:
    """Measure the write path beside its limits: a raw consumer, a bare pipe and a naive consumer.

    All in the same rounds, so that their ratios hold whatever else the machine does.
    """
    from ops.local import ray_home

    with ray_home(data_dir) as home:
        from ops.bench.run import run

        found = run(broker, database, events, rounds, data_dir, home, err)
    _keep(found, json, plots, data_dir)


def bench_million(
    database: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL to measure beside SQLite; databases are made in its server, and dropped."
        ),
    ] = None,
    orders: Annotated[int, typer.Option(min=1_000, help="And as many shipments.")] = 1_000_000,
    resident: Annotated[
        list[int] | None,
        typer.Option(
            min=1_000, help="Twins that stay in memory; each is measured. Without: 200,000, and all of them."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="Add figures and ratios to this file.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the databases live.")] = Path(".twinsync/million"),
) -> None:
    """Measure a host over a million orders and shipments beside one over a thousand twins."""
    from ops.bench.million_run import FEW, run

    folder = data_dir / secrets.token_hex(4)
    try:
        found = run(database, orders, resident or (200_000, 3 * orders), rounds, folder, err)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if json is not None:
        told = from_json(json.read_bytes()) if json.exists() else {"figures": {}, "ratios": {}}
        ratios = told["ratios"].setdefault("by_database", {})
        for name, one in found.items():
            ratios.setdefault(name, {})["million_vs_thousand"] = {
                bound: {way: ratio for way, ratio in found_["ratios"].items() if way != FEW}
                for bound, found_ in one["bounds"].items()
            }
        told["ratios"]["million_vs_thousand"] = ratios["sqlite"]["million_vs_thousand"]
        json.write_bytes(to_json(told | {"million": found}, indent=2) + b"\n")


def bench_overload(
    broker: Annotated[
        str,
        typer.Option(envvar="TWINSYNC_AMQP_URL", help="AMQP address of a RabbitMQ; queues are made in it."),
    ],
    messages: Annotated[int, typer.Option(min=20_000, help="Of a day; half of them are scans.")] = 180_000,
    json: Annotated[Path | None, typer.Option(help="Write what was seen each second here.")] = None,
    plots: Plots = None,
    data_dir: Annotated[Path, typer.Option(help="Where the database lives.")] = Path(".twinsync/overload"),
) -> None:
    """Flood twins with scans, which may wait, and see how soon others are visible, and that it drains."""
    from ops.local import ray_home

    with ray_home(data_dir) as home:
        from ops.bench.overload import run

        found = run(broker, messages, data_dir, home, err)
    _keep(found, json, plots, data_dir)


def bench_plots(
    files: Annotated[list[Path], typer.Argument(exists=True, help="What `--json` of a bench wrote.")],
    folder: Annotated[Path, typer.Option("--plots", help="Where the plots go.")] = Path("docs"),
) -> None:
    """Draw what was measured, without measuring it anew."""
    for file in files:
        _draw(file, folder)


def bench_placement(
    twins: Annotated[int, typer.Option(min=1_000, help="That share a host.")] = 20_000,
    actors: Annotated[int, typer.Option(min=1, help="Twins that are an actor each.")] = 8,
    events: Annotated[int, typer.Option(min=100, help="Of either in a round.")] = 5_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the database lives.")] = Path(".twinsync/placement"),
) -> None:
    """Measure twins that share a host beside twins that are an actor each: memory, starts and events."""
    from ops.local import ray_home

    folder = data_dir / secrets.token_hex(4)
    try:
        with ray_home(data_dir) as home:
            from ops.bench.placement import run

            found = run(twins, actors, events, rounds, folder, home, err)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _keep(found, json, None, data_dir)


def _keep(found: dict[str, Any], json: Path | None, plots: Path | None, data_dir: Path) -> None:
    """Write what was found, and draw it from what is written."""
    if json is None and plots is None:
        return
    file = json or data_dir / "found.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(to_json(found, indent=2) + b"\n")
    if plots is not None:
        _draw(file, plots)


def _draw(file: Path, folder: Path) -> None:
    from ops.bench.drawn import draw

    try:
        for plot in draw(file, folder):
            err.print(f"wrote {plot}")
    except RejectedMessage as rejected:
        raise refused(str(file), rejected) from None
