"""``twinsync hosts``, ``pin``, ``unpin`` and ``rebalance``: where twins live, changed while events come."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.table import Table

from ops.commands.asked import HERE, Json, Key, Url, answer, ask, err, out, print_json

SHOWN = 12
"""Characters of a node's id, which are enough to tell nodes apart."""
Twin = Annotated[str, typer.Argument(help="A twin, such as stock/SKU-1@DC-01.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]


def hosts(
    count: Annotated[int | None, typer.Option(min=1, help="Let so many hosts share the twins.")] = None,
    reason: Reason = "load",
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Show the hosts: node, twins in memory, events since the start, pinned twins; or change their number.

    Events go on coming while it changes. It holds until TWINSYNC_POOLED_HOSTS is set to another number than
    at the last start, and twinsync is started with that.
    """
    if count is None:
        answer(url, key, as_json, _hosts, lambda ask: ask.get("/v1/hosts"))
    else:
        word = {"count": count, "reason": reason}
        answer(url, key, as_json, _placed, lambda ask: ask.tell("/v1/hosts:resize", word))


def pin(twin: Twin, reason: Reason = "hot", url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """Give a hot twin an actor of its own, under its own name: 140 MB. Events go on coming meanwhile."""
    word = {"twin": twin, "reason": reason}
    answer(url, key, as_json, _placed, lambda ask: ask.tell("/v1/hosts:pin", word))


def unpin(
    twin: Twin, reason: Reason = "not hot", url: Url = HERE, key: Key = "", as_json: Json = False
) -> None:
    """Let a pinned twin live among others again."""
    word = {"twin": twin, "reason": reason}
    answer(url, key, as_json, _placed, lambda ask: ask.tell("/v1/hosts:unpin", word))


def rebalance(
    reason: Reason = "a node was added", url: Url = HERE, key: Key = "", as_json: Json = False
) -> None:
    """Spread the hosts evenly over the nodes of a cluster, one after the other, while events go on coming.

    Each commits what it has in hand and goes on elsewhere; what its twins are told or asked meanwhile waits a
    second or two.
    """
    moves: list[dict[str, str]] = []
    left: int | None = None
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("moving hosts", total=None)
        while left != 0:
            told = ask(url, key, lambda asked: asked.tell("/v1/hosts:rebalance", {"reason": reason}))
            moves += told["moves"]
            if left is not None and told["left"] >= left:
                break
            left = told["left"]
            progress.update(task, completed=len(moves), total=len(moves) + told["left"])
    if as_json:
        print_json({"moves": moves, "left": left})
    elif moves:
        out.print(_moved(moves))
    else:
        out.print("Every node has its share of the hosts already.")
    if left:
        err.print(
            f"{left} could not be moved: is there a node that takes no actors? Run it again", style="red"
        )
        raise typer.Exit(1)


def _moved(moves: list[dict[str, str]]) -> RenderableType:
    table = Table("host", "from node", "to node", box=None, header_style="dim")
    for move in moves:
        table.add_row(move["host"], move["origin"][:SHOWN], move["target"][:SHOWN])
    return table


def _placed(told: dict[str, Any]) -> str:
    return f"pooled hosts: {told['pooled_hosts']}; pinned: {', '.join(told['pinned']) or 'none'}"


def _hosts(told: dict[str, Any]) -> RenderableType:
    table = Table("host", "node", "twins in memory", "events", "", box=None, header_style="dim")
    for one in told["hosts"]:
        node = (one["node"] or "")[:SHOWN]
        table.add_row(one["host"], node, _number(one["twins"]), _number(one["events"]), _remark(one, told))
    return Group(table, _placed(told))


def _remark(one: dict[str, Any], told: dict[str, Any]) -> str:
    if not one["named"]:
        return "has no twins any more: the next change ends it"
    if one["placement"] is None:
        return "does not answer"
    return "pinned" if one["host"] in told["pinned"] else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
