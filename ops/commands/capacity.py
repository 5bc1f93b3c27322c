"""What a load needs, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from canonical.errors import RejectedMessage
from ops.commands.asked import BROKEN_INPUT, err, out, refused


def capacity(
    events_per_second: Annotated[
        float | None,
        typer.Option(min=1.0, help="Messages at the peak. Otherwise: ten and a hundred thousand, a million."),
    ] = None,
    twins: Annotated[float, typer.Option(min=1.0, help="That have ever been heard of.")] = 1e9,
    regions: Annotated[int, typer.Option(min=1, help="Each with room for its share of one that failed.")] = 1,
    retention_days: Annotated[float, typer.Option(min=1.0, help="How long events are kept.")] = 90.0,
    bench: Annotated[
        Path | None, typer.Option(help="What `twinsync bench --json` wrote. Otherwise: what we measured.")
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Check the plan: it must carry the load, and half of it must not."),
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Write all tables and the plot into this document instead.")
    ] = None,
) -> None:
    """Say how many hosts, brokers and database servers a load needs, and what is full first.

    Exit status 1 where the simulation does not bear the plan out.
    """
    from ops.capacity.check import check
    from ops.capacity.installation import AS_BUILT, Inputs
    from ops.capacity.measured import read_bench
    from ops.capacity.model import Demand, needed
    from ops.capacity.report import (
        SIZES,
        check_sheet,
        database_sheet,
        fail_over_sheet,
        inputs_sheet,
        limits_sheet,
        needed_sheet,
        rewrite,
    )

    try:
        inputs = Inputs() if bench is None else Inputs(read_bench(bench))
        if markdown is not None:
            with err.status("simulating"):
                rewrite(markdown, inputs)
            return
    except RejectedMessage as rejected:
        raise refused(str(bench or markdown), rejected) from None
    except OSError as error:
        err.print(f"{error.filename}: {error.strerror}", style="red", highlight=False)
        raise typer.Exit(BROKEN_INPUT) from None
    sizes = SIZES if events_per_second is None else (events_per_second,)
    demands = [Demand(size, twins, regions=regions, retention_days=retention_days) for size in sizes]
    plans = [(demand, needed(demand, inputs)) for demand in demands]
    for sheet in (
        inputs_sheet(inputs),
        limits_sheet(inputs),
        needed_sheet(plans),
        database_sheet(plans),
        fail_over_sheet(demands, inputs),
    ):
        out.print(sheet.rich(), "", highlight=False)
    if simulate:
        with err.status("simulating"):
            checks = [check(demand, inputs, AS_BUILT) for demand in demands]
        out.print(check_sheet(checks).rich(), highlight=False)
        if not all(one.holds for one in checks):
            raise typer.Exit(1)
