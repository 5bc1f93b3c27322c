"""Asking a running twinsync, and its answers as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from canonical.envelope import BATCH
from canonical.errors import RejectedMessage, TransientFailure

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    url: str
    key: str
    transport: httpx.BaseTransport | None = None

    def get(self, path: str, **wanted: str | None) -> Answer:
        """Raises: RejectedMessage as the service says; TransientFailure where it does not answer."""
        return self._ask("GET", path, params={name: one for name, one in wanted.items() if one is not None})

    def post(self, path: str, body: bytes, content_type: str = BATCH) -> Answer:
        return self._ask("POST", path, content=body, headers={"Content-Type": content_type})

    def tell(self, path: str, word: Mapping[str, Any]) -> Answer:
        """Post a plain JSON body; members that are None are left out."""
        return self._ask("POST", path, json={name: one for name, one in word.items() if one is not None})

    def _ask(self, method: str, path: str, **parts: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.key}", **parts.pop("headers", {})}
        try:
            with httpx.Client(timeout=60, transport=self.transport) as client:
                answer = client.request(method, f"{self.url}{path}", headers=headers, **parts)
        except httpx.HTTPError as error:
            raise TransientFailure(f"{self.url}: {error}") from error
        check(self.url, answer)
        told: Answer = answer.json()
        return told


def check(url: str, answer: httpx.Response) -> None:
    """Raises: RejectedMessage as the service says; TransientFailure where it is to be asked again."""
    if answer.status_code < 400:
        return
    if answer.status_code >= 500 or answer.status_code == 429:
        raise TransientFailure(f"{url} answers {answer.status_code}: {answer.text}")
    try:
        told: Answer = answer.json()
    except ValueError:
        raise RejectedMessage(f"{url} answers {answer.status_code}: {answer.text}") from None
    raise RejectedMessage(told.get("detail", answer.text), field=told.get("field", ""))


# --- a twin ----------------------------------------------------------------------------------------------


def twin(document: Answer) -> RenderableType:
    tree = Tree(f"[bold]{escape(document['twin'])}[/] {escape(document['status'])}{_dated(document)}")
    _branch(tree, {name: value for name, value in document.items() if name not in _HEADER})
    return tree


_HEADER = ("twin", "kind", "status", "as_of", "known_at", "limits")


def _dated(answer: Mapping[str, Any]) -> str:
    parts = [
        f"{name.replace('_', ' ')} {_text(answer[name])}"
        for name in ("as_of", "known_at")
        if answer.get(name)
    ]
    return f" [dim]({', '.join(parts)})[/]" if parts else ""


def _branch(tree: Tree, parts: Mapping[str, Any]) -> None:
    for name, value in parts.items():
        if isinstance(value, dict) and value:
            _branch(tree.add(escape(name)), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            branch = tree.add(escape(name))
            for one in value:
                branch.add(escape(_text({key: part for key, part in one.items() if part not in _NOTHING})))
        elif value not in _NOTHING:
            tree.add(f"{escape(name)}: {escape(_text(value))}")


_NOTHING: tuple[Any, ...] = (None, "", "0", [], {})


# --- why -------------------------------------------------------------------------------------------------


def explanation(answer: Answer) -> RenderableType:
    parts: list[RenderableType] = [
        f"[bold]{escape(answer['twin'])}[/] is [bold]{escape(answer['status'])}[/]{_dated(answer)}",
        *_section("because", answer["because"], escape),
        *_section("waits for", answer["waits_for"], escape),
        *_section("held", answer["held"], _held),
        *_section("to be looked at", answer["findings"], escape),
        *_section("postings", answer["postings"], escape),
        *_section("told in several versions", answer["conflicts"], escape),
        *_section("taken back", answer["retracted"], escape),
        *_section("left out by their sources", answer["gaps"], escape),
        *_late(answer["late"]),
        *_facts(answer["facts"]),
        *_section("limits of this answer", answer["limits"], escape),
    ]
    return Group(*parts)


def _section(title: str, said: list[Any], line: Callable[[Any], str]) -> Iterator[RenderableType]:
    if said:
        yield f"\n[bold]{title}[/]"
        yield from (f"  {line(one)}" for one in said)


def _held(one: Answer) -> str:
    what = f"{one['type']} of {_text(one['happened_at'])} from {one['source']} waits for {one['waits_for']}"
    return escape(f"{what} ({one['event']})")


def _late(effects: list[Answer]) -> Iterator[RenderableType]:
    for one in effects:
        happened, recorded = _text(one["happened_at"]), _text(one["recorded_at"])
        yield (
            f"\n[bold]late[/]  {escape(one['type'])} from {escape(one['source'])}: happened {happened}, "
            f"told {recorded} ({escape(one['event'])})"
        )
        yield changes(one["state"])
        for posting in one["postings"]:
            how = _how(posting["before"], posting["after"])
            yield f"  {escape(posting['key'])} was {posting['what']}{how}"


def _how(before: Any, after: Any) -> str:
    """What differs between two contents of one posting."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    said = [
        f"{name} {_text(before[name])} → {_text(after[name])}"
        for name in after
        if before[name] != after[name]
    ]
    return escape(f": {', '.join(said)}") if said else ""


def changes(found: list[Answer]) -> RenderableType:
    table = Table("where", "before", "after", box=None, padding=(0, 2, 0, 2), header_style="dim")
    for one in found:
        table.add_row(escape(one["path"]), escape(_text(one["before"])), escape(_text(one["after"])))
    return table


def _facts(facts: Answer) -> Iterator[RenderableType]:
    last = facts["last"]
    if not last:
        return
    shown = (
        f"the last {len(last)} of {facts['told']}" if len(last) < facts["told"] else f"all {facts['told']}"
    )
    yield f"\n[bold]facts[/] [dim]({shown})[/]"
    table = Table("happened", "what", "from", "told", "", box=None, padding=(0, 2, 0, 2), header_style="dim")
    for one in last:
        arrival = "" if one["arrival"] == "new" else one["arrival"]
        what = one["type"].removeprefix("io.twinsync.")
        table.add_row(
            _text(one["happened_at"]), escape(what), escape(one["source"]), _text(one["recorded_at"]), arrival
        )
    yield table


# --- what if ---------------------------------------------------------------------------------------------


def outcomes(answer: Answer) -> RenderableType:
    if not answer["twins"]:
        return "Nothing would change."
    parts: list[RenderableType] = []
    for one in answer["twins"]:
        parts.append(f"[bold]{escape(one['twin'])}[/] would be [bold]{escape(one['status'])}[/]")
        if one["changes"]:
            parts.append(changes(one["changes"]))
        parts += [f"  [yellow]{escape(text)}[/]" for text in one["findings"]]
        parts += [f"  {command['action']} {escape(command['key'])}" for command in one["postings"]]
    return Group(*parts, "\nNothing was stored.")


# --- gaps ------------------------------------------------------------------------------------------------


def gaps(answer: Answer) -> RenderableType:
    if not answer["gaps"]:
        return "No source has left out a number."
    table = Table(
        *("source", "first", "last", "missing", "since", "asked", "last asked", "dead letters"),
        box=None,
        header_style="dim",
    )
    for one in answer["gaps"]:
        asked = f"{one['times_asked']} times" if one["times_asked"] else "not yet"
        cells = (
            one["source"],
            one["first"],
            one["last"],
            one["missing"],
            one["since"],
            asked,
            one["asked_at"],
            one["dead_letters"],
        )
        table.add_row(*(escape(_text(cell)) for cell in cells))
    return table


def exceptions(answer: Answer) -> RenderableType:
    table = Table("twin", "status", "findings", "changed", title="To be looked at", title_justify="left")
    for one in answer["twins"]:
        cells = (one["twin"], one["status"], one["findings"], one["changed_at"])
        table.add_row(*(escape(_text(cell)) for cell in cells))
    more = f"There are more: --after {escape(answer['next_cursor'])}" if answer["next_cursor"] else ""
    return Group(table, *([more] if more else []), "[dim]Why: twinsync explain TWIN[/]")


def audit(answer: Answer) -> RenderableType:
    table = Table("when", "who", "did", "to", "with", title="Done by hand", title_justify="left")
    for one in answer["audit"]:
        cells = (one["at"], one["by"], one["action"], one["subject"], one["detail"])
        table.add_row(*(escape(_text(cell)) for cell in cells))
    return table


def _text(value: Any) -> str:
    """As a person writes it: times to the minute, nothing for nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_text, value))
        case dict():
            return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
        case str():
            return _moment(value) or value
        case Decimal() | int() | float() | _:
            return str(value)


def _moment(text: str) -> str | None:
    if len(text) < len("2026-03-02T08:00Z") or text[10:11] != "T":
        return None
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return None
