"""Twins in a relational database: one transaction a batch, fenced by the host's epoch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import cached_property, partial
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Dialect,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)

from adapters.sql import archive, numbers, rows
from adapters.sql.beside import Beside, beside, finished
from adapters.sql.changes import ChangeRows
from adapters.sql.checkpoints import code, loaded
from adapters.sql.commands import CommandRows
from adapters.sql.cutover import CutoverRows
from adapters.sql.database import now_text, translated
from adapters.sql.engine import Tuning
from adapters.sql.epochs import chunks
from adapters.sql.erp_control import ErpControlRows
from adapters.sql.letters import LetterRows
from adapters.sql.named import among, named
from adapters.sql.placements import PlacementRows, assert_placed
from adapters.sql.reconciliations import ReconciliationRows
from adapters.sql.routes import address
from adapters.sql.tables import archive as archive_table
from adapters.sql.tables import (
    archived_numbers,
    changes,
    checkpoints,
    commands,
    events,
    gaps,
    mail,
    postings,
    registers,
    sources,
    twins,
)
from canonical.envelope import Event
from canonical.identity import PostingKey, TwinRef, twin_ref
from canonical.postings import Posting
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.gaps import Gap, Watch
from twins.core.history import Checkpoint
from twins.core.ledger import Record, Status
from twins.core.placement import UNPLACED, Placement
from twins.core.twin import REPLIES, Stored
from twins.ports import Archived, Closed, Told, TwinFilter, TwinRow

T = TypeVar("T")

ROWS_AT_ONCE = (1_024, 256, 64, 16)
"""Few sizes, so that each is prepared once. A row has at most 13 values, and SQLite takes 32,766."""
RAISED_AT_ONCE = 50
"""Twins whose deadlines are noted in one transaction: commits wait for it."""


def _one_erp(company: str) -> str:
    return "main"


class SqlStore(
    PlacementRows, LetterRows, ErpControlRows, CutoverRows, CommandRows, ReconciliationRows, ChangeRows
):
    """Implements TwinStore, GapStore and InquiryStore; by its bases Placements, CommandQueue, ErpControl,
    Cutovers, DeadLetters, Audit, Ledgers, Reports and Changes.
    """

    def __init__(
        self,
        url: str,
        *,
        tuning: Tuning | None = None,
        erp_of: Callable[[str], str] = _one_erp,
    ) -> None:
        """*erp_of* routes a company to its ERP instance."""
        super().__init__(url, tuning)
        self._prepared: dict[str, ManyRows] = {}
        self._numbered: set[str] = set()
        """Sources whose row is known to be there."""
        self._erp_of = erp_of

    # --- twins

    async def load(self, refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        def read(connection: Connection) -> dict[TwinRef, Stored]:
            found: dict[TwinRef, Stored] = {}
            for chunk in chunks(list(refs)):
                found |= _load(connection, chunk, whole)
            return found

        async with translated():
            return await finished(self._reading, read)

    async def known(self, told: Collection[Event]) -> set[TwinRef]:
        wanted = {(str(one.subject), one.source, one.id) for one in told}
        async with translated():
            found = await finished(self._reading, lambda connection: _known(connection, wanted))
        for chunk in chunks(list({name for name, _, _ in wanted})):
            for row in await self._archived(chunk):
                if (row["twin"], row["source"], row["id"]) in wanted:
                    found.add(row["twin"])
        return set(map(twin_ref, found))

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        numbered = {event.source for event, _ in effects.events if event.sequence is not None}
        strange = numbered - self._numbered

        def write(connection: Connection) -> None:
            touched = chain(effects.touched, (one.target for one in delivered))
            assert_placed(connection, host, epoch, placement, touched)
            if strange:
                values = [{"source": name} for name in sorted(strange)]
                connection.execute(self._insert(sources).on_conflict_do_nothing(), values)
            self._write(connection, effects, delivered)

        async with translated():
            await finished(self._committing, write)
        self._numbered |= numbered

    def _write(self, connection: Connection, effects: Effects, delivered: Sequence[Contribution]) -> None:
        now = now_text()
        records, told = self._record_rows(effects, now), self._command_rows(effects, now)
        address(connection, records, told)
        sent, taken = sorted(effects.mail.values(), key=_place), sorted(delivered, key=_place)
        if sent and taken and connection.dialect.name != "sqlite":
            _lock(connection, sent + taken)
        for write, values in self._written(effects, records, told, sent, now):
            if values:
                write(connection, values)
        if taken:
            connection.execute(_TAKEN, [_letter(one) for one in taken])
        dropped = [str(ref) for ref, checkpoint in effects.checkpoints.items() if checkpoint is None]
        if dropped:
            connection.execute(delete(checkpoints).where(checkpoints.c.twin.in_(dropped)))

    @cached_property
    def _committing(self) -> Beside:
        return beside(self._url, self._tuning, writes=True)

    @cached_property
    def _reading(self) -> Beside:
        return beside(self._url, self._tuning, writes=False)

    async def close(self) -> None:
        for name in ("_committing", "_reading"):
            if name in vars(self):
                await asyncio.to_thread(getattr(self, name).close)
        await super().close()

    def _record_rows(self, effects: Effects, now: str) -> list[rows.Row]:
        return [
            rows.posting_row(owner, record, self._erp(record.posting), now)
            for owner, record in _latest(effects.records)
        ]

    def _command_rows(self, effects: Effects, now: str) -> list[rows.Row]:
        return [
            rows.command_row(owner, command, self._erp(command.posting), now)
            for owner, command in effects.commands
        ]

    def _written(
        self,
        effects: Effects,
        records: list[rows.Row],
        told: list[rows.Row],
        sent: list[Contribution],
        now: str,
    ) -> list[tuple[ManyRows, list[rows.Row]]]:
        many = self._many
        touched = [rows.twin_row(one, now) for one in effects.touched.values()]
        return [
            (many(events), [rows.event_row(event, arrival, now) for event, arrival in effects.events]),
            (
                many(registers, "target", "source"),
                [rows.register_row(one) for one in effects.registers.values()],
            ),
            (
                many(checkpoints, "twin"),
                [
                    rows.checkpoint_row(ref, one)
                    for ref, one in effects.checkpoints.items()
                    if one is not None
                ],
            ),
            *self._touched(touched),
            (many(changes), [rows.change_row(touched, now)] if touched else []),
            (many(postings, "key", "version"), records),
            (many(commands), told),
            (
                many(mail, "target", "source"),
                [rows.register_row(one) for one in sent],
            ),
        ]

    def _touched(self, changed: list[rows.Row]) -> list[tuple[ManyRows, list[rows.Row]]]:
        written = [(self._many(twins, "twin"), changed)]
        return [*written, (_MOVED, changed)] if self._writer.dialect.name == "sqlite" else written

    async def mail(self, limit: int, after: Contribution | None = None) -> list[Contribution]:
        wanted = select(mail).order_by(mail.c.target, mail.c.source).limit(limit)
        if after is not None:
            wanted = wanted.where(tuple_(mail.c.target, mail.c.source) > _place(after))
        return [rows.read_register(row) for row in await self._rows(wanted)]

    async def history(self, ref: TwinRef, *, after: int = 0, limit: int | None = None) -> list[Told]:
        live = select(events).where(events.c.twin == str(ref), events.c.number > after)
        found = [row for row in await self._archived([str(ref)]) if row["number"] > after]
        found += await self._rows(live.order_by(events.c.number).limit(limit))
        found.sort(key=itemgetter("number"))
        return [rows.read_told(row) for row in found[:limit]]

    async def told(self, refs: Collection[TwinRef]) -> list[Told]:
        found: list[Told] = []
        for chunk in chunks([str(ref) for ref in refs]):
            async with translated(), self._reader.connect() as connection:
                found += map(rows.read_told, await connection.run_sync(archive.told_of, chunk))
        return sorted(found, key=attrgetter("number"))

    async def told_count(self, refs: Collection[TwinRef]) -> int:
        total = 0
        for chunk in chunks([str(ref) for ref in refs]):
            live = select(func.count()).where(events.c.twin.in_(chunk)).scalar_subquery()
            archived = select(archive.archived_count()).where(archive_table.c.twin.in_(chunk))
            (row,) = await self._rows(
                select((live + func.coalesce(archived.scalar_subquery(), 0)).label("many"))
            )
            total += row["many"]
        return total

    async def told_last(self, ref: TwinRef, limit: int) -> list[Told]:
        order = (events.c.time.desc(), events.c.number.desc())
        wanted = select(events).where(events.c.twin == str(ref)).order_by(*order).limit(limit)
        found = [*await self._rows(wanted), *await self._archived([str(ref)])]
        found.sort(key=itemgetter("time", "number"))
        return [rows.read_told(row) for row in found[-limit:]]

    async def neighbours(self, refs: Collection[TwinRef]) -> set[TwinRef]:
        found: set[TwinRef] = set()
        for chunk in chunks([str(ref) for ref in refs]):
            wanted = select(registers.c.source).where(registers.c.target.in_(chunk)).distinct()
            found |= {twin_ref(row["source"]) for row in await self._rows(wanted)}
        return found

    async def rows(self, wanted: TwinFilter, limit: int) -> list[TwinRow]:
        asked = listed(wanted, limit, self._reader.dialect.name)
        return [rows.read_twin_row(row) for row in await self._rows(asked)]

    async def counts(self) -> dict[tuple[str, str], int]:
        """(kind, status) → how many twins."""
        counted = select(twins.c.kind, twins.c.status, func.count().label("many"))
        statement = counted.where(twins.c.status != rows.UNHEARD_OF).group_by(twins.c.kind, twins.c.status)
        return {(row["kind"], row["status"]): row["many"] for row in await self._rows(statement)}

    async def live_postings(self) -> dict[PostingKey, Record]:
        """The current version of each key that the ERP holds, or will once it has answered."""
        statement = select(postings).order_by(postings.c.key, postings.c.version)
        current = {record.key: record for record in map(rows.read_record, await self._rows(statement))}
        live = (Status.QUEUED, Status.CONFIRMED)
        return {key: record for key, record in current.items() if record.status in live}

    async def arrivals(self) -> dict[str, int]:
        """How each stored event arrived → how many."""
        async with translated(), self._reader.connect() as connection:
            return await archive.arrivals(connection)

    async def due(self, now: datetime, limit: int) -> list[TwinRow]:
        statement = select(twins).where(twins.c.due_at <= rows.moment_text(now)).limit(limit)
        return [rows.read_twin_row(row) for row in await self._rows(statement)]

    async def raised(self, refs: Sequence[TwinRef], now: datetime) -> None:
        """Between commits, never beside one, which might have locked some of these twins in another order."""
        until = rows.moment_text(now)
        for chunk in chunks([str(ref) for ref in refs], RAISED_AT_ONCE):
            raised = update(twins).where(twins.c.twin.in_(chunk), twins.c.due_at <= until).values(due_at=None)
            async with translated():
                await finished(self._committing, partial(Connection.execute, statement=raised))

    # --- archive

    async def closed(self, before: datetime, after: Closed | None, limit: int) -> list[Closed]:
        place = tuple_(twins.c.closed_at, twins.c.twin)
        wanted = select(twins.c.twin, twins.c.closed_at).where(
            twins.c.closed_at < rows.moment_text(before),
            ~exists().where(mail.c.target == twins.c.twin),
            twins.c.twin.not_in(select(mail.c.source)),
        )
        if after is not None:
            wanted = wanted.where(place > (rows.moment_text(after.since), str(after.ref)))
        wanted = wanted.order_by(twins.c.closed_at, twins.c.twin).limit(limit)
        return [
            Closed(twin_ref(row["twin"]), datetime.fromisoformat(row["closed_at"]))
            for row in await self._rows(wanted)
        ]

    async def archive(
        self, host: str, epoch: int, refs: Collection[TwinRef], placement: Placement = UNPLACED
    ) -> Archived:
        total = Archived(0, 0, 0)
        async with translated(), self._writer.begin() as connection:
            await connection.run_sync(assert_placed, host, epoch, placement, refs)
            for chunk in chunks([str(ref) for ref in refs]):
                moved, told = await archive.move(connection, chunk, self._upsert(archive_table, "twin"))
                await numbers.keep_numbers(connection, told, self._insert(archived_numbers))
                total += moved
        return total

    async def _archived(self, names: Collection[str]) -> list[dict[str, Any]]:
        async with translated(), self._reader.connect() as connection:
            return await connection.run_sync(archive.archived_of, list(names))

    # --- gaps

    async def find_gaps(self) -> list[Gap]:
        found: list[Gap] = []
        widened: list[tuple[numbers.Whole | None, numbers.Whole]] = []
        async with translated(), self._reader.connect() as connection:
            for source, was in (await numbers.known_whole(connection)).items():
                gaps_, whole = await numbers.look(connection, source, was)
                found += gaps_
                if whole is not None and whole != was:
                    widened.append((was, whole))
        if widened:  # what was whole stays whole: it may be noted later than it was seen
            async with translated(), self._writer.begin() as connection:
                for was, whole in widened:
                    await numbers.widen(connection, was, whole)
        return found

    async def watches(self) -> list[Watch]:
        rows_ = await self._rows(select(gaps).order_by(gaps.c.source, gaps.c.first))
        return [rows.read_watch(row) for row in rows_]

    async def watch(self, kept: Sequence[Watch], closed: Sequence[Watch]) -> None:
        async with translated(), self._writer.begin() as connection:
            if kept:
                statement = self._upsert(gaps, "source", "first", "last")
                await connection.execute(statement, [rows.watch_row(watch) for watch in kept])
            for watch in closed:
                place = tuple_(gaps.c.source, gaps.c.first, gaps.c.last)
                await connection.execute(delete(gaps).where(place == watch.gap.place))

    # --- statements

    def _many(self, table: Table, *key: str) -> ManyRows:
        """Insert rows, or with a *key* replace those that are there."""
        if table.name not in self._prepared:
            statement = self._upsert(table, *key) if key else table.insert()
            self._prepared[table.name] = _compiled(statement, table, self._writer.dialect)
        return self._prepared[table.name]

    def _upsert(self, table: Table, *key: str) -> Any:
        statement = self._insert(table)
        changes = {
            column.name: statement.excluded[column.name]
            for column in table.c
            if column.name not in key and column is not postings.c.erp  # a document stays where it is
        }
        if table is twins and self._writer.dialect.name == "sqlite":
            changes = {name: change for name, change in changes.items() if name not in INDEXED}
        newer = statement.excluded.version > table.c.version if table in (registers, mail) else None
        return statement.on_conflict_do_update(index_elements=list(key), set_=changes, where=newer)

    def _erp(self, posting: Posting) -> str:
        return self._erp_of(posting.company)


class ManyRows:
    """A statement for rows of a table, compiled once: naming each parameter is a fifth of a commit.

    SQLite is given many rows a statement, which it then works on beside other threads: with a statement a row
    it asks for the interpreter's lock once a row. PostgreSQL is given a column a parameter, and so one
    statement for any number of rows: with one a row, its server and its driver take three times as long.
    """

    def __init__(self, sql: str, columns: Sequence[str], dialect: str) -> None:
        """*columns*: what the statement takes for a row, in its order."""
        self._values = itemgetter(*columns)
        self._is_by_column = dialect != "sqlite"
        self._sql = _by_column(sql) if self._is_by_column else sql
        self._many: dict[int, str] = {}
        if not self._is_by_column:
            row = f"({', '.join('?' * len(columns))})"
            self._many = {size: sql.replace(row, ", ".join([row] * size), 1) for size in ROWS_AT_ONCE}

    def __call__(self, connection: Connection, values: Sequence[rows.Row]) -> None:
        left = list(map(self._values, values))
        if self._is_by_column:
            connection.exec_driver_sql(self._sql, tuple(map(list, zip(*left, strict=True))))
            return
        for size, sql in self._many.items():
            while len(left) >= size:
                connection.exec_driver_sql(sql, tuple(chain.from_iterable(left[:size])))
                del left[:size]
        if left:
            connection.exec_driver_sql(self._sql, left)


def _by_column(sql: str) -> str:
    """``VALUES ($1::VARCHAR, …)`` of one row as a selection from arrays."""
    head, values, tail = _VALUES.split(sql, maxsplit=1)
    arrays = _PARAMETER.sub(r"\g<0>[]", values)
    return f"{head}SELECT * FROM unnest({arrays}){tail}"


_VALUES = re.compile(r"VALUES \((\$1::[^)]*)\)")
_PARAMETER = re.compile(r"\$\d+::\w+")


def _compiled(statement: Any, table: Table, dialect: Dialect) -> ManyRows:
    names = [column.name for column in table.c if column.autoincrement is not True]
    compiled = statement.inline().compile(dialect=dialect, column_keys=names)
    return ManyRows(str(compiled), compiled.positiontup, dialect.name)


INDEXED = ("status", "due_at", "closed_at", "customer_id", "sku", "location", "findings")
_TOLD = ", ".join(f"column{place}" for place in range(2, len(INDEXED) + 2))
_MOVED = ManyRows(
    f"UPDATE twins SET ({', '.join(INDEXED)}) = ({_TOLD}) FROM (VALUES (?, {', '.join('?' * len(INDEXED))}))"
    f" WHERE twin = column1 AND ({', '.join(INDEXED)}) IS NOT ({_TOLD})",
    ("twin", *INDEXED),
    "sqlite",
)
"""SQLite writes an index anew for each column that a statement names, whether it changes or not."""


def listed(wanted: TwinFilter, limit: int, dialect: str) -> Select[Any]:
    """A page, as a range of one index in the order of twins: PostgreSQL knows which, SQLite is told."""
    prefix = f"{wanted.kind.value}/"
    found = select(twins).where(
        twins.c.twin > max(wanted.after or prefix, prefix),
        twins.c.twin < f"{wanted.kind.value}{chr(ord('/') + 1)}",
    )
    ways = [name for name in _WAYS if getattr(wanted, name) is not None]
    for name in ways:
        hidden = dialect == "sqlite" and name != ways[0]
        column: Any = literal_column(f"+twins.{_WAYS[name]}") if hidden else twins.c[_WAYS[name]]
        if name == "finding":
            found = found.where(column.is_not(None))
        else:
            found = found.where(column == getattr(wanted, name))
    if wanted.finding:
        found = found.where(twins.c.findings.contains(f",{wanted.finding},", autoescape=True))
    if dialect != "sqlite" or ways == ["status"]:
        found = found.where(twins.c.kind == wanted.kind.value)
    shown = found.where(twins.c.status != rows.UNHEARD_OF)
    return shown.order_by(twins.c.twin).limit(limit)


_WAYS = {
    "sku": "sku",
    "customer_id": "customer_id",
    "finding": "findings",
    "status": "status",
    "location": "location",
}
"""What lists are filtered by → its column: those first that leave the fewest."""


def _load(connection: Connection, refs: Sequence[TwinRef], whole: bool) -> dict[TwinRef, Stored]:
    names = [str(ref) for ref in refs]
    versions = {row.twin: row.version for row in named(connection, twins, names, "twin", "version")}
    known = list(versions)
    kept, void = _checkpoints(connection, known)
    partly = set() if whole else kept.keys()
    told = _events(connection, [name for name in known if name not in partly])
    for name in partly:
        told[name] = _events_after(connection, name, kept[name])
    words: dict[str, list[Contribution]] = {}
    records: dict[str, list[Record]] = {}
    for register in named(connection, registers, known, by="target"):
        words.setdefault(register.target, []).append(rows.read_register(register._mapping))
    for record in named(connection, postings, known):
        records.setdefault(record.twin, []).append(rows.read_record(record._mapping))
    return {
        ref: Stored(
            versions.get(name, 0),
            tuple(told.get(name, ())),
            tuple(words.get(name, ())),
            tuple(records.get(name, ())),
            kept.get(name),
            name not in partly,
            name in void,
        )
        for ref, name in zip(refs, names, strict=True)
    }


def _known(connection: Connection, wanted: Collection[tuple[str, str, str]]) -> set[str]:
    """Twins that have events of these names: (twin, source, id) each."""
    condition, told = among(connection, (events.c.twin, events.c.source, events.c.id), wanted)
    return set(connection.execute(select(events.c.twin).where(condition).distinct(), told).scalars())


def _checkpoints(connection: Connection, names: Sequence[str]) -> tuple[dict[str, Checkpoint[Any]], set[str]]:
    """Those that this very code has made, and the names of those that other code has."""
    found = named(connection, checkpoints, names)
    kept = {row.twin: loaded(row.body) for row in found if row.code == code()}
    return kept, {row.twin for row in found} - kept.keys()


def _events(connection: Connection, names: Sequence[str]) -> dict[str, list[Event]]:
    told: dict[str, list[Event]] = {}
    for row in archive.told_of(connection, names, *rows.OF_AN_EVENT):
        told.setdefault(row["twin"], []).append(rows.read_event(row))
    return told


def _events_after(connection: Connection, name: str, checkpoint: Checkpoint[Any]) -> list[Event]:
    """What the checkpoint does not stand for, and all replies."""
    since = rows.moment_text(checkpoint.at.effective_time)
    is_reply = events.c.type.startswith("io.twinsync.erp.")
    wanted = select(events).where(events.c.twin == name, or_(events.c.time >= since, is_reply))
    found = map(rows.read_event, connection.execute(wanted).mappings())
    return [one for one in found if isinstance(one.fact, REPLIES) or checkpoint.precedes(one)]


_TAKEN = delete(mail).where(
    mail.c.target == bindparam("taken_target"),
    mail.c.source == bindparam("taken_source"),
    mail.c.version <= bindparam("taken_version"),
)
"""Take a letter out of the mail, unless a newer one has replaced it."""


def _letter(contribution: Contribution) -> dict[str, object]:
    target, source = _place(contribution)
    return {"taken_target": target, "taken_source": source, "taken_version": contribution.version}


def _place(letter: Contribution) -> tuple[str, str]:
    """Hosts write to each other, and take from each other's mail: all do both in the order of places, so that
    none waits for one that waits for it.
    """
    return str(letter.target), str(letter.source)


def _lock(connection: Connection, letters: Iterable[Contribution]) -> None:
    """Those that are there, in the same order, for who is to write some and take others."""
    condition, told = among(connection, (mail.c.target, mail.c.source), {*map(_place, letters)})
    there = select(mail.c.version).where(condition)
    order = (column.collate("C") for column in (mail.c.target, mail.c.source))
    connection.execute(there.order_by(*order).with_for_update(), told)


def _latest(changed: Iterable[tuple[TwinRef, Record]]) -> list[tuple[TwinRef, Record]]:
    """The last word on each version of each key."""
    return list({(record.key, record.version): (owner, record) for owner, record in changed}.values())
