"""Dead letters as people read them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from canonical.damaged import spread

Answer = dict[str, Any]
REASON_WIDTH = 60


def letters(answer: Answer) -> RenderableType:
    if not answer["dead_letters"]:
        return "No dead letters."
    table = Table(
        *("number", "whose fault", "field", "reason", "from", "about", "seen", "last seen"),
        box=None,
        header_style="dim",
    )
    table.columns[3].max_width = REASON_WIDTH
    for one in answer["dead_letters"]:
        about = one["subject"] or _short(one["type"]) or f"{one['size_bytes']:,} bytes"
        cells = (one["number"], one["fault"], one["field"], one["reason"], one["source"], about, one["seen"])
        table.add_row(*(escape(_text(cell)) for cell in cells), _moment(one["last_seen"]))
    more = answer["next_cursor"]
    return table if more is None else Group(table, "[dim]… and older ones; see --limit[/]")


def letter(one: Answer) -> RenderableType:
    return Group(
        f"[bold]dead letter {one['number']}[/] is {one['state']}{_closed(one)}",
        f"[red]{escape(one['field'])}[/] {escape(one['reason'])} [dim]({_whose(one['fault'])})[/]",
        f"seen {one['seen']} times, from {_moment(one['first_seen'])} to {_moment(one['last_seen'])}; "
        f"{one['size_bytes']:,} bytes",
        *(f"[dim]{escape(name)}:[/] {escape(value)}" for name, value in one["headers"].items()),
        "",
        _payload(one),
    )


def became(answer: Answer) -> RenderableType:
    number = answer["number"]
    match answer["became"]:
        case "taken":
            return f"dead letter {number}: taken ({answer['arrival']})"
        case "refused":
            at = f"{answer['field']}: " if answer["field"] else ""
            return f"[red]dead letter {number}: refused again: {escape(at + answer['reason'])}[/]"
        case other:
            return f"dead letter {number}: {other}"


def replayed(answer: Answer) -> RenderableType:
    refused = answer["refused"]
    return Group(f"{answer['taken']} taken, {len(refused)} refused again", *map(became, refused))


def discarded(answer: Answer) -> RenderableType:
    return f"{answer['discarded']} discarded"


def difference(before: Answer, change: Answer) -> RenderableType:
    """What an edit changes, as lines that begin with - and +."""
    old, new = _lines(before), _lines(before | _body(change))
    lines = [line for line in unified_diff(old, new, lineterm="", n=1) if not line.startswith(("---", "+++"))]
    return Group(*map(_coloured, lines))


def _body(change: Answer) -> Answer:
    """An edit as the letter would show it."""
    if "body_base64" not in change:
        return change
    text = spread(base64.b64decode(change["body_base64"]))
    return change if text is None else {**change, "body": text}


def _lines(one: Mapping[str, Any]) -> list[str]:
    heads = [f"{name}: {value}" for name, value in one["headers"].items()]
    return heads + str(one.get("body", one.get("body_base64"))).splitlines()


def _coloured(line: str) -> str:
    colour = {"-": "red", "+": "green"}.get(line[:1], "dim")
    return f"[{colour}]{escape(line)}[/]"


def _payload(one: Answer) -> RenderableType:
    if "body" not in one:
        return f"base64: {one['body_base64']}"
    text = one["body"] if one["whole"] else one["body"] + "\n… (the beginning)"
    return Syntax(text, "json", background_color="default", word_wrap=True)


def _closed(one: Answer) -> str:
    return "".join(_said(one))


def _said(one: Answer) -> Iterator[str]:
    if one["closed_by"]:
        yield f", by {escape(one['closed_by'])} at {_moment(one['closed_at'])}"
    if one["why"]:
        yield f": {escape(one['why'])}"
    if one["replaced_by"]:
        yield f"; edited as {one['replaced_by']}"
    if one["replaces"]:
        yield f"; an edit of {one['replaces']}"


def _whose(fault: str) -> str:
    return {"sender": "the sender's fault", "twinsync": "twinsync's own fault"}.get(fault, fault)


def _short(event_type: str | None) -> str:
    return (event_type or "").removeprefix("io.twinsync.")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _moment(text: str) -> str:
    return text[:16].replace("T", " ")
