"""What every command that asks a running twinsync has in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console, RenderableType

from canonical.errors import RejectedMessage, TransientFailure

if TYPE_CHECKING:
    from ops.asking import Asking

PIPED_WIDTH = 200
"""What reads a table that is not shown on a terminal wants one line a row."""
out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True)

BROKEN_INPUT = 2
"""Exit status for input that is refused."""
HERE = "http://127.0.0.1:8080"
Url = Annotated[str, typer.Option(envvar="TWINSYNC_URL", help="Where twinsync answers.")]
Key = Annotated[str, typer.Option(envvar="TWINSYNC_API_KEY", help="An API key.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as it came.")]


def answer(
    url: str,
    key: str,
    as_json: bool,
    shown: Callable[[dict[str, Any]], RenderableType],
    asked: Callable[[Asking], dict[str, Any]],
) -> dict[str, Any]:
    """Print what a running twinsync answers, and answer it. Raises: typer.Exit where it does not."""
    told = ask(url, key, asked)
    if as_json:
        print_json(told)
    else:
        out.print(shown(told), highlight=False)
    return told


def ask(url: str, key: str, asked: Callable[[Asking], dict[str, Any]]) -> dict[str, Any]:
    """What a running twinsync answers. Raises: typer.Exit where it does not."""
    from ops.asking import Asking

    try:
        return asked(Asking(url.rstrip("/"), key))
    except TransientFailure as failure:
        err.print(f"no answer: {failure}; is twinsync up there? See --url", style="red", highlight=False)
        raise typer.Exit(1) from None
    except RejectedMessage as rejected:
        raise refused("twinsync", rejected) from None


def refused(what: str, rejected: RejectedMessage) -> typer.Exit:
    line = " ".join(f"{what}: {rejected}".split())
    err.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
    return typer.Exit(BROKEN_INPUT)


def print_json(content: object) -> None:
    sys.stdout.buffer.write(to_json(content) + b"\n")
    sys.stdout.flush()
