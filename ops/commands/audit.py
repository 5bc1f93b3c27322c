"""twinsync audit."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.commands.asked import HERE, Json, Key, Url, answer


def audit(
    subject: Annotated[
        str | None, typer.Argument(help="What it was done to, such as dead-letter/7. Otherwise: everything.")
    ] = None,
    url: Url = HERE,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List what was done by hand: who, what, when and why; the newest first."""
    from ops import asking

    answer(url, key, as_json, asking.audit, lambda ask: ask.get("/v1/audit", subject=subject))
