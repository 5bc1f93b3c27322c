"""The archive: the events of a closed twin as one compressed row.

What was told of a twin is what the archive has of it and its rows in `events`, each event in one of the two.
A body is a format byte and then, by zlib, a JSON list with a list for each event: its columns as in `events`,
but for the twin, which the row names, and the digest, which the content gives.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.named import named
from adapters.sql.rows import Read, Row
from adapters.sql.tables import archive, events, twins
from canonical.errors import InvariantViolated
from twins.core.history import Arrival
from twins.ports import Archived

FORMAT = b"\x01"
LEVEL = 6
"""zlib's; 9 saves a five-hundredth more (docs/decisions/0016)."""
COLUMNS = (
    "number",
    "source",
    "id",
    "type",
    "time",
    "sequence",
    "data",
    "context",
    "arrival",
    "recorded_at",
)
_values = itemgetter(*COLUMNS)


def packed(told: Iterable[Read]) -> bytes:
    """Events of one twin, in the order of commits."""
    in_order = sorted(map(_values, told), key=itemgetter(0))
    return FORMAT + zlib.compress(to_json(in_order), LEVEL)


def unpacked(twin: str, body: bytes) -> list[Row]:
    """Raises: InvariantViolated naming the twin."""
    try:
        if body[:1] != FORMAT:
            raise ValueError(f"format {body[:1]!r} is unknown")
        told = from_json(zlib.decompress(body[1:]))
        return [{"twin": twin, **dict(zip(COLUMNS, values, strict=True))} for values in told]
    except (ValueError, TypeError, zlib.error) as error:
        raise InvariantViolated(f"archive of {twin}: {error}") from error


def told_of(connection: Connection, names: Sequence[str], *columns: str) -> list[Read]:
    """Everything that was told of these twins, archived or not; *columns*, or all."""
    live = named(connection, events, names, *columns)
    return [*(row._mapping for row in live), *archived_of(connection, names)]


def archived_of(connection: Connection, names: Sequence[str]) -> list[Row]:
    found = named(connection, archive, names, "twin", "body")
    return [row for one in found for row in unpacked(one.twin, one.body)]


def archived_count() -> Any:
    """Sum over rows of the archive: how many events they hold."""
    return func.sum(archive.c.told_new + archive.c.told_late + archive.c.told_conflict)


async def arrivals(connection: AsyncConnection) -> dict[str, int]:
    """How each stored event arrived → how many, archived ones included."""
    live = select(events.c.arrival, func.count()).group_by(events.c.arrival)
    found = Counter({row[0]: row[1] for row in await connection.execute(live)})
    told = (archive.c.told_new, archive.c.told_late, archive.c.told_conflict)
    (sums,) = await connection.execute(select(*map(func.sum, told)))
    found.update(dict(zip(("new", "late", "conflict"), (many or 0 for many in sums), strict=True)))
    return {arrival: many for arrival, many in found.items() if many}


async def move(connection: AsyncConnection, names: Sequence[str], upsert: Any) -> tuple[Archived, list[Read]]:
    """Move the events of these twins from `events` to the archive; *upsert*: into the archive.

    Answers also the events that were moved. The newest event of all keeps its row, and its twin waits: SQLite
    would give the number of a last row that is gone to the next event, and the order of commits were lost.
    """
    last = (await connection.execute(select(func.max(events.c.number)))).scalar_one()
    live = (await connection.execute(select(events).where(events.c.twin.in_(names)))).mappings().all()
    waits = {row["twin"] for row in live if row["number"] == last}
    moved = [row for row in live if row["twin"] not in waits]
    by_twin: dict[str, list[Read]] = {}
    for row in moved:
        by_twin.setdefault(row["twin"], []).append(row)
    for old in await connection.run_sync(archived_of, list(by_twin)):
        by_twin[old["twin"]].append(old)
    bodies = [_archive_row(twin, told) for twin, told in by_twin.items()]
    if bodies:
        await connection.execute(upsert, bodies)
        await connection.execute(delete(events).where(events.c.twin.in_(list(by_twin))))
    done = [name for name in names if name not in waits]
    await connection.execute(update(twins).where(twins.c.twin.in_(done)).values(closed_at=None))
    return Archived(len(bodies), len(moved), sum(len(row["body"]) for row in bodies)), list(moved)


def _archive_row(twin: str, told: Sequence[Read]) -> Row:
    arrived = Counter(row["arrival"] for row in told)
    return {
        "twin": twin,
        "body": packed(told),
        "told_new": arrived[Arrival.NEW.value],
        "told_late": arrived[Arrival.LATE.value],
        "told_conflict": arrived[Arrival.CONFLICT.value],
    }
