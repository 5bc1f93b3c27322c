"""The audit trail: rows that are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import select

from adapters.sql.database import Database, now_text, translated
from adapters.sql.rows import Row
from adapters.sql.tables import audit
from twins.ports import Audited


def audit_row(by: str, action: str, subject: str, detail: Mapping[str, Any]) -> Row:
    return {
        "at": now_text(),
        "by": by,
        "action": action,
        "subject": subject,
        "detail": to_json(detail).decode(),
    }


class AuditRows(Database):
    """Implements twins.ports.Audit."""

    async def note(self, by: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        async with translated(), self._writer.begin() as connection:
            await connection.execute(audit.insert(), audit_row(by, action, subject, detail))

    async def audited(
        self, limit: int, *, subject: str | None = None, before: int | None = None
    ) -> list[Audited]:
        wanted = select(audit).order_by(audit.c.number.desc()).limit(limit)
        if subject is not None:
            wanted = wanted.where(audit.c.subject == subject)
        if before is not None:
            wanted = wanted.where(audit.c.number < before)
        return [
            Audited(
                row["number"],
                datetime.fromisoformat(row["at"]),
                row["by"],
                row["action"],
                row["subject"],
                from_json(row["detail"]),
            )
            for row in await self._rows(wanted)
        ]
