"""twinsync follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import from_json

from canonical.errors import RejectedMessage
from canonical.identity import Kind
from ops.commands.asked import HERE, Json, Key, Url, err, out, refused

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent


def follow(
    kind: Annotated[Kind | None, typer.Option(help="Only these; otherwise all.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that come to this status.")] = None,
    finding: Annotated[str | None, typer.Option(help="Only with it, such as dispatch-missing.")] = None,
    customer_id: Annotated[str | None, typer.Option(help="Only of this customer.")] = None,
    sku: Annotated[str | None, typer.Option(help="Only of this SKU.")] = None,
    location: Annotated[str | None, typer.Option(help="Only at this location.")] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Go on after this event; else from now on.")
    ] = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Print each twin as soon as it has changed, until interrupted.

    Goes on by itself where it was when twinsync was away. With --json a CloudEvent a line.
    """
    from ops.following import follow as followed

    told = {
        "kind": kind and kind.value,
        "status": status,
        "finding": finding,
        "customer_id": customer_id,
        "sku": sku,
        "location": location,
        "after": None if after is None else str(after),
    }
    wanted = {name: value for name, value in told.items() if value is not None}
    try:
        for one in followed(url.rstrip("/"), key, wanted):
            if isinstance(one, Exception):
                err.print(f"{one}; trying again", style="yellow", highlight=False)
            else:
                _show(one, as_json)
    except RejectedMessage as rejected:
        raise refused("twinsync", rejected) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _show(event: ServerSentEvent, as_json: bool) -> None:
    if event.event == "begin":
        if not as_json:
            err.print(f"following from {event.id}; Ctrl-C ends it", style="dim", highlight=False)
        return
    if event.event != "change":
        return
    if as_json:
        typer.echo(event.data)
    else:
        out.print(_line(from_json(event.data)), highlight=False, markup=False, soft_wrap=True)


def _line(change: dict[str, Any]) -> str:
    data, at = change["data"], change["time"][11:19]
    findings = f"  {', '.join(data['findings'])}" if data["findings"] else ""
    return f"{at}  {change['subject']:<40} {data['status']:<20} v{data['version']}{findings}"
