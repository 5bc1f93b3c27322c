"""Numbers that sources have told: between which two of them some are missing.

From one number to another a source is known to be *whole*. A look reads only what lies outside, and widens
it; numbers inside need no row any more, so events can be archived without leaving gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, literal, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.rows import Read, moment_text
from adapters.sql.tables import archived_numbers, events, sources
from twins.core.gaps import Gap

GAPS_MAX = 1_000
"""Of one source, at one look."""


class Whole(NamedTuple):
    """Numbers *start* to *through* of a source have all been told; *since*: when *start* first happened."""

    source: str
    start: int
    through: int
    since: str

    def holds(self, number: int, time: str) -> bool:
        """Whether no look needs it any more. A source may tell *start* once more, of an earlier moment."""
        return self.start < number <= self.through or (number == self.start and time >= self.since)


async def known_whole(connection: AsyncConnection) -> dict[str, Whole | None]:
    """Every source that numbers what it tells, by name."""
    found = (await connection.execute(select(sources).order_by(sources.c.source))).all()
    return {row.source: None if row.start is None else Whole(*row) for row in found}


async def look(
    connection: AsyncConnection, source: str, whole: Whole | None
) -> tuple[list[Gap], Whole | None]:
    """The gaps of a source, and from where to where it is whole now."""
    steps = (await connection.execute(_steps(source, whole))).all()
    if not steps:
        return [], whole
    found = [
        Gap(source, step.number + 1, step.following - 1, datetime.fromisoformat(step.shows))
        for step in steps
        if step.following is not None
        and step.following > step.number + 1
        and not (whole is not None and step.number == whole.start and step.following == whole.through)
    ]
    return found[:GAPS_MAX], _widened(source, whole, steps, found)


def _steps(source: str, whole: Whole | None) -> Any:
    """The first number, the last, and those that are followed by a gap, each with what follows it."""
    told = union_all(*_told(source, whole)).subquery()
    numbers = select(told.c.number, func.min(told.c.time).label("time")).group_by(told.c.number).subquery()
    number, time = numbers.c.number, numbers.c.time
    steps = select(
        number,
        time,
        func.lag(number).over(order_by=number).label("preceding"),
        func.lead(number).over(order_by=number).label("following"),
        func.lead(time).over(order_by=number).label("shows"),
    ).subquery()
    shows_something = (
        steps.c.preceding.is_(None) | steps.c.following.is_(None) | (steps.c.following > steps.c.number + 1)
    )
    return select(steps).where(shows_something).order_by(steps.c.number).limit(GAPS_MAX + 3)


def _told(source: str, whole: Whole | None) -> list[Any]:
    """Numbers outside of what is whole, and its two ends; its start may have been told again."""
    found = []
    for table in (events, archived_numbers):
        of_source: ColumnElement[bool] = (table.c.source == source) & table.c.sequence.is_not(None)
        told = select(table.c.sequence.label("number"), table.c.time).where(of_source)
        if whole is None:
            found.append(told)
        else:
            found += [
                told.where(table.c.sequence <= whole.start),
                told.where(table.c.sequence > whole.through),
            ]
    if whole is not None:
        ends = (whole.start, whole.through)
        found += [select(literal(end).label("number"), literal(whole.since).label("time")) for end in ends]
    return found


def _widened(source: str, whole: Whole | None, steps: Sequence[Any], found: Sequence[Gap]) -> Whole | None:
    below = [gap for gap in found if whole is not None and gap.last < whole.start]
    above = [gap for gap in found if whole is None or gap.first > whole.through]
    if not above and steps[-1].following is not None:
        return whole  # there is more below than one look finds
    start, since = (
        (below[-1].last + 1, moment_text(below[-1].since)) if below else (steps[0].number, steps[0].time)
    )
    return Whole(source, start, above[0].first - 1 if above else steps[-1].number, since)


async def widen(connection: AsyncConnection, was: Whole | None, now: Whole) -> None:
    """Note it, unless another look has noted something meanwhile; rows for numbers inside go."""
    noted = await connection.execute(
        update(sources)
        .where(
            sources.c.source == now.source,
            sources.c.start.is_not_distinct_from(None if was is None else was.start),
            sources.c.through.is_not_distinct_from(None if was is None else was.through),
        )
        .values(now._asdict())
    )
    if noted.rowcount:
        number, time = archived_numbers.c.sequence, archived_numbers.c.time
        held = number.between(now.start, now.through) & ((number != now.start) | (time >= now.since))
        await connection.execute(
            delete(archived_numbers).where(archived_numbers.c.source == now.source, held)
        )


async def keep_numbers(connection: AsyncConnection, told: Collection[Read], insert: Any) -> None:
    """Keep what a look still needs of events that go to the archive; *insert*: into archived_numbers."""
    whole = await known_whole(connection)
    outside = {
        (row["source"], row["sequence"], row["time"])
        for row in told
        if row["sequence"] is not None
        and not (
            (known := whole.get(row["source"])) is not None and known.holds(row["sequence"], row["time"])
        )
    }
    if outside:
        names = ("source", "sequence", "time")
        await connection.execute(
            insert.on_conflict_do_nothing(), [dict(zip(names, one, strict=True)) for one in sorted(outside)]
        )
