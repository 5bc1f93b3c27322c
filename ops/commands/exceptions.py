"""twinsync exceptions."""

from __future__ import annotations

from typing import Annotated

import typer

from canonical.identity import Kind
from ops.commands.asked import HERE, Json, Key, Url, answer


def exceptions(
    kind: Annotated[Kind | None, typer.Option(help="Only these; otherwise all, orders first.")] = None,
    finding: Annotated[str | None, typer.Option(help="Only this finding, such as dispatch-missing.")] = None,
    after: Annotated[str | None, typer.Option(help="Go on after this twin of the list.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="List so many.")] = 50,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List the twins that somebody should look at: what is stuck, held, oversold or refused."""
    from ops import asking

    wanted = {"kind": kind, "finding": finding, "cursor": after, "limit": str(limit)}
    answer(url, key, as_json, asking.exceptions, lambda ask: ask.get("/v1/exceptions", **wanted))
