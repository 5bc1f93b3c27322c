"""Measuring this machine, from the command line."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import from_json, to_json

from ops.commands.asked import err


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
    if json is not None:
        json.write_bytes(to_json(found, indent=2) + b"\n")


def bench_million(
    database: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL to measure beside SQLite; databases are made in its server, and dropped."
        ),
    ] = None,
    orders: Annotated[int, typer.Option(min=1_000, help="And as many shipments.")] = 1_000_000,
    resident: Annotated[int, typer.Option(min=1_000, help="Twins that stay in memory.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    json: Annotated[Path | None, typer.Option(help="Add figures and ratios to this file.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the databases live.")] = Path(".twinsync/million"),
) -> None:
    """Measure a host over a million orders and shipments beside one over a thousand twins."""
    from ops.bench.million_run import FEW, run
    from ops.wiring import collect_seldom

    collect_seldom()
    folder = data_dir / secrets.token_hex(4)
    try:
        found = run(database, orders, resident, rounds, folder, err)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if json is not None:
        told = from_json(json.read_bytes()) if json.exists() else {"figures": {}, "ratios": {}}
        for name, one in found.items():
            ratios = {way: ratio for way, ratio in one["ratios"].items() if way != FEW}
            told["ratios"].setdefault(name, {})["million_vs_thousand"] = ratios
        json.write_bytes(to_json(told | {"million": found}, indent=2) + b"\n")


def bench_overload(
    broker: Annotated[
        str,
        typer.Option(envvar="TWINSYNC_AMQP_URL", help="AMQP address of a RabbitMQ; queues are made in it."),
    ],
    messages: Annotated[int, typer.Option(min=20_000, help="Of a day; half of them are scans.")] = 90_000,
    json: Annotated[Path | None, typer.Option(help="Write what was seen each second here.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where the database lives.")] = Path(".twinsync/overload"),
) -> None:
    """Flood twins with scans, which may wait, and see how soon others are visible, and that it drains."""
    from ops.local import ray_home

    with ray_home(data_dir) as home:
        from ops.bench.overload import run

        found = run(broker, messages, data_dir, home, err)
    if json is not None:
        json.write_bytes(to_json(found, indent=2) + b"\n")
