"""The queue of commands for each ERP instance, and what its gateway needs to know of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Select, Table, delete, exists, select, true, update

from adapters.sql import rows
from adapters.sql.database import translated
from adapters.sql.epochs import EpochRows, assert_epoch, chunks
from adapters.sql.tables import commands, postings, shadow_postings
from canonical.identity import PostingKey
from twins.core.dispatch import OLDEST_EVERY, QueuedCommand
from twins.core.ledger import Status


class CommandRows(EpochRows):
    """Implements twins.ports.CommandQueue."""

    COMMANDS: ClassVar[Table] = commands
    POSTINGS: ClassVar[Table] = postings

    async def queued(self, erp: str, limit: int) -> list[QueuedCommand]:
        own = select(self.COMMANDS).where(self.COMMANDS.c.erp == erp, self._ready())
        first = own.order_by(self.COMMANDS.c.priority, self.COMMANDS.c.number).limit(limit)
        oldest = own.order_by(self.COMMANDS.c.number).limit(limit // OLDEST_EVERY)
        found = {row["number"]: row for row in (*await self._rows(first), *await self._rows(oldest))}
        return [rows.read_command(found[number]) for number in sorted(found)]

    def _ready(self) -> ColumnElement[bool]:
        """Not those for a key of which the instance still has a copy to take back from its time in shadow."""
        same = (shadow_postings.c.erp == self.COMMANDS.c.erp, shadow_postings.c.key == self.COMMANDS.c.key)
        standing = shadow_postings.c.status.in_([Status.QUEUED, Status.CONFIRMED, Status.REVERSING])
        return ~exists().where(*same, standing, shadow_postings.c.reason.is_(None))

    async def statuses(self, keys: Collection[PostingKey]) -> dict[tuple[PostingKey, int], Status]:
        return await self._statuses(self.POSTINGS, self._counts(), keys)

    def _counts(self) -> ColumnElement[bool]:
        """Which rows of POSTINGS are its ledger."""
        return true()

    async def _statuses(
        self, table: Table, counts: ColumnElement[bool], keys: Collection[PostingKey]
    ) -> dict[tuple[PostingKey, int], Status]:
        found: dict[tuple[PostingKey, int], Status] = {}
        for chunk in chunks(list(keys)):
            found |= await self._found(_status_of(table).where(counts, table.c.key.in_(chunk)))
        return found

    async def under(self, prefix: str) -> dict[tuple[PostingKey, int], Status]:
        # "0" is the character after "/": the range is all keys that begin with the prefix.
        key = self.POSTINGS.c.key
        within = (self._counts(), key >= prefix, key < prefix[:-1] + "0")
        return await self._found(_status_of(self.POSTINGS).where(*within))

    async def _found(self, statement: Select[Any]) -> dict[tuple[PostingKey, int], Status]:
        return {
            (PostingKey(row["key"]), row["version"]): Status(row["status"])
            for row in await self._rows(statement)
        }

    async def sending(self, gateway: str, epoch: int, erp: str, numbers: Collection[int]) -> set[int]:
        marked: set[int] = set()
        async with translated(), self._writer.begin() as connection:
            await connection.run_sync(assert_epoch, gateway, epoch)
            for chunk in chunks(list(numbers)):
                mark = (
                    update(self.COMMANDS)
                    .where(self.COMMANDS.c.number.in_(chunk), self.COMMANDS.c.erp == erp)
                    .values(sent=1, attempts=self.COMMANDS.c.attempts + 1)
                    .returning(self.COMMANDS.c.number)
                )
                marked |= {row.number for row in await connection.execute(mark)}
        return marked

    async def stumbled(self, gateway: str, epoch: int, troubles: Mapping[int, str]) -> None:
        async with translated(), self._writer.begin() as connection:
            await connection.run_sync(assert_epoch, gateway, epoch)
            for number, trouble in troubles.items():
                await connection.execute(
                    update(self.COMMANDS).where(self.COMMANDS.c.number == number).values(trouble=trouble)
                )

    async def finished(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        async with translated(), self._writer.begin() as connection:
            await connection.run_sync(assert_epoch, gateway, epoch)
            for chunk in chunks(list(numbers)):
                await connection.execute(delete(self.COMMANDS).where(self.COMMANDS.c.number.in_(chunk)))


def _status_of(table: Table) -> Select[Any]:
    return select(table.c.key, table.c.version, table.c.status)
