"""Orders compared with what an OMS says of them, as of its moment, as far as it says anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from canonical.identity import TwinRef
from canonical.types import plain
from twins.core.gaps import Gap
from twins.core.reconcile.causes import UNKNOWN_TO_OMS, order_cause
from twins.core.reconcile.difference import AskSource, Corrections, Difference, Kind
from twins.core.reconcile.snapshot import OrderRow

OMS = "oms"
Document = Mapping[str, Any]
Place = tuple[str, str, str]
"""Path, ours, theirs."""


def is_placed(document: Document | None) -> bool:
    return document is not None and document["placed_at"] is not None


def placed_by(document: Document, moment: datetime) -> bool:
    placed_at = document["placed_at"]
    if isinstance(placed_at, str):
        placed_at = datetime.fromisoformat(placed_at)
    return placed_at is not None and placed_at <= moment


def off(document: Document, row: OrderRow) -> Iterator[Place]:
    """Places where the two say something else."""
    if row.status is not None and row.status != document["status"]:
        yield "status", document["status"], row.status
    if row.total is not None and row.total != Decimal(document["total"]):
        yield "total", str(plain(Decimal(document["total"]))), str(plain(row.total))
    ours = {line["line_id"]: line for line in document["lines"]}
    for line_id, line in sorted(row.lines.items()):
        known = ours.get(line_id)
        if known is None:
            yield f"line {line_id}", "none", line.sku or "there"
            continue
        if line.sku is not None and line.sku != known["sku"]:
            yield f"line {line_id} sku", known["sku"], line.sku
        for name, theirs in sorted(line.quantities.items()):
            if theirs != Decimal(known[name]):
                yield f"line {line_id} {name}", str(plain(Decimal(known[name]))), str(plain(theirs))


def missing(ref: TwinRef, row: OrderRow, gaps: Sequence[Gap]) -> Difference:
    theirs = row.status or "there"
    cause = order_cause(gaps, "nobody has told us that it was placed")
    return Difference(Kind.ORDER_MISSING, str(ref), OMS, "never placed", theirs, cause, _asked(gaps))


def unknown(ref: TwinRef, document: Document) -> Difference:
    return Difference(Kind.ORDER_UNKNOWN, str(ref), OMS, document["status"], "not there", UNKNOWN_TO_OMS)


def differing(ref: TwinRef, places: Sequence[Place], gaps: Sequence[Gap]) -> Difference:
    return Difference(
        Kind.ORDER_DIFFERS,
        str(ref),
        OMS,
        ", ".join(f"{path} {ours}" for path, ours, _ in places),
        ", ".join(f"{path} {theirs}" for path, _, theirs in places),
        order_cause(gaps, "a change that only one side has been told"),
        _asked(gaps),
    )


def _asked(gaps: Sequence[Gap]) -> Corrections:
    return tuple(AskSource(gap.source, gap.first, gap.last, gap.since) for gap in gaps)
