"""twinsync dead-letters: look at refused messages, send them again as they are or edited, discard them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.prompt import Confirm

from ops.commands.asked import BROKEN_INPUT, HERE, Json, Key, Url, answer, ask, err
from ops.letters import became, difference, discarded, letter, letters, replayed

app = typer.Typer(
    name="dead-letters",
    help="Messages that were refused: why, whose fault it is, and what to do with them.",
    no_args_is_help=True,
)
PATH = "/v1/dead-letters"

Number = Annotated[int, typer.Argument(help="Number of the letter, as the list shows it.")]
Maybe = Annotated[int | None, typer.Argument(help="Number of one letter. Otherwise: by the filter.")]
Reason = Annotated[str | None, typer.Option(help="Those with this text in their reason.")]
Field = Annotated[str | None, typer.Option(help="Those with this field at fault, such as data.currency.")]
Fault = Annotated[str | None, typer.Option(help="Whose fault it is: sender or twinsync.")]
Source = Annotated[str | None, typer.Option(help="Those of this source, such as /shopify/eu.")]
Type = Annotated[str | None, typer.Option(help="Those of this event type.")]
Since = Annotated[str | None, typer.Option(help="Those seen since, such as 2026-03-02T08:00:00Z.")]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


@app.command("list")
def list_(
    reason: Reason = None,
    field: Field = None,
    fault: Fault = None,
    source: Source = None,
    type: Type = None,
    since: Since = None,
    state: Annotated[str, typer.Option(help="open, replayed, replaced, discarded or any.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List refused messages with their reasons; the newest first."""
    wanted = _filter(reason, field, fault, source, type, since)
    answer(url, key, as_json, letters, lambda ask: ask.get(PATH, **wanted, state=state, limit=str(limit)))


@app.command()
def show(number: Number, url: Url = HERE, key: Key = "", as_json: Json = False) -> None:
    """Show a letter whole: why it was refused, its headers, its payload, and what became of it."""
    answer(url, key, as_json, letter, lambda ask: ask.get(f"{PATH}/{number}"))


@app.command()
def replay(
    number: Maybe = None,
    reason: Reason = None,
    field: Field = None,
    fault: Fault = None,
    source: Source = None,
    type: Type = None,
    since: Since = None,
    every: Annotated[bool, typer.Option("--all", help="All open letters.")] = False,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Send one letter again, or all open ones that a filter finds. Exit status 1 where one is refused."""
    if number is not None:
        told = answer(url, key, as_json, became, lambda ask: ask.tell(f"{PATH}/{number}:replay", {}))
        raise typer.Exit(int(told["became"] == "refused"))
    wanted = _filter(reason, field, fault, source, type, since)
    _chosen(wanted, every)
    refused, cursor = 0, None
    while True:
        asked = wanted | {"cursor": cursor}
        told = answer(url, key, as_json, replayed, lambda ask, asked=asked: ask.tell(f"{PATH}:replay", asked))  # type: ignore[misc]
        refused, cursor = refused + len(told["refused"]), told["next_cursor"]
        if cursor is None:
            raise typer.Exit(int(refused > 0))


@app.command()
def edit(
    number: Number,
    body: Annotated[
        Path | None, typer.Option(help="A file with the new payload. Otherwise: your $EDITOR opens.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="A header to set, such as ce-time=2026-03-02T08:00:00Z.")
    ] = None,
    yes: Yes = False,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Correct a letter and send it again. The letter stays, closed; the edited one stands for it."""
    before = ask(url, key, lambda ask: ask.get(f"{PATH}/{number}"))
    change = _change(before, body, header)
    if not change:
        err.print("nothing was changed, and nothing sent", style="yellow")
        raise typer.Exit(BROKEN_INPUT)
    err.print(difference(before, change), highlight=False)
    if not yes and not Confirm.ask("Send it?", console=err):
        raise typer.Exit(1)
    told = answer(url, key, as_json, became, lambda ask: ask.tell(f"{PATH}/{number}:replay", change))
    raise typer.Exit(int(told["became"] == "refused"))


@app.command()
def discard(
    why: Annotated[str, typer.Option(help="Why: it stays with the letter and in the audit trail.")],
    number: Maybe = None,
    reason: Reason = None,
    field: Field = None,
    fault: Fault = None,
    source: Source = None,
    type: Type = None,
    since: Since = None,
    yes: Yes = False,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Close a letter for good, or all open ones that a filter finds."""
    if number is not None:
        answer(url, key, as_json, became, lambda ask: ask.tell(f"{PATH}/{number}:discard", {"why": why}))
        return
    wanted = _filter(reason, field, fault, source, type, since)
    _chosen(wanted, False)
    answer(url, key, False, letters, lambda ask: ask.get(PATH, **wanted, limit="500"))
    if not yes and not Confirm.ask("Discard all of these, and whatever else the filter finds?", console=err):
        raise typer.Exit(1)
    path, cursor = f"{PATH}:discard", None
    while True:
        asked = wanted | {"why": why, "cursor": cursor}
        told = answer(url, key, as_json, discarded, lambda ask, asked=asked: ask.tell(path, asked))  # type: ignore[misc]
        if (cursor := told["next_cursor"]) is None:
            return


def _filter(*chosen: str | None) -> dict[str, Any]:
    return dict(zip(("reason", "field", "fault", "source", "type", "since"), chosen, strict=True))


def _chosen(wanted: dict[str, Any], every: bool) -> None:
    if not every and all(one is None for one in wanted.values()):
        err.print("name a letter by its number, or several by a filter such as --field", style="red")
        raise typer.Exit(BROKEN_INPUT)


def _change(before: dict[str, Any], file: Path | None, headers: list[str] | None) -> dict[str, Any]:
    """What is to be sent in the place of a letter: only what differs."""
    change: dict[str, Any] = {}
    if file is not None:
        change["body_base64"] = base64.b64encode(_read(file)).decode()
    elif not headers and (text := _edited(before)) != before["body"]:
        change["body"] = text
    wanted = before["headers"] | dict(header.partition("=")[::2] for header in headers or [])
    if wanted != before["headers"]:
        change["headers"] = wanted
    return change


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        err.print(f"{file}: {error.strerror}", style="red", highlight=False)
        raise typer.Exit(BROKEN_INPUT) from None


def _edited(before: dict[str, Any]) -> str:
    """The payload as it comes back from $EDITOR."""
    if not before["whole"] or "body" not in before:
        err.print("it is too large, or no text: give a file with --body", style="red")
        raise typer.Exit(BROKEN_INPUT)
    text: str = before["body"]
    return click.edit(text, extension=".json") or text
