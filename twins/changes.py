"""What others hear of a twin that has changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from canonical.identity import TwinRef
from twins.ports import Commit, TwinRow

SOURCE = "/twinsync"


def newest(commits: Iterable[Commit]) -> list[TwinRow]:
    """Each twin as the last of them left it: who hears of it as it is need not hear what it was between."""
    found: dict[TwinRef, TwinRow] = {}
    for commit in commits:
        for row in commit.twins:
            if row.ref not in found or row.version > found[row.ref].version:
                found[row.ref] = row
    return list(found.values())


def as_event(row: TwinRow) -> dict[str, Any]:
    """The attributes of a CloudEvent. One with a smaller version than one heard before has nothing to say."""
    kind = row.ref.kind.value
    return {
        "specversion": "1.0",
        "id": f"{row.ref}@{row.version}",
        "source": SOURCE,
        "type": f"io.twinsync.{kind}.changed.v1",
        "subject": str(row.ref),
        "time": row.changed_at,
        "datacontenttype": "application/json",
        "data": {
            "kind": kind,
            "key": row.ref.key,
            "status": row.status,
            "version": row.version,
            "customer_id": row.customer_id,
            "sku": row.sku,
            "location": row.location,
            "findings": row.findings,
        },
    }
