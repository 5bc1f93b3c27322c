"""``twinsync erp`` and ``twinsync rejections``: the way to each ERP instance, held by hand."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from canonical.errors import RejectedMessage, TransientFailure

if TYPE_CHECKING:
    from ops.asking import Asking

erp = typer.Typer(
    name="erp", help="ERP instances: how they stand, and pausing them by hand.", no_args_is_help=True
)
rejections = typer.Typer(
    name="rejections", help="What an ERP refused, and having it told again.", no_args_is_help=True
)
out = Console()
err = Console(stderr=True)

BROKEN_INPUT = 2
HERE = "http://127.0.0.1:8080"
Url = Annotated[str, typer.Option(envvar="TWINSYNC_URL", help="Where twinsync answers.")]
Key = Annotated[str, typer.Option(envvar="TWINSYNC_API_KEY", help="An API key.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as it came.")]
Instance = Annotated[str, typer.Argument(help="Name of an ERP instance, such as main.")]
By = Annotated[str, typer.Option(help="Who says so.", default_factory=getpass.getuser, show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]


# --- instances -------------------------------------------------------------------------------------------


@erp.command("list")
def list_erps(url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """Show each instance: paused by whom, its circuit, what waits for it and since when."""
    _answer(url, key, as_json, _erps, lambda ask: ask.get("/v1/erps"))


@erp.command()
def pause(name: Instance, by: By, reason: Reason, url: Url = HERE, key: Key = "") -> None:
    """Tell an instance nothing more until it is resumed; what is on its way ends. Survives restarts."""
    word = {"by": by, "reason": reason}
    _answer(
        url, key, False, lambda _: f"{name} is paused", lambda ask: ask.tell(f"/v1/erps/{name}:pause", word)
    )


@erp.command()
def resume(name: Instance, by: By, reason: Reason = "done", url: Url = HERE, key: Key = "") -> None:
    """Go on telling an instance that was paused."""
    word = {"by": by, "reason": reason}
    _answer(
        url, key, False, lambda _: f"{name} goes on", lambda ask: ask.tell(f"/v1/erps/{name}:resume", word)
    )


def _erps(answer: dict[str, Any]) -> RenderableType:
    table = Table("ERP", "state", "circuit", "queued", "troubled", "oldest since", "paused")
    for one in answer["erps"]:
        paused = one["paused"]
        table.add_row(
            one["erp"],
            "paused" if paused else "running" if one["running"] else "not running",
            one["circuit"] or "",
            str(one["queued"]),
            str(one["troubled"]),
            one["oldest_queued_at"] or "",
            f"by {paused['by']}: {paused['reason']}" if paused else "",
        )
    return table


# --- what was refused ------------------------------------------------------------------------------------

Of = Annotated[str | None, typer.Option("--erp", help="Only of this instance.")]
Command = Annotated[str | None, typer.Option(help="Only such commands, as goods-issue.")]
Because = Annotated[str | None, typer.Option(help="Only those with this in the ERP's reason.")]


@rejections.command("list")
def list_rejections(
    of: Of = None,
    command: Command = None,
    reason: Because = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show what was refused, why, and since when."""
    wanted = {"erp": of, "command": command, "reason": reason, "limit": str(limit)}
    _answer(url, key, as_json, _refused, lambda ask: ask.get("/v1/rejections", **wanted))


@rejections.command()
def resend(
    by: By,
    posting: Annotated[str | None, typer.Argument(help="A posting key, such as goods-issue/SHP-7.")] = None,
    version: Annotated[int | None, typer.Option(help="Only this version of it.")] = None,
    of: Of = None,
    command: Command = None,
    reason: Because = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was refused.")] = False,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Have what was refused told again, once its cause is mended. Twice does no harm."""
    wanted = {
        "by": by,
        "key": posting,
        "version": version,
        "erp": of,
        "command": command,
        "reason": reason,
        "all": everything,
    }
    _answer(url, key, as_json, _resent, lambda ask: ask.tell("/v1/rejections:resend", wanted))


def _refused(answer: dict[str, Any]) -> RenderableType:
    table = Table("posting", "", "ERP", "since", "reason", "twin")
    for one in answer["rejections"]:
        name = f"{one['key']}@{one['version']}"
        table.add_row(name, one["action"], one["erp"], one["since"], one["reason"], one["twin"])
    return table


def _resent(answer: dict[str, Any]) -> str:
    more = "; there are more, ask again" if answer["more"] else ""
    return f"{len(answer['resent'])} are told again{more}"


# --- asking ----------------------------------------------------------------------------------------------


def _answer(
    url: str,
    key: str,
    as_json: bool,
    shown: Callable[[dict[str, Any]], RenderableType],
    asked: Callable[[Asking], dict[str, Any]],
) -> None:
    from pydantic_core import to_json

    from ops.asking import Asking

    try:
        told = asked(Asking(url.rstrip("/"), key))
    except TransientFailure as failure:
        err.print(f"no answer: {failure}; is twinsync up there? See --url", style="red", highlight=False)
        raise typer.Exit(1) from None
    except RejectedMessage as rejected:
        err.print(f"twinsync: {rejected}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(BROKEN_INPUT) from None
    if as_json:
        sys.stdout.buffer.write(to_json(told) + b"\n")
    else:
        out.print(shown(told), highlight=False)
