"""``twinsync erp`` and ``twinsync rejections``: the way to each ERP instance, held by hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from ops.commands.asked import HERE, Json, Key, Url, answer

erp = typer.Typer(
    name="erp",
    help="ERP instances: how they stand, pausing them, moving from one to another.",
    no_args_is_help=True,
)
rejections = typer.Typer(
    name="rejections", help="What an ERP refused, and having it told again.", no_args_is_help=True
)
Instance = Annotated[str, typer.Argument(help="Name of an ERP instance, such as main.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]


# --- instances -------------------------------------------------------------------------------------------


@erp.command("list")
def list_erps(url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """Show each instance: paused by whom, its circuit, what waits for it and since when."""
    answer(url, key, as_json, _erps, lambda ask: ask.get("/v1/erps"))


@erp.command()
def pause(name: Instance, reason: Reason, url: Url = HERE, key: Key = "") -> None:
    """Tell an instance nothing more until it is resumed; what is on its way ends. Survives restarts."""
    word = {"reason": reason}
    answer(
        url, key, False, lambda _: f"{name} is paused", lambda ask: ask.tell(f"/v1/erps/{name}:pause", word)
    )


@erp.command()
def resume(name: Instance, reason: Reason = "done", url: Url = HERE, key: Key = "") -> None:
    """Go on telling an instance that was paused."""
    word = {"reason": reason}
    answer(
        url, key, False, lambda _: f"{name} goes on", lambda ask: ask.tell(f"/v1/erps/{name}:resume", word)
    )


@erp.command()
def shadow(
    name: Instance,
    of: Annotated[str, typer.Option(help="The instance that it is put beside.")],
    reason: Reason = "cut-over",
    url: Url = HERE,
    key: Key = "",
) -> None:
    """Tell an instance what another is told, from now on; nothing depends on what it answers."""
    word = {"of": of, "reason": reason}
    answer(
        url,
        key,
        False,
        lambda _: f"{name} is in shadow of {of}",
        lambda ask: ask.tell(f"/v1/erps/{name}:shadow", word),
    )


@erp.command()
def report(
    name: Instance,
    books: Annotated[bool, typer.Option(help="Compare booked amounts too; reads both ERPs.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show what an instance in shadow said unlike the live one, and what is left to clear after promotion."""
    wanted = {"books": str(books).lower(), "limit": str(limit)}
    answer(url, key, as_json, _report, lambda ask: ask.get(f"/v1/erps/{name}/report", **wanted))


@erp.command()
def promote(
    name: Instance, reason: Reason = "cut-over", url: Url = HERE, key: Key = "", as_json: Json = False
) -> None:
    """Let an instance in shadow take the place of the other: from this moment on, new postings go to it."""
    answer(url, key, as_json, _promoted, lambda ask: ask.tell(f"/v1/erps/{name}:promote", {"reason": reason}))


@erp.command()
def abandon(name: Instance, reason: Reason, url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """End an instance's time in shadow, and have it reverse its copies."""
    answer(
        url,
        key,
        as_json,
        lambda told: f"{told['taken_back']} copies are to be reversed",
        lambda ask: ask.tell(f"/v1/erps/{name}:abandon", {"reason": reason}),
    )


def _promoted(told: dict[str, Any]) -> str:
    return (
        f"{told['erp']} is live: {told['moved']} commands go to it, {told['stay']} end where they began,"
        f" {told['taken_back']} copies are to be reversed"
    )


def _report(told: dict[str, Any]) -> RenderableType:
    table = Table("posting", "what", "live", "shadow", title=_summary(told), title_justify="left")
    for one in told["differences"]:
        said = [one[side]["document"] or one[side]["reason"] or "" for side in _SIDES]
        table.add_row(f"{one['key']}@{one['version']}", one["difference"], *said)
    for one in told["to_clear"]:
        copy = one["shadow"]
        table.add_row(f"{one['key']}@{one['version']}", "to clear", one["erp"], copy["document"] or "")
    for one in told["booked_apart"]:
        amounts = (", ".join(f"{name} {sum_}" for name, sum_ in one[side].items()) for side in _SIDES)
        table.add_row(f"{one['key']}@{one['version']}", f"{one['action']} booked apart", *amounts)
    return table


_SIDES = ("live", "shadow")


def _summary(told: dict[str, Any]) -> str:
    counts = f"{told['alike']} alike, {told['different']} different, {told['waiting']} waiting"
    amounts = "" if told["amounts_compared"] is None else f", {told['amounts_compared']} amounts compared"
    return f"{told['erp']}, {told['state']} of {told['of']} since {told['since']}: {counts}{amounts}"


def _erps(told: dict[str, Any]) -> RenderableType:
    table = Table("ERP", "state", "circuit", "queued", "troubled", "oldest since", "paused")
    for one in told["erps"]:
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
    answer(url, key, as_json, _refused, lambda ask: ask.get("/v1/rejections", **wanted))


@rejections.command()
def resend(
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
        "key": posting,
        "version": version,
        "erp": of,
        "command": command,
        "reason": reason,
        "all": everything,
    }
    answer(url, key, as_json, _resent, lambda ask: ask.tell("/v1/rejections:resend", wanted))


def _refused(told: dict[str, Any]) -> RenderableType:
    table = Table("posting", "", "ERP", "since", "reason", "twin")
    for one in told["rejections"]:
        name = f"{one['key']}@{one['version']}"
        table.add_row(name, one["action"], one["erp"], one["since"], one["reason"], one["twin"])
    return table


def _resent(told: dict[str, Any]) -> str:
    more = "; there are more, ask again" if told["more"] else ""
    return f"{len(told['resent'])} are told again{more}"
