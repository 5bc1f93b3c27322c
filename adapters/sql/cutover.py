"""Moving from one ERP instance to another: in shadow, promoted, abandoned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql import rows
from adapters.sql.database import Database, now_text, translated
from adapters.sql.epochs import chunks
from adapters.sql.shadows import copies_of, copy_rows, mirrored
from adapters.sql.tables import commands, cutovers, postings, shadow_commands, shadow_postings
from canonical.errors import RejectedMessage
from canonical.identity import PostingKey, twin_ref
from canonical.postings import Action
from twins.core.dispatch import QueuedCommand
from twins.core.ledger import Status
from twins.core.shadow import Said, moving, taken_back
from twins.ports import Copy, Cutover, Promotion

_UNSETTLED = (Status.QUEUED, Status.CONFIRMED, Status.REVERSING)
_PAGE = 1_000


class CutoverRows(Database):
    """Implements twins.ports.Cutovers."""

    async def cutovers(self) -> list[Cutover]:
        return [_cutover(row) for row in await self._rows(select(cutovers).order_by(cutovers.c.erp))]

    async def shadow(self, erp: str, of: str) -> None:
        async with translated(), self._writer.begin() as connection:
            found = (await connection.execute(select(cutovers).with_for_update())).mappings()
            _check(erp, of, [_cutover(row) for row in found])
            left = select(shadow_postings.c.key).where(
                shadow_postings.c.erp == erp, shadow_postings.c.status.in_(_UNSETTLED)
            )
            if (await connection.execute(left.limit(1))).first() is not None:
                raise RejectedMessage(f"{erp} still holds copies of its last time in shadow")
            await connection.execute(delete(shadow_postings).where(shadow_postings.c.erp == erp))
            await connection.execute(delete(cutovers).where(cutovers.c.erp == erp))
            row = {"erp": erp, "of": of, "state": "shadow", "since": now_text()}
            await connection.execute(cutovers.insert().values(row))

    async def abandon(self, erp: str) -> int:
        async with translated(), self._writer.begin() as connection:
            await _end(connection, erp, {"state": "abandoned"})
            return await _take_back(connection, erp)

    async def promote(self, erp: str) -> Promotion:
        async with translated(), self._writer.begin() as connection:
            old = await _end(connection, erp, {"state": "promoted", "promoted_at": now_text()})
            moved = await _movable(connection, old)
            await _move(connection, moved, erp)
            taken = await _take_back(connection, erp)
            kept = select(commands.c.number).where(commands.c.erp == old)
            return Promotion(len(moved), len((await connection.execute(kept)).all()), taken)

    async def copies(self, erp: str) -> AsyncIterator[Copy]:
        after: tuple[str, int] = ("", 0)
        while page := await self._copies(erp, after):
            for copy in page:
                yield copy
            after = page[-1].key, page[-1].version

    async def _copies(self, erp: str, after: tuple[str, int]) -> list[Copy]:
        own, live = shadow_postings.c, postings.c
        columns = [
            column.label(f"{name}_{column.name}")
            for name, table in (("own", own), ("live", live))
            for column in (table.status, table.document, table.reversal, table.reason)
        ]
        same = (own.key == live.key) & (own.version == live.version)
        wanted = (
            select(own.key, own.version, live.erp, *columns)
            .select_from(shadow_postings.join(postings, same))
            .where(own.erp == erp, tuple_(own.key, own.version) > after)
            .order_by(own.key, own.version)
            .limit(_PAGE)
        )
        return [
            Copy(PostingKey(row["key"]), row["version"], row["erp"], _said(row, "live"), _said(row, "own"))
            for row in await self._rows(wanted)
        ]


def _check(erp: str, of: str, known: Sequence[Cutover]) -> None:
    """Raises: RejectedMessage."""
    if erp == of:
        raise RejectedMessage(f"{erp} cannot be in shadow of itself")
    for one in known:
        if one.state == "shadow" and {one.erp, one.of} & {erp, of}:
            raise RejectedMessage(f"{one.erp} is in shadow of {one.of} already")
        if one.state == "promoted" and one.of in (erp, of):
            raise RejectedMessage(f"{one.erp} has taken the place of {one.of}")
        if one.state == "promoted" and one.erp == erp:
            raise RejectedMessage(f"{erp} is live since it took the place of {one.of}")


async def _end(connection: AsyncConnection, erp: str, changes: dict[str, Any]) -> str:
    """End a time in shadow; the instance beside which it was. Waits for commits that are under way.

    Raises: RejectedMessage where it is in shadow of none.
    """
    in_shadow = (cutovers.c.erp == erp, cutovers.c.state == "shadow")
    changed = await connection.execute(update(cutovers).where(*in_shadow).values(changes))
    if not changed.rowcount:
        raise RejectedMessage(f"{erp} is not in shadow of any instance")
    return str((await connection.execute(select(cutovers.c.of).where(cutovers.c.erp == erp))).scalar_one())


async def _movable(connection: AsyncConnection, old: str) -> list[QueuedCommand]:
    queue = select(commands).where(commands.c.erp == old).order_by(commands.c.number).with_for_update()
    found = [rows.read_command(row) for row in (await connection.execute(queue)).mappings()]
    unsent = [one for one in found if not one.sent]
    needed = {key for one in unsent for key in one.command.posting.requires}
    kept: set[PostingKey] = set()
    for chunk in chunks(sorted(needed)):
        held = select(postings.c.key).where(
            postings.c.key.in_(chunk),
            postings.c.erp == old,
            postings.c.status.in_((Status.QUEUED, Status.CONFIRMED)),
        )
        kept |= {PostingKey(row.key) for row in await connection.execute(held)}
    sent = {one.command.key for one in found if one.sent and one.command.action is Action.POST}
    return moving(unsent, kept | sent)


async def _move(connection: AsyncConnection, moved: Sequence[QueuedCommand], erp: str) -> None:
    """The copy becomes the posting: what the shadow was told is looked up before it is told again."""
    told = await _told_in_shadow(connection, erp)
    for one in moved:
        command = one.command
        known = (command.key, command.version, command.action.value) in told
        changes = {"erp": erp, "sent": int(known)}
        await connection.execute(update(commands).where(commands.c.number == one.number).values(changes))
        for table in (shadow_commands, shadow_postings):
            same = (table.c.erp == erp, table.c.key == command.key, table.c.version == command.version)
            await connection.execute(delete(table).where(*same))
        place = (postings.c.key == command.key, postings.c.version == command.version)
        await connection.execute(update(postings).where(*place).values(erp=erp))


async def _told_in_shadow(connection: AsyncConnection, erp: str) -> set[tuple[str, int, str]]:
    """(key, version, action) of all that may have reached it."""
    unsent = select(shadow_commands).where(shadow_commands.c.erp == erp, shadow_commands.c.sent == 0)
    unsent = unsent.with_for_update()  # its gateway must not begin to tell them now
    waiting = {(row.key, row.version, row.action) for row in await connection.execute(unsent)}
    copies = await connection.run_sync(copies_of, erp)
    told = {(str(one.key), one.version, Action.POST.value) for some in copies.values() for one in some}
    told |= {(key, version, Action.REVERSE.value) for key, version, _ in told}
    return told - waiting


async def _take_back(connection: AsyncConnection, erp: str) -> int:
    """Have every copy reversed that is left. Answers how many."""
    owners = {row["key"]: twin_ref(row["twin"]) for row in await connection.run_sync(copy_rows, erp)}
    reversals = taken_back(await connection.run_sync(copies_of, erp))
    await connection.run_sync(mirrored, erp, [(owners[one.key], one) for one in reversals])
    return len(reversals)


def _cutover(row: Any) -> Cutover:
    promoted = row["promoted_at"]
    return Cutover(
        row["erp"],
        row["of"],
        row["state"],
        datetime.fromisoformat(row["since"]),
        None if promoted is None else datetime.fromisoformat(promoted),
    )


def _said(row: Any, name: str) -> Said:
    told = {part: row[f"{name}_{part}"] for part in ("document", "reversal", "reason")}
    return Said(Status(row[f"{name}_status"]), **told)
