"""Which ERP instance a command goes to: its company's own, but a reversal goes where the document is."""

from __future__ import annotations

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.rows import Row
from adapters.sql.tables import postings
from canonical.postings import Action

PLACES_MAX = 500


async def address(connection: AsyncConnection, records: list[Row], told: list[Row]) -> None:
    """Send each reversal of *told* to the instance that its posting was told to.

    Shape: rows of postings and of commands, changed in place, before they are written.
    """
    reversals = [row for row in told if row["action"] == Action.REVERSE.value]
    for start in range(0, len(reversals), PLACES_MAX):
        some = reversals[start : start + PLACES_MAX]
        places = [(row["key"], row["version"]) for row in some]
        wanted = select(postings.c.key, postings.c.version, postings.c.erp).where(
            tuple_(postings.c.key, postings.c.version).in_(places)
        )
        holders = {(row.key, row.version): row.erp for row in await connection.execute(wanted)}
        for row in some:
            row["erp"] = holders.get((row["key"], row["version"]), row["erp"])
