"""twinsync reconcile."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from canonical.errors import RejectedMessage, TransientFailure
from ops.commands.asked import HERE, Json, Key, Url, answer, err, refused

if TYPE_CHECKING:
    from ops.asking import Asking

POLL_S = 0.5
DIFFERENT = 1
"""Exit status where something differs."""
PATH = "/v1/reconciliations"
LAST = "last"


def reconcile(
    erp: Annotated[
        list[str] | None, typer.Option(help="Compare with this ERP; again for more. Otherwise: all.")
    ] = None,
    stock: Annotated[
        str | None, typer.Option(help="What a WMS holds: CSV, JSON or X12 846, a file or an address.")
    ] = None,
    orders: Annotated[
        str | None, typer.Option(help="What an OMS holds: CSV or JSON, a file or an address.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="What the snapshots leave out may be there all the same.")
    ] = False,
    apply: Annotated[
        list[str] | None, typer.Option(help="Correct this difference; again for more; all: all.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(help="Show, or --apply, what was found before: its id, or last.")
    ] = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Compare twins and ledger with the ERPs, and with snapshots of a WMS and an OMS.

    Lists each difference with its likely cause and what would mend it; nothing is changed but by --apply.
    Exit status 1 where something differs.
    """
    if apply and report is None:
        report = LAST

    def asked(ask: Asking) -> dict[str, Any]:
        if report is not None:
            return _applied(ask, report, apply or [])
        return _compared(ask, _body(erp, stock, orders, partial))

    told = answer(url, key, as_json, shown, asked)
    if told["state"] != "done" or any(_is_open(one) for one in told["differences"]):
        raise typer.Exit(DIFFERENT)


def _body(erp: list[str] | None, stock: str | None, orders: str | None, partial: bool) -> dict[str, Any]:
    from adapters.snapshots.orders import read_orders
    from ops.snapshots import read_shelves

    files = {"stock": _checked(stock, read_shelves), "orders": _checked(orders, read_orders)}
    told: dict[str, Any] = {
        name: base64.b64encode(body).decode() for name, body in files.items() if body is not None
    }
    return told | {"whole": not partial} | ({"erps": erp} if erp else {})


def _checked(place: str | None, read: Callable[[bytes], object]) -> bytes | None:
    """Fetch a snapshot, and refuse it here where it is malformed."""
    from ops.snapshots import fetch

    if place is None:
        return None
    try:
        body = fetch(place)
        read(body)
    except RejectedMessage as rejected:
        raise refused(place, rejected) from None
    except TransientFailure as failure:
        err.print(str(failure), style="red", highlight=False)
        raise typer.Exit(DIFFERENT) from None
    return body


def _compared(ask: Asking, body: dict[str, Any]) -> dict[str, Any]:
    told = ask.post(PATH, to_json(body), "application/json")
    with err.status("comparing") as line:
        while told["state"] == "running":
            time.sleep(POLL_S)
            told = ask.get(f"{PATH}/{told['id']}")
            line.update(told["progress"] or "comparing")
    if told["state"] == "failed":
        raise TransientFailure(told["progress"])
    return told


def _applied(ask: Asking, report: str, chosen: list[str]) -> dict[str, Any]:
    if report == LAST:
        done = [one["id"] for one in ask.get(PATH)["reconciliations"] if one["state"] == "done"]
        if not done:
            raise RejectedMessage("nothing was compared yet", field="report")
        report = done[0]
    told = ask.get(f"{PATH}/{report}")
    if not chosen:
        return told
    names = [one["id"] for one in told["differences"]] if chosen == ["all"] else chosen
    return ask.post(f"{PATH}/{report}:apply", to_json({"differences": names}), "application/json")


def _is_open(difference: dict[str, Any]) -> bool:
    return (difference["applied"] or {}).get("outcome") != "done"


# --- what people see -------------------------------------------------------------------------------------


def shown(told: dict[str, Any]) -> RenderableType:
    found = told["differences"]
    with_whom = ", ".join([*(f"erp/{erp}" for erp in told["erps"])]) or "no ERP"
    title = f"{told['id']}, {with_whom}: {len(found)} differ" if found else f"{told['id']}: nothing differs"
    parts: list[RenderableType] = [escape(title)]
    if found:
        parts.append(_table(found))
    parts += [f"not compared: {escape(one)}" for one in told["not_compared"]]
    return Group(*parts)


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table("id", "what", "of", "ours", "theirs", "likely cause", "proposed", show_lines=True)
    for one in found:
        steps = ", then ".join(step["step"] for step in one["corrections"]) or "by hand"
        applied = f" ({one['applied']['outcome']})" if one["applied"] else ""
        cells = (one["id"], one["kind"], one["subject"], one["ours"], one["theirs"], one["cause"])
        table.add_row(*map(escape, cells), escape(steps + applied))
    return table
