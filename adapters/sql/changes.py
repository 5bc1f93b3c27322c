"""What commits made of twins, read by whoever follows them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import BigInteger, Text, cast, delete, func, select

from adapters.sql import rows
from adapters.sql.database import Database, translated
from adapters.sql.epochs import chunks
from adapters.sql.tables import announced, changes
from twins.ports import Commits

ONE = 1
TWINS_AT_ONCE = 5_000
"""Changes after which a page ends: a tenth of a second of reading, and as much of telling."""
_RUNNING = func.pg_snapshot_xmin(func.pg_current_snapshot())


class ChangeRows(Database):
    """Implements twins.ports.Changes."""

    async def commits(self, after: int, missing: Collection[int], limit: int) -> Commits:
        oldest_running, mark = await self._running(bool(missing))  # first: who had ended by then is seen
        found = [rows.read_commit(row) for row in await self._missing(sorted(missing))]
        newer = select(changes).where(changes.c.number > after).order_by(changes.c.number).limit(limit)
        many = await self._rows(newer)
        told = 0
        for place, row in enumerate(many):
            found.append(rows.read_commit(row))
            told += len(found[-1].twins)
            if told > TWINS_AT_ONCE:
                return Commits(found, oldest_running, mark, place + 1 < len(many) or len(many) == limit)
        return Commits(found, oldest_running, mark, len(many) == limit)

    async def _missing(self, numbers: list[int]) -> list[Any]:
        found: list[Any] = []
        for chunk in chunks(numbers):
            wanted = select(changes).where(changes.c.number.in_(chunk)).order_by(changes.c.number)
            found += await self._rows(wanted)
        return found

    async def _running(self, asks_for_missing: bool) -> tuple[int, int]:
        """SQLite writes one transaction at a time: none that has a number runs while a larger one is seen."""
        if self._reader.dialect.name == "sqlite":
            return 1, 0
        mark = func.pg_current_xact_id() if asks_for_missing else _RUNNING
        numbers = [cast(cast(one, Text), BigInteger) for one in (_RUNNING, mark)]
        (row,) = await self._rows(select(numbers[0].label("oldest"), numbers[1].label("mark")))
        return row["oldest"], row["mark"]

    async def commits_kept(self) -> tuple[int, int]:
        bounds = select(func.min(changes.c.number).label("first"), func.max(changes.c.number).label("last"))
        (row,) = await self._rows(bounds)
        return row["first"] or 1, row["last"] or 0

    async def announced(self) -> int | None:
        found = await self._rows(select(announced.c.number))
        return found[0]["number"] if found else None

    async def note_announced(self, number: int) -> None:
        statement = self._insert(announced).values(one=ONE, number=number)
        newer = statement.excluded.number > announced.c.number
        noted = statement.on_conflict_do_update(
            index_elements=["one"], set_={"number": statement.excluded.number}, where=newer
        )
        async with translated(), self._writer.begin() as connection:
            await connection.execute(noted)

    async def forget_commits(self, before: datetime, limit: int, *, up_to: int | None) -> int:
        oldest = select(changes.c.number, changes.c.committed_at).order_by(changes.c.number).limit(limit + 1)
        found = (await self._rows(oldest))[:-1]
        until = rows.moment_text(before)

        def is_over(row: Any) -> bool:
            return row["committed_at"] < until and (up_to is None or row["number"] <= up_to)

        old = [row["number"] for row in takewhile(is_over, found)]
        if old:
            async with translated(), self._writer.begin() as connection:
                await connection.execute(delete(changes).where(changes.c.number.in_(old)))
        return len(old)
