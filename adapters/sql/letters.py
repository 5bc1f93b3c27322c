"""Dead letters: refused messages, until somebody has replayed, replaced or discarded them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import RowMapping, case, func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.audit import AuditRows, audit_row
from adapters.sql.database import now_text, translated
from adapters.sql.rows import Row, moment_text
from adapters.sql.tables import audit, dead_letters
from canonical.damaged import told_of_itself
from canonical.errors import FIELD_LENGTH_MAX, REASON_LENGTH_MAX, readable
from twins.ports import Fault, Letter, LetterFilter, LetterState, Publication, Rejected, Settled

_SHOWN = [column for column in dead_letters.c if column.name not in ("digest", "headers", "body")]


class LetterRows(AuditRows):
    """Implements twins.ports.DeadLetters."""

    async def keep(self, letters: Sequence[tuple[Publication, Rejected]]) -> None:
        async with translated(), self._writer.begin() as connection:
            await connection.execute(self._kept(), [_row(message, why) for message, why in letters])

    async def letters(self, wanted: LetterFilter, limit: int) -> list[Letter]:
        statement = select(*_SHOWN).where(*_conditions(wanted))
        statement = statement.order_by(dead_letters.c.number.desc()).limit(limit)
        return [_letter(row) for row in await self._rows(statement)]

    async def letter(self, number: int) -> tuple[Letter, Publication] | None:
        found = await self._rows(select(dead_letters).where(dead_letters.c.number == number))
        return (_letter(found[0]), _message(found[0])) if found else None

    async def settle(self, by: str, settled: Sequence[Settled]) -> None:
        if not settled:
            return
        trail = [_trail(by, one) for one in settled]
        async with translated(), self._writer.begin() as connection:
            for one in settled:
                await _change(connection, one.number, _outcome(by, one))
            await connection.execute(audit.insert(), trail)

    async def replace(
        self, by: str, number: int, edited: Publication, refused: Rejected | None, diff: str
    ) -> int:
        row = _row(edited, refused or Rejected(""))
        state = LetterState.REPLAYED if refused is None else LetterState.OPEN
        closed = {"closed_at": now_text(), "closed_by": by}
        became = {"state": state} | (closed if refused is None else {**_NOT_CLOSED, **_reason(refused)})
        same = select(dead_letters.c.number).where(
            dead_letters.c.number == number, dead_letters.c.digest == row["digest"]
        )
        async with translated(), self._writer.begin() as connection:
            if (await connection.execute(same)).first() is not None:  # but for its content type
                new = number
                await _change(connection, number, became | {"content_type": row["content_type"]})
            else:
                statement = self._kept().returning(dead_letters.c.number)
                new = int((await connection.execute(statement, row)).scalar_one())
                await _change(connection, new, became | {"replaces": number})
                gone = {"state": LetterState.REPLACED, "replaced_by": new}
                await _change(connection, number, gone | closed)
            detail = {"replaced_by": new, "diff": diff, "became": state} | _said(refused)
            await connection.execute(
                audit.insert(), audit_row(by, "edit and replay", f"dead-letter/{number}", detail)
            )
        return new

    async def open_letters(self) -> tuple[int, datetime | None]:
        counted = select(func.count().label("many"), func.min(dead_letters.c.first_seen).label("oldest"))
        (row,) = await self._rows(counted.where(dead_letters.c.state == LetterState.OPEN))
        return row["many"], None if row["oldest"] is None else datetime.fromisoformat(row["oldest"])

    def _kept(self) -> Any:
        """Insert letters; one that is there is seen once more, and open again where it had been replayed."""
        letter = dead_letters.c
        statement = self._insert(dead_letters)
        again = letter.state == LetterState.REPLAYED
        return statement.on_conflict_do_update(
            index_elements=["digest"],
            set_={
                "seen": letter.seen + 1,
                "last_seen": statement.excluded.last_seen,
                "reason": statement.excluded.reason,
                "field": statement.excluded.field,
                "fault": statement.excluded.fault,
                "state": case((again, LetterState.OPEN.value), else_=letter.state),
                "closed_at": case((again, null()), else_=letter.closed_at),
                "closed_by": case((again, null()), else_=letter.closed_by),
            },
        )


def _conditions(wanted: LetterFilter) -> Iterable[Any]:
    letter = dead_letters.c
    for column, value in (
        (letter.state, wanted.state),
        (letter.field, wanted.field),
        (letter.fault, wanted.fault),
        (letter.source, wanted.source),
        (letter.type, wanted.type),
    ):
        if value is not None:
            yield column == str(value)
    if wanted.reason is not None:
        yield letter.reason.contains(wanted.reason, autoescape=True)
    if wanted.since is not None:
        yield letter.last_seen >= moment_text(wanted.since)
    if wanted.before is not None:
        yield letter.number < wanted.before
    if wanted.numbered:
        yield letter.sequence.is_not(None)


async def _change(connection: AsyncConnection, number: int, values: Row) -> None:
    await connection.execute(update(dead_letters).where(dead_letters.c.number == number).values(values))


_NOT_CLOSED: Row = {"closed_at": None, "closed_by": None}


def _outcome(by: str, one: Settled) -> Row:
    if one.refused is not None:
        return {"state": one.state, **_NOT_CLOSED, **_reason(one.refused)}
    return {"state": one.state, "closed_at": now_text(), "closed_by": by, "why": one.why}


def _trail(by: str, one: Settled) -> Row:
    told = {} if one.why is None else {"reason": one.why}
    detail = {**told, "became": one.state} | _said(one.refused)
    return audit_row(by, one.action, f"dead-letter/{one.number}", detail)


def _said(refused: Rejected | None) -> Row:
    return {} if refused is None else {"refused": refused.reason, "field": refused.field}


def _reason(why: Rejected) -> Row:
    return {
        "reason": readable(why.reason, REASON_LENGTH_MAX),
        "field": readable(why.field, FIELD_LENGTH_MAX),
        "fault": why.fault.value,
    }


def _row(message: Publication, why: Rejected) -> Row:
    headers, now = to_json(dict(message.headers)), now_text()
    told = told_of_itself(message.body, message.headers)
    return {
        "digest": hashlib.sha256(message.body + headers).digest(),
        "state": LetterState.OPEN.value,
        **_reason(why),
        **{name: told.get(name) for name in ("source", "type", "subject", "sequence")},
        "size_bytes": len(message.body),
        "seen": 1,
        "first_seen": now,
        "last_seen": now,
        "content_type": None if message.content_type is None else readable(message.content_type, 200),
        "headers": headers.decode(),
        "body": message.body,
    }


def _letter(row: RowMapping) -> Letter:
    told = {column.name: row[column.name] for column in _SHOWN if column.name != "content_type"}
    moments = {
        name: None if told[name] is None else datetime.fromisoformat(told[name])
        for name in ("first_seen", "last_seen", "closed_at")
    }
    kinds = {"state": LetterState(told["state"]), "fault": Fault(told["fault"])}
    return Letter(**{**told, **moments, **kinds})


def _message(row: RowMapping) -> Publication:
    return Publication(row["body"], from_json(row["headers"]), row["content_type"])
