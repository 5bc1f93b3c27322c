"""Ledgers as whoever compares reads them, and what they found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, delete, select

from adapters.sql import archive
from adapters.sql.database import Database, translated
from adapters.sql.epochs import chunks
from adapters.sql.rows import moment_text, read_record
from adapters.sql.tables import accepted_balances, postings, reconciliations
from canonical.identity import PostingKey, TwinRef, twin_ref
from canonical.postings import Account
from twins.core.reconcile.documents import Filed
from twins.core.reconcile.report import REPORT, Report

REPORTS_MAX = 200
"""That are kept, the newest."""


class ReconciliationRows(Database):
    """Implements twins.ports.Ledgers and twins.ports.Reports."""

    # --- ledgers

    async def ledger(self, erp: str, after: PostingKey | None, limit: int) -> list[Filed]:
        keys = select(postings.c.key).where(postings.c.erp == erp)
        if after is not None:
            keys = keys.where(postings.c.key > after)
        page = keys.distinct().order_by(postings.c.key).limit(limit)
        return await self._filed(select(postings).where(postings.c.key.in_(page)))

    async def filed(self, keys: Collection[PostingKey]) -> list[Filed]:
        found: list[Filed] = []
        for chunk in chunks(sorted(keys)):
            found += await self._filed(select(postings).where(postings.c.key.in_(chunk)))
        return found

    async def filed_by(self, refs: Collection[TwinRef]) -> list[Filed]:
        found: list[Filed] = []
        for chunk in chunks(sorted(map(str, refs))):
            found += await self._filed(select(postings).where(postings.c.twin.in_(chunk)))
        return found

    async def _filed(self, wanted: Select[Any]) -> list[Filed]:
        rows = await self._rows(wanted.order_by(postings.c.key, postings.c.version))
        return [
            Filed(twin_ref(row["twin"]), read_record(row), datetime.fromisoformat(row["changed_at"]))
            for row in rows
        ]

    async def sources_of(self, refs: Collection[TwinRef]) -> set[str]:
        found: set[str] = set()
        async with translated(), self._reader.connect() as connection:
            for chunk in chunks(sorted(map(str, refs))):
                found |= {row["source"] for row in await connection.run_sync(archive.told_of, chunk)}
        return found

    async def accepted(self, erp: str) -> Mapping[Account, Decimal]:
        wanted = select(accepted_balances).where(accepted_balances.c.erp == erp)
        return {Account(row["account"]): Decimal(row["amount"]) for row in await self._rows(wanted)}

    async def accept(self, erp: str, account: Account, amount: Decimal) -> None:
        place = (accepted_balances.c.erp == erp, accepted_balances.c.account == account.value)
        row = {"erp": erp, "account": account.value, "amount": str(amount)}
        async with translated(), self._writer.begin() as connection:
            await connection.execute(delete(accepted_balances).where(*place))
            await connection.execute(accepted_balances.insert(), row)

    # --- reports

    async def save(self, report: Report) -> None:
        row = {
            "id": report.id,
            "started_at": moment_text(report.started_at),
            "body": REPORT.dump_json(report).decode(),
        }
        async with translated(), self._writer.begin() as connection:
            await connection.execute(delete(reconciliations).where(reconciliations.c.id == report.id))
            await connection.execute(reconciliations.insert(), row)
            if report.state != "running":
                newest = select(reconciliations.c.id).order_by(reconciliations.c.started_at.desc())
                old = reconciliations.c.id.not_in(newest.limit(REPORTS_MAX))
                await connection.execute(delete(reconciliations).where(old))

    async def report(self, report_id: str) -> Report | None:
        rows = await self._rows(select(reconciliations).where(reconciliations.c.id == report_id))
        return REPORT.validate_json(rows[0]["body"]) if rows else None

    async def reports(self, limit: int) -> list[Report]:
        newest = select(reconciliations).order_by(reconciliations.c.started_at.desc()).limit(limit)
        return [REPORT.validate_json(row["body"]) for row in await self._rows(newest)]
