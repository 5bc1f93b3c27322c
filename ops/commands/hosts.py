"""``twinsync hosts``, ``pin`` and ``unpin``: where twins live, changed by hand while events come."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from ops.commands.asked import HERE, Json, Key, Url, answer
from ops.commands.nodes import SHOWN

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
