"""The queue and the ledger of an ERP instance in shadow, beside those of the live ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, insert, select, true, update

from adapters.sql import rows
from adapters.sql.commands import CommandRows
from adapters.sql.database import now_text, translated
from adapters.sql.epochs import chunks
from adapters.sql.tables import postings, shadow_commands, shadow_postings
from canonical.envelope import Event
from canonical.identity import PostingKey, TwinRef, twin_ref
from canonical.postings import Command
from twins.core.history import Arrival
from twins.core.ledger import Record, Status, answered
from twins.core.shadow import Copies, mirror
from twins.core.twin import REPLIES
from twins.ports import Taken, Verdict


class SqlShadow(CommandRows):
    """Implements CommandQueue for what one instance is told in shadow; its answers stay here."""

    COMMANDS = shadow_commands
    POSTINGS = shadow_postings

    def __init__(self, url: str, erp: str) -> None:
        super().__init__(url)
        self._erp_name = erp

    async def statuses(self, keys: Collection[PostingKey]) -> dict[tuple[PostingKey, int], Status]:
        """Its own; of what it was never told, the live ones: that was posted before it came."""
        own = await super().statuses(keys)
        told = {key for key, _ in own}
        return own | await self._statuses(postings, true(), [key for key in keys if key not in told])

    def _ready(self) -> ColumnElement[bool]:
        return true()

    def _counts(self) -> ColumnElement[bool]:
        return shadow_postings.c.erp == self._erp_name

    async def reply(self, events: Sequence[Event]) -> list[Verdict]:
        """Note what it answered. A reply to what it is not asked any more changes nothing."""
        async with translated(), self._writer.begin() as connection:
            for event in events:
                fact = event.fact
                if not isinstance(fact, REPLIES):
                    continue
                place = _at(self._erp_name, fact.posting_key, fact.version)
                held = select(shadow_postings).where(place).with_for_update()
                row = (await connection.execute(held)).mappings().first()
                if row is not None:
                    after = answered(rows.read_record(row), fact)
                    await connection.run_sync(_put, self._erp_name, row["twin"], after)
        return [Taken(Arrival.NEW)] * len(events)


def mirrored(connection: Connection, erp: str, told: Sequence[tuple[TwinRef, Command]]) -> None:
    """Tell a shadow what the instance beside it is told, in the same transaction."""
    owners = {command.key: owner for owner, command in told}
    copies = copies_of(connection, erp, list(owners))
    commands, changed = mirror([command for _, command in told], copies)
    now = now_text()
    for record in changed:
        _put(connection, erp, str(owners[record.key]), record)
    if commands:
        values = [rows.command_row(owners[one.key], one, erp, now) for one in commands]
        connection.execute(insert(shadow_commands), values)


def copies_of(connection: Connection, erp: str, keys: Collection[PostingKey] | None = None) -> Copies:
    """The ledger of a shadow, of *keys* or of all."""
    found: dict[PostingKey, list[Record]] = {}
    for row in copy_rows(connection, erp, keys):
        record = rows.read_record(row)
        found.setdefault(record.key, []).append(record)
    return found


def copy_rows(
    connection: Connection, erp: str, keys: Collection[PostingKey] | None = None
) -> list[RowMapping]:
    wanted = (
        select(shadow_postings)
        .where(shadow_postings.c.erp == erp)
        .order_by(shadow_postings.c.key, shadow_postings.c.version)
        .with_for_update()
    )
    if keys is None:
        return list(connection.execute(wanted).mappings())
    found: list[RowMapping] = []
    for chunk in chunks(list(keys)):
        some = wanted.where(shadow_postings.c.key.in_(chunk))
        found += connection.execute(some).mappings()
    return found


def _put(connection: Connection, erp: str, owner: str, record: Record) -> None:
    row = rows.posting_row(twin_ref(owner), record, erp, now_text())
    place = _at(erp, record.key, record.version)
    changed = connection.execute(update(shadow_postings).where(place).values(row))
    if not changed.rowcount:
        connection.execute(insert(shadow_postings).values(row))


def _at(erp: str, key: str, version: int) -> ColumnElement[bool]:
    place = shadow_postings.c
    return and_(place.erp == erp, place.key == key, place.version == version)
