"""Tables of the model and of its check: for the terminal, and as docs/capacity.md holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from canonical.errors import RejectedMessage
from ops.capacity.check import Check, check, simulated_carried
from ops.capacity.installation import (
    AS_BUILT,
    Inputs,
    Installation,
    by_cost_alone,
    carried,
    database_limits,
    limits,
    shipped,
)
from ops.capacity.model import FAILURES, Demand, Needed, fail_over, needed, with_replica
from ops.capacity.plot import plotted
from ops.capacity.simulation import Outcome

BEGIN, END = "<!-- made by `make capacity`: from here", "<!-- to here -->"
SIZES = (10_000.0, 100_000.0, 1_000_000.0)
PLACES = {
    "queue": "a queue's leader at the broker",
    "ingest": "the ingest actor",
    "host": "the host's thread",
    "turns": "its turns: fold beside commit",
    "lanes": "its lanes: two full batches under way",
    "memory": "memory for resident twins",
    "transactions": "PostgreSQL: transactions at once",
    "log": "PostgreSQL: log (WAL)",
    "disks": "PostgreSQL: pages not in memory",
    "room": "PostgreSQL: room on one server",
    "broker": "broker nodes",
}
ANOTHER_REGION_US = 30_000.0
SHAPES: tuple[Installation, ...] = (
    *(Installation(hosts=hosts) for hosts in (1, 2, 4, 8)),
    *(shipped(hosts) for hosts in (2, 4, 8)),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table before it is drawn. The first column is words, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        table = Table(*self.columns, box=None, header_style="dim", title=self.title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.columns, ("---", *("---:" for _ in self.columns[1:])), *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in lines) + "\n"


def inputs_sheet(inputs: Inputs) -> Sheet:
    m = inputs.measured
    rows = (
        ("end to end, one host", f"{m.product_per_s:,.0f}/s", "bench"),
        ("consume and acknowledge alone", f"{m.raw_per_s:,.0f}/s", "bench"),
        ("ingest", f"{m.ingest_us:.0f} µs", "bench: consuming alone"),
        ("broker, delivering", f"{m.broker_us:.0f} µs", "bench: at most, the other core meanwhile"),
        ("fold", f"{m.fold_us:.0f} µs", "bench"),
        ("commit, all of it", f"{m.commit_us:.0f} µs", f"bench, {m.batch_messages:,.0f} messages a batch"),
        ("… a transaction, however small", f"{m.transaction_us:,.0f} µs", "bench: of one row, alone"),
        ("… each message", f"{m.rows_us:.0f} µs", "what is left"),
        ("… a letter taken out of the mail", f"{m.letter_us:,.0f} µs", "bench: alone"),
        ("else, charged to the host", f"{m.other_us:.0f} µs", "bench: so that the parts add up to the whole"),
        ("log an event that is new", f"{m.disk_bytes * inputs.assumed.wal_factor:,.0f} B", "bench × 1.5"),
        ("rows a message", f"{inputs.counted.rows:.1f}", "counted in the core"),
        (
            "letters a message; a letter",
            f"{inputs.counted.letters_a_message:.2f}; {inputs.counted.letters_a_letter:.2f}",
            "counted, all twins on different hosts",
        ),
    )
    title = f"Inputs, of one message: {m.database} on {m.machine}; rounds of the bench: {m.rounds}"
    return Sheet(title, ("", "figure", "from"), rows)


def limits_sheet(inputs: Inputs, shape: Installation = AS_BUILT) -> Sheet:
    found = limits(inputs, shape) | database_limits(inputs, shape)
    rows = tuple((PLACES[place], f"{found[place]:,.0f}") for place in sorted(found, key=found.__getitem__))
    return Sheet("Full at so many messages a second: one installation of one host", ("", "messages/s"), rows)


def shapes_sheet(inputs: Inputs) -> Sheet:
    """The last column: were the fixed part of a transaction, which was measured alone, much more."""
    thrice = replace(inputs.measured, transaction_us=3 * inputs.measured.transaction_us)
    dearer = replace(inputs, measured=thrice)
    rows = tuple(
        (
            _named(shape),
            f"{by_cost_alone(inputs, shape):,.0f}",
            f"{carried(inputs, shape):,.0f}",
            f"{simulated_carried(inputs, shape):,.0f}",
            f"{simulated_carried(dearer, shape):,.0f}",
        )
        for shape in SHAPES
    )
    return Sheet(
        "What one installation keeps up with, in messages a second",
        ("", "by cost alone", "model", "simulation", "simulation, a transaction at three times"),
        rows,
    )


def _named(shape: Installation) -> str:
    words = [
        f"{shape.hosts} host{'s' * (shape.hosts > 1)}",
        f"{shape.ingests} ingest{'s' * (shape.ingests > 1)}",
    ]
    return ", ".join(words)


def needed_sheet(plans: Sequence[tuple[Demand, Needed]]) -> Sheet:
    twins = sorted({f"{demand.twins:,.0f}" for demand, _ in plans})
    days = sorted({f"{demand.retention_days:.0f}" for demand, _ in plans})
    columns = (
        "messages/s",
        "installations × hosts",
        "workers",
        "broker nodes",
        "PostgreSQL",
        "Serve",
        "disk",
        "a day",
        "twins' memory",
        "cores",
        "full first",
    )
    rows = tuple(
        (
            f"{demand.events_per_s:,.0f}",
            f"{plan.installations:,} × {plan.shape.hosts}",
            f"{plan.workers:,}",
            f"{plan.broker_nodes:,}",
            f"{plan.database_servers:,}",
            f"{plan.serve_replicas:,}",
            _bytes(plan.disk_bytes),
            _bytes(plan.growth_bytes_day),
            _bytes(plan.memory_bytes),
            f"{plan.cores:,}",
            f"{PLACES[plan.bottleneck]}, {plan.utilisation[plan.bottleneck]:.0%}",
        )
        for demand, plan in plans
    )
    title = f"Needed with {', '.join(twins)} twins and events of {', '.join(days)} days"
    return Sheet(title, columns, rows)


def database_sheet(plans: Sequence[tuple[Demand, Needed]]) -> Sheet:
    """Servers that each reason alone would need: the greatest decides."""
    places = ("transactions", "log", "disks", "room")
    rows = tuple(
        (f"{demand.events_per_s:,.0f}", *(f"{plan.planned[place]:,.1f}" for place in places))
        for demand, plan in plans
    )
    columns = ("messages/s", *(PLACES[place].removeprefix("PostgreSQL: ") for place in places))
    return Sheet("PostgreSQL servers, by reason", columns, rows)


def check_sheet(checks: Sequence[Check]) -> Sheet:
    rows = tuple(row for one in checks for row in _checked(one))
    columns = (
        "a server's share",
        "carried/s",
        "p50 ms",
        "p99 ms",
        "host",
        "commit",
        "log",
        "batch",
        "verdict",
    )
    return Sheet("The plan simulated: the installations that share one database server", columns, rows)


def _checked(one: Check) -> Iterator[tuple[str, ...]]:
    share = f"{one.events_per_s:,.0f}/s on {one.installations}"
    yield _outcome(share, one.enough)
    yield _outcome("… in bursts", one.bursty)
    yield _outcome("… on half", one.half)


def _outcome(what: str, one: Outcome) -> tuple[str, ...]:
    return (
        what,
        f"{one.carried_per_s:,.0f} of {one.offered_per_s:,.0f}",
        f"{one.p50_ms:,.0f}",
        f"{one.p99_ms:,.0f}",
        *(f"{min(one.utilisation[place], 1.0):.0%}" for place in ("host", "commit", "log")),
        f"{one.batch_messages:,.0f}",
        "keeps up" if one.keeps_up else "**falls behind**",
    )


def fail_over_sheet(demands: Sequence[Demand], inputs: Inputs) -> Sheet:
    rows = tuple(
        (
            f"{away.name}; {demand.events_per_s:,.0f}/s",
            f"{found.again_s:,.0f} s",
            f"{found.current_s:,.0f} s",
            f"{found.backlog:,.0f}",
            f"{found.lost:,.0f}",
            f"{found.activations_s:,.0f} s",
        )
        for away in FAILURES
        for demand in demands
        for found in (fail_over(replace(demand, regions=2) if away.region else demand, inputs, away),)
    )
    columns = ("", "taken again after", "current after", "waited at most", "lost (RPO)", "activations a host")
    return Sheet("What a failure costs; regions: two, each with room for the other", columns, rows)


def synchronous_sheet(inputs: Inputs) -> Sheet:
    far = with_replica(inputs, ANOTHER_REGION_US)
    rows = []
    for what, given, shape in (
        ("copy in the region, or none", inputs, AS_BUILT),
        ("synchronous copy 30 ms away", far, AS_BUILT),
        ("… and a latency target of 1 s", far, replace(AS_BUILT, latency_target_s=1.0)),
    ):
        one = check(Demand(4_000.0), given, shape)
        rows.append(
            (
                what,
                f"{carried(given, shape):,.0f}",
                f"{simulated_carried(given, shape):,.0f}",
                f"{one.installations}",
                f"{one.enough.p50_ms:.0f}",
                f"{one.enough.p99_ms:.0f}",
            )
        )
    columns = ("", "model/s", "simulation/s", "installations for 4,000/s", "p50 ms then", "p99 ms")
    return Sheet("What waiting for a copy costs one installation", columns, tuple(rows))


def _bytes(many: float) -> str:
    for unit in ("GB", "TB"):
        many /= 1e9 if unit == "GB" else 1e3
        if many < 1_000:
            return f"{many:,.0f} {unit}" if many >= 10 else f"{many:,.1f} {unit}"
    return f"{many / 1e3:,.1f} PB"


# --- the document ----------------------------------------------------------------------------------------


def markdown(inputs: Inputs) -> str:
    """All tables, checked by simulation: a minute."""
    demands = [Demand(size) for size in SIZES]
    plans = [(demand, needed(demand, inputs)) for demand in demands]
    sheets = (
        inputs_sheet(inputs),
        limits_sheet(inputs),
        shapes_sheet(inputs),
        needed_sheet(plans),
        database_sheet(plans),
        check_sheet([check(demand, inputs, AS_BUILT) for demand in demands]),
        fail_over_sheet(demands[1:2], inputs),
        synchronous_sheet(inputs),
    )
    return "\n".join(sheet.markdown() for sheet in sheets)


def rewrite(document: Path, inputs: Inputs) -> None:
    """Put new tables between the two marks of a document, and the plot beside it.

    Raises: RejectedMessage where it has no marks.
    """
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    mark, end, after = rest.partition(END)
    if not begin or not end:
        raise RejectedMessage(f"{document} has no lines {BEGIN!r} and {END!r}")
    first = mark.partition("\n")[0]
    document.write_text(f"{before}{BEGIN}{first}\n\n{markdown(inputs)}\n{END}{after}")
    document.with_suffix(".svg").write_text(plotted(inputs))
