"""The command line."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.progress import Progress

from canonical.errors import RejectedMessage, TransientFailure
from canonical.translation import Connection, Inbound
from ops.commands import audit, bench, capacity, dead_letters, erp, exceptions, follow, hosts, reconcile
from ops.commands.asked import BROKEN_INPUT, HERE, Json, Key, Url, answer, err, out, print_json, refused

app = typer.Typer(
    name="twinsync",
    help="Live twins of orders, stock and shipments: the same facts give the same state and the same ERP "
    "postings, in whatever order and however often they arrive.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
Topic = Annotated[str | None, typer.Option(help="Shopify: the webhook's topic, if it is not told.")]
ConnectionName = Annotated[str, typer.Option(help="Name of the connection, part of the source.")]
ConnectionSettings = Annotated[
    list[str] | None, typer.Option(help="A connection setting, such as location.123=DC-01.")
]


app.command()(audit.audit)
app.command()(bench.bench)
app.command()(bench.bench_million)
app.command()(bench.bench_overload)
app.command()(bench.bench_plots)
app.command()(bench.bench_placement)
app.command()(exceptions.exceptions)
app.command()(follow.follow)
app.command()(hosts.rebalance)
app.command("hosts")(hosts.hosts)
app.command()(hosts.pin)
app.command()(hosts.unpin)
app.command()(capacity.capacity)
app.command()(reconcile.reconcile)
app.add_typer(dead_letters.app)


def main() -> None:
    app()


app.add_typer(erp.erp)
app.add_typer(erp.rejections)


@app.command()
def demo(
    orders: Annotated[int, typer.Option(min=1, help="How many orders the day has.")] = 200,
    seed: Annotated[int, typer.Option(help="The day is made from it; the same seed, the same day.")] = 1,
    broker: Annotated[
        str | None, typer.Option(help="AMQP address of a RabbitMQ; without it no broker is needed.")
    ] = None,
    port: Annotated[int, typer.Option(help="HTTP port; 0: any free one.")] = 8080,
    leave: Annotated[bool, typer.Option("--exit", help="End after the summary.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its databases.")] = Path(
        ".twinsync/demo"
    ),
) -> None:
    """Run a day of orders, twice, disordered and in order, and compare.

    Starts the service and a simulated ERP, sends Shopify, EasyPost and X12 payloads with duplicates and late
    messages, and shows what became of them. Exit status 0 only if both runs end in the same truth.
    """
    from ops.local import ray_home

    with ray_home(data_dir) as home:
        from ops.demo.run import run_demo

        status = run_demo(orders, seed, broker, port, leave, data_dir, home, out)
    raise typer.Exit(status)


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="HTTP port; TWINSYNC_HTTP_PORT otherwise.")] = None,
) -> None:
    """Start the service and stay up, configured by TWINSYNC_* variables.

    Uses the Ray cluster that RAY_ADDRESS names, or starts one of its own on this machine.
    """
    from ops.local import local_ray, ray_home, start_http, start_twins
    from ops.settings import Settings
    from ops.wiring import Installation

    settings = Settings()
    changes: dict[str, object] = {"http_port": port} if port is not None else {}
    if not settings.api_keys:
        key = secrets.token_urlsafe(24)
        changes["api_keys"] = (SecretStr(key),)
        out.print(f"No TWINSYNC_API_KEYS: made one for this run: [bold]{key}[/]")
    installation = Installation(settings.model_copy(update=changes))
    with ray_home(settings.data_dir) as home, local_ray(home):
        with out.status("starting twin hosts"):
            asyncio.run(start_twins(installation))
        with out.status("starting HTTP"):
            address = start_http(installation)
        ended = end_by_signal()
        out.print(f"twinsync answers at [bold]{address}[/]; its API is described at {address}/docs")
        ended.wait()


def end_by_signal() -> threading.Event:
    """Set when interrupted or terminated from now on; Ray's own handlers would leave HAProxy behind."""
    came = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: came.set())
    return came


@app.command()
def translate(
    file: Annotated[Path, typer.Argument(help="A payload as the partner sends it; - for standard input.")],
    adapter: Annotated[str, typer.Option(help="shopify, easypost, x12 or canonical.")],
    topic: Topic = None,
    connection: ConnectionName = "default",
    setting: ConnectionSettings = None,
) -> None:
    """Print a payload as canonical CloudEvents, one JSON a line. Needs no service.

    Exit status 2, with one line on standard error, for a payload that is refused.
    """
    headers = {"x-shopify-topic": topic} if topic is not None else {}
    events = _translated(file, adapter, _connection(adapter, connection, setting), headers)
    for event in events:
        sys.stdout.buffer.write(event.structured() + b"\n")
    sys.stdout.flush()
    if not events:
        err.print(f"{file}: read, and it tells nothing that a twin keeps", highlight=False, soft_wrap=True)


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(help="Payloads; - for standard input.")],
    adapter: Annotated[str, typer.Option(help="shopify, easypost, x12 or canonical.")],
    topic: Topic = None,
    connection: ConnectionName = "default",
    setting: ConnectionSettings = None,
    url: Url = HERE,
    key: Key = "",
    broker: Annotated[
        str | None, typer.Option(envvar="TWINSYNC_AMQP_URL", help="Publish to this RabbitMQ instead of HTTP.")
    ] = None,
    prefix: Annotated[
        str, typer.Option(envvar="TWINSYNC_AMQP_PREFIX", help="Of the installation there: PREFIX.events.")
    ] = "twinsync",
) -> None:
    """Translate payloads and send them to a running twinsync. Sending twice does no harm."""
    from canonical.envelope import batch
    from ops.asking import Asking
    from ops.publish import publish_to_broker

    events = []
    headers = {"x-shopify-topic": topic} if topic is not None else {}
    told = _connection(adapter, connection, setting)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("translating", total=len(files))
        for file in files:
            events += _translated(file, adapter, told, headers)
            progress.advance(task)
    try:
        if broker is not None:
            asyncio.run(publish_to_broker(broker, events, prefix))
        elif events:
            Asking(url, key).post("/v1/events", batch(events))
    except TransientFailure as failure:
        err.print(f"not sent, try again: {failure}", style="red", highlight=False)
        raise typer.Exit(1) from None
    except RejectedMessage as rejected:
        raise refused("publish", rejected) from None
    out.print(f"{len(events)} events from {len(files)} files")


Twin = Annotated[
    str, typer.Argument(help="A twin by kind and key, such as order/SO-1001 or stock/SKU-1@DC-01.")
]
AsOf = Annotated[
    str | None,
    typer.Option(help="What had happened by then, such as 2026-03-02T18:00:00Z. Otherwise: by now."),
]
KnownAt = Annotated[
    str | None, typer.Option(help="As far as it had been told by then. Otherwise: as far as it is known now.")
]


@app.command()
def show(
    twin: Twin,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show a twin as it stands, or what was believed of it: on Tuesday, about Monday.

    twinsync show order/SO-1001 --as-of 2026-03-02T23:59:59Z --known-at 2026-03-03T12:00:00Z
    """
    from ops import asking

    answer(
        url,
        key,
        as_json,
        asking.twin,
        lambda ask: ask.get(f"/v1/twins/{twin}", as_of=as_of, known_at=known_at),
    )


@app.command()
def explain(
    twin: Twin,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Say why a twin is what it is: which facts, from whom, what it waits for, what late facts changed."""
    from ops import asking

    path = f"/v1/twins/{twin}/explain"
    answer(url, key, as_json, asking.explanation, lambda ask: ask.get(path, as_of=as_of, known_at=known_at))


@app.command()
def what_if(
    file: Annotated[Path, typer.Argument(help="A payload that might come; - for standard input.")],
    adapter: Annotated[str, typer.Option(help="shopify, easypost, x12 or canonical.")] = "canonical",
    topic: Topic = None,
    connection: ConnectionName = "default",
    setting: ConnectionSettings = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Say what a payload would make of the twins and their postings, if it came. Nothing is stored."""
    from canonical.envelope import batch
    from ops import asking

    headers = {"x-shopify-topic": topic} if topic is not None else {}
    events = _translated(file, adapter, _connection(adapter, connection, setting), headers)
    answer(url, key, as_json, asking.outcomes, lambda ask: ask.post("/v1/twins:simulate", batch(events)))


@app.command()
def gaps(url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """List the numbers that sources have left out, since when, and how often they were asked for them."""
    from ops import asking

    answer(url, key, as_json, asking.gaps, lambda ask: ask.get("/v1/gaps"))


def _connection(adapter: str, name: str, settings: list[str] | None) -> Connection:
    pairs = dict(setting.partition("=")[::2] for setting in settings or [])
    return Connection(adapter, name, pairs)


def _translated(file: Path, adapter: str, connection: Connection, headers: dict[str, str]):  # type: ignore[no-untyped-def]
    from ops.translators import TRANSLATORS

    if adapter not in TRANSLATORS:
        known = ", ".join(sorted(TRANSLATORS))
        err.print(f"no adapter {adapter!r}; there are {known}", style="red", highlight=False)
        raise typer.Exit(BROKEN_INPUT)
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return TRANSLATORS[adapter](Inbound(body, headers), connection).events
    except RejectedMessage as rejected:
        raise refused(str(file), rejected) from None
    except OSError as error:
        err.print(f"{file}: {error.strerror}", style="red", highlight=False)
        raise typer.Exit(BROKEN_INPUT) from None


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="Draws the day, the faults and when they strike.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="How many seeds, counted up from --seed.")] = 1,
    orders: Annotated[int, typer.Option(min=0, help="How many orders a day has.")] = 40,
    faults: Annotated[
        str | None,
        typer.Option(help="Only these, by comma; none: no fault at all. Otherwise each seed draws its own."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only these of the day's orders, by number and comma.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes run seeds side by side.")] = 1,
) -> None:
    """Run the whole system in one process, with faults, and judge what is left by an oracle.

    Clocks are wrong, messages are lost, repeated and reordered, hosts crash, zombies wake, the ERP is slow,
    refuses, times out and forgets. Prints a JSON verdict; with several runs, that of each that fails and a
    summary. The first failure is shrunk to the fewest orders and faults that still fail. Exit status 1 unless
    all is ok.
    """
    from ops.simulation.campaign import run_campaign
    from ops.simulation.faults import Fault
    from ops.simulation.verdict import shrunk

    named = None if faults is None else {one for one in faults.split(",") if one not in ("", "none")}
    unknown = sorted((named or set()) - set(Fault))
    if unknown:
        err.print(f"no fault {unknown[0]!r}; there are {', '.join(Fault)}", style="red", highlight=False)
        raise typer.Exit(BROKEN_INPUT)
    chosen = None if named is None else frozenset(map(Fault, named))
    numbers = range(orders) if only is None else [int(number) for number in only.split(",")]
    failed: list[dict[str, Any]] = []
    sums: dict[str, Any] = {}
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("simulating", total=runs)
        for verdict, sums_so_far in run_campaign(range(seed, seed + runs), numbers, chosen, jobs):
            progress.advance(task)
            sums = sums_so_far
            if runs == 1 or not verdict["ok"]:
                print_json(verdict)
            if not verdict["ok"]:
                failed.append(verdict)
    if runs > 1:
        print_json(sums)
    if failed:
        first = failed[0]["seed"]
        with err.status(f"seed {first} fails; looking for the fewest orders and faults that still do"):
            small = shrunk(first, numbers, frozenset(map(Fault, failed[0]["faults"])))
        print_json({"shrunk": small})
        few = (
            f"--only {','.join(map(str, small['order_numbers']))}" if small["order_numbers"] else "--orders 0"
        )
        wrong = ",".join(small["faults"]) or "none"
        err.print(f"see it with: twinsync simulate --seed {first} {few} --faults {wrong}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def states() -> None:
    """Print the state machines as Markdown with diagrams, as docs/states.md holds them."""
    from ops.diagrams import states_markdown

    sys.stdout.write(states_markdown())


@app.command()
def schemas() -> None:
    """Print the JSON Schema of every event's data, by type."""
    from pydantic_core import to_json

    from canonical.catalogue import json_schemas

    sys.stdout.buffer.write(to_json(json_schemas(), indent=2) + b"\n")


if __name__ == "__main__":
    main()
