"""Which ERP instance a command goes to: its company's own, but a reversal goes where the document is.

An instance that was promoted takes the place of the one that it was in shadow of; one in shadow is told the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from adapters.sql.named import among
from adapters.sql.rows import Row
from adapters.sql.shadows import mirrored
from adapters.sql.tables import cutovers, postings
from canonical.identity import TwinRef, twin_ref
from canonical.postings import POSTING, Action, Command

_CUTOVERS = select(cutovers).with_for_update(read=True)
"""Locked until this has committed: a promotion divides what came before it from what comes after."""


def address(connection: Connection, records: list[Row], told: list[Row]) -> None:
    """Route what is about to be written, and tell shadows the same.

    Shape: rows of postings and commands, changed in place. A record that is there already keeps its instance.
    """
    if not records and not told:
        return
    found = connection.execute(_CUTOVERS).all()
    successors = {row.of: row.erp for row in found if row.state == "promoted"}
    for row in (*records, *told):
        row["erp"] = successor(row["erp"], successors)
    _to_holders(connection, [row for row in told if row["action"] == Action.REVERSE.value])
    for shadow in found:
        same = [_told(row) for row in told if row["erp"] == shadow.of and shadow.state == "shadow"]
        if same:
            mirrored(connection, shadow.erp, same)


def successor(erp: str, successors: Mapping[str, str]) -> str:
    """The instance that stands in for it today; a circle cannot be made, see `CutoverRows.shadow`."""
    while erp in successors:
        erp = successors[erp]
    return erp


def _to_holders(connection: Connection, reversals: Sequence[Row]) -> None:
    if not reversals:
        return
    places = [(row["key"], row["version"]) for row in reversals]
    condition, told = among(connection, (postings.c.key, postings.c.version), places)
    wanted = select(postings.c.key, postings.c.version, postings.c.erp).where(condition)
    holders = {(row.key, row.version): row.erp for row in connection.execute(wanted, told)}
    for row in reversals:
        row["erp"] = holders.get((row["key"], row["version"]), row["erp"])


def _told(row: Row) -> tuple[TwinRef, Command]:
    posting = POSTING.validate_json(row["posting"])
    return twin_ref(row["twin"]), Command(Action(row["action"]), row["version"], posting, row["again"])
