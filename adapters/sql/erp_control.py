"""How each ERP instance stands: paused by whom, what waits for it, what it has refused."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import RowMapping, case, delete, func, or_, select, tuple_

from adapters.sql import rows
from adapters.sql.database import Database, translated
from adapters.sql.tables import commands, pauses, postings
from canonical.identity import twin_ref
from canonical.postings import Action
from twins.core.dispatch import QueuedCommand
from twins.core.ledger import Status
from twins.ports import Backlog, Pause, Rejection, RejectionFilter

_REFUSED = (
    postings.c.reason.is_not(None),
    or_(postings.c.status == Status.REJECTED, postings.c.status == Status.REVERSING),
)


class ErpControlRows(Database):
    """Implements twins.ports.ErpControl."""

    # --- pauses

    async def pause(self, pause: Pause) -> None:
        row = {
            "erp": pause.erp,
            "since": rows.moment_text(pause.since),
            "by": pause.by,
            "reason": pause.reason,
        }
        async with translated(), self._writer.begin() as connection:
            await connection.execute(delete(pauses).where(pauses.c.erp == pause.erp))
            await connection.execute(pauses.insert().values(row))

    async def resume(self, erp: str) -> bool:
        async with translated(), self._writer.begin() as connection:
            return bool((await connection.execute(delete(pauses).where(pauses.c.erp == erp))).rowcount)

    async def pauses(self) -> dict[str, Pause]:
        found = await self._rows(select(pauses))
        return {
            row["erp"]: Pause(row["erp"], datetime.fromisoformat(row["since"]), row["by"], row["reason"])
            for row in found
        }

    # --- what waits

    async def backlogs(self) -> dict[str, Backlog]:
        counted = select(
            commands.c.erp,
            func.count().label("queued"),
            func.sum(commands.c.sent).label("sent"),
            func.sum(case((commands.c.trouble.is_not(None), 1), else_=0)).label("troubled"),
            func.min(commands.c.queued_at).label("oldest"),
        ).group_by(commands.c.erp)
        return {
            row["erp"]: Backlog(
                row["queued"], row["sent"], row["troubled"], datetime.fromisoformat(row["oldest"])
            )
            for row in await self._rows(counted)
        }

    async def oldest(self, erp: str, limit: int) -> list[QueuedCommand]:
        wanted = select(commands).where(commands.c.erp == erp).order_by(commands.c.number).limit(limit)
        return [rows.read_command(row) for row in await self._rows(wanted)]

    # --- what was refused

    async def refusals(self) -> dict[str, int]:
        counted = select(postings.c.erp, func.count().label("many")).where(*_REFUSED).group_by(postings.c.erp)
        return {row["erp"]: row["many"] for row in await self._rows(counted)}

    async def rejections(self, wanted: RejectionFilter, limit: int) -> list[Rejection]:
        statement = select(postings).where(*_REFUSED)
        for name in ("erp", "command", "key", "version"):
            if (value := getattr(wanted, name)) is not None:
                statement = statement.where(postings.c[name] == value)
        if wanted.reason is not None:
            statement = statement.where(postings.c.reason.contains(wanted.reason, autoescape=True))
        place = tuple_(postings.c.key, postings.c.version)
        if wanted.after is not None:
            statement = statement.where(place > wanted.after)
        statement = statement.order_by(postings.c.key, postings.c.version).limit(limit)
        return [_rejection(row) for row in await self._rows(statement)]


def _rejection(row: RowMapping) -> Rejection:
    record = rows.read_record(row)
    return Rejection(
        key=record.key,
        version=record.version,
        action=Action.REVERSE if record.status is Status.REVERSING else Action.POST,
        again=record.again,
        reason=record.reason or "",
        since=datetime.fromisoformat(row["changed_at"]).astimezone(UTC),
        owner=twin_ref(row["twin"]),
        erp=row["erp"],
        posting=record.posting,
    )
