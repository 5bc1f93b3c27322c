"""Twins in a relational database: one transaction a batch, fenced by the host's epoch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Dialect, Table, delete, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql import rows
from adapters.sql.checkpoints import code, loaded
from adapters.sql.database import now_text, translated
from adapters.sql.letters import LetterRows
from adapters.sql.tables import (
    checkpoints,
    commands,
    events,
    gaps,
    hosts,
    mail,
    postings,
    registers,
    sources,
    twins,
)
from canonical.envelope import Event
from canonical.errors import Fenced
from canonical.identity import PostingKey, TwinRef, twin_ref
from canonical.postings import Posting
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.dispatch import QueuedCommand
from twins.core.gaps import Gap, Watch
from twins.core.history import Checkpoint
from twins.core.ledger import Record, Status
from twins.core.twin import REPLIES, Stored
from twins.ports import Told, TwinFilter, TwinRow

T = TypeVar("T")

PARAMETERS_MAX = 500
"""Members of one IN list; SQLite takes 32,766 parameters, but long lists plan slowly."""

GAPS_MAX = 1_000
"""Of one source, at one look."""


def _one_erp(company: str) -> str:
    return "main"


class SqlStore(LetterRows):
    """Implements TwinStore, GapStore, InquiryStore, CommandQueue, DeadLetters and Audit."""

    def __init__(
        self,
        url: str,
        *,
        erp_of: Callable[[str], str] = _one_erp,
        host_of: Callable[[TwinRef], str] | None = None,
    ) -> None:
        """*erp_of* routes a company to its ERP instance; *host_of* names the host that owns a twin."""
        super().__init__(url)
        self._prepared: dict[str, ManyRows] = {}
        self._numbered: set[str] = set()
        """Sources whose row is known to be there."""
        self._erp_of = erp_of
        self._host_of = host_of

    # --- twins

    async def claim(self, host: str) -> int:
        statement = self._insert(hosts).values(host=host, epoch=1, claimed_at=now_text())
        statement = statement.on_conflict_do_update(
            index_elements=["host"],
            set_={"epoch": hosts.c.epoch + 1, "claimed_at": statement.excluded.claimed_at},
        ).returning(hosts.c.epoch)
        async with translated(), self._writer.begin() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def load(self, refs: Collection[TwinRef], *, whole: bool = False) -> dict[TwinRef, Stored]:
        found: dict[TwinRef, Stored] = {}
        async with translated(), self._reader.connect() as connection:
            for chunk in _chunks(list(refs)):
                found |= await _load(connection, chunk, whole)
        return found

    async def known(self, told: Collection[Event]) -> set[TwinRef]:
        found: set[TwinRef] = set()
        for chunk in _chunks([(str(one.subject), one.source, one.id) for one in told]):
            named = tuple_(events.c.twin, events.c.source, events.c.id)
            for row in await self._rows(select(events.c.twin).where(named.in_(chunk)).distinct()):
                found.add(twin_ref(row["twin"]))
        return found

    async def commit(
        self, host: str, epoch: int, effects: Effects, delivered: Sequence[Contribution] = ()
    ) -> None:
        written = self._written(effects)
        numbered = {event.source for event, _ in effects.events if event.sequence is not None}
        async with translated(), self._writer.begin() as connection:
            await _assert_epoch(connection, host, epoch)
            if strange := numbered - self._numbered:
                await connection.execute(
                    self._insert(sources).on_conflict_do_nothing(),
                    [{"source": name} for name in sorted(strange)],
                )
            for write, values in written:
                if values:
                    await write(connection, values)
            for contribution in delivered:
                await connection.execute(_taken(contribution))
            dropped = [str(ref) for ref, checkpoint in effects.checkpoints.items() if checkpoint is None]
            if dropped:
                await connection.execute(delete(checkpoints).where(checkpoints.c.twin.in_(dropped)))
        self._numbered |= numbered

    def _written(self, effects: Effects) -> list[tuple[ManyRows, list[rows.Row]]]:
        now, many = now_text(), self._many
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
            (
                many(twins, "twin"),
                [rows.twin_row(one, now) for one in effects.touched.values()],
            ),
            (
                many(postings, "key", "version"),
                [
                    rows.posting_row(owner, record, self._erp(record.posting), now)
                    for owner, record in _latest(effects.records)
                ],
            ),
            (
                many(commands),
                [
                    rows.command_row(owner, command, self._erp(command.posting), now)
                    for owner, command in effects.commands
                ],
            ),
            (
                many(mail, "target", "source"),
                [
                    rows.register_row(one) | {"host": self._host_of(one.target) if self._host_of else ""}
                    for one in effects.mail.values()
                ],
            ),
        ]

    async def mail(self, limit: int) -> list[Contribution]:
        return [rows.read_register(row) for row in await self._rows(select(mail).limit(limit))]

    async def history(self, ref: TwinRef) -> list[Told]:
        statement = select(events).where(events.c.twin == str(ref)).order_by(events.c.number)
        return [rows.read_told(row) for row in await self._rows(statement)]

    async def told(self, refs: Collection[TwinRef]) -> list[Told]:
        found: list[tuple[int, Told]] = []
        for chunk in _chunks([str(ref) for ref in refs]):
            some = await self._rows(select(events).where(events.c.twin.in_(chunk)))
            found += [(row["number"], rows.read_told(row)) for row in some]
        return [one for _, one in sorted(found, key=itemgetter(0))]

    async def told_count(self, refs: Collection[TwinRef]) -> int:
        total = 0
        for chunk in _chunks([str(ref) for ref in refs]):
            (row,) = await self._rows(select(func.count().label("many")).where(events.c.twin.in_(chunk)))
            total += row["many"]
        return total

    async def told_last(self, ref: TwinRef, limit: int) -> list[Told]:
        wanted = select(events).where(events.c.twin == str(ref)).order_by(events.c.time.desc()).limit(limit)
        return [rows.read_told(row) for row in reversed(await self._rows(wanted))]

    async def neighbours(self, refs: Collection[TwinRef]) -> set[TwinRef]:
        found: set[TwinRef] = set()
        for chunk in _chunks([str(ref) for ref in refs]):
            wanted = select(registers.c.source).where(registers.c.target.in_(chunk)).distinct()
            found |= {twin_ref(row["source"]) for row in await self._rows(wanted)}
        return found

    async def rows(self, wanted: TwinFilter, limit: int) -> list[TwinRow]:
        statement = select(twins).where(twins.c.kind == wanted.kind.value, twins.c.status != rows.UNHEARD_OF)
        for name in ("status", "customer_id", "sku", "location"):
            if (value := getattr(wanted, name)) is not None:
                statement = statement.where(twins.c[name] == value)
        if wanted.finding == "":
            statement = statement.where(twins.c.findings.is_not(None))
        elif wanted.finding is not None:
            statement = statement.where(twins.c.findings.contains(f",{wanted.finding},", autoescape=True))
        if wanted.after is not None:
            statement = statement.where(twins.c.twin > wanted.after)
        statement = statement.order_by(twins.c.twin).limit(limit)
        return [rows.read_twin_row(row) for row in await self._rows(statement)]

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
        statement = select(events.c.arrival, func.count().label("many")).group_by(events.c.arrival)
        return {row["arrival"]: row["many"] for row in await self._rows(statement)}

    async def due(self, now: datetime, limit: int) -> list[TwinRow]:
        statement = select(twins).where(twins.c.due_at <= rows.moment_text(now)).limit(limit)
        return [rows.read_twin_row(row) for row in await self._rows(statement)]

    async def raised(self, refs: Sequence[TwinRef], now: datetime) -> None:
        async with translated(), self._writer.begin() as connection:
            for chunk in _chunks([str(ref) for ref in refs]):
                await connection.execute(
                    update(twins)
                    .where(twins.c.twin.in_(chunk), twins.c.due_at <= rows.moment_text(now))
                    .values(due_at=None)
                )

    # --- gaps

    async def find_gaps(self) -> list[Gap]:
        found: list[Gap] = []
        whole: list[dict[str, Any]] = []
        async with translated(), self._reader.connect() as connection:
            for row in (await connection.execute(select(sources).order_by(sources.c.source))).all():
                gaps_, start, through = await _gaps_of(connection, row.source, row.start, row.through)
                found += gaps_
                if (start, through) != (row.start, row.through):
                    whole.append({"source": row.source, "start": start, "through": through})
        if whole:  # what was whole stays whole: it may be noted later than it was seen
            async with translated(), self._writer.begin() as connection:
                await connection.execute(self._upsert(sources, "source"), whole)
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

    # --- commands

    async def queued(self, erp: str, limit: int) -> list[QueuedCommand]:
        statement = select(commands).where(commands.c.erp == erp).order_by(commands.c.number).limit(limit)
        return [rows.read_command(row) for row in await self._rows(statement)]

    async def statuses(self, keys: Collection[PostingKey]) -> dict[tuple[PostingKey, int], Status]:
        found: dict[tuple[PostingKey, int], Status] = {}
        for chunk in _chunks(list(keys)):
            statement = select(postings.c.key, postings.c.version, postings.c.status).where(
                postings.c.key.in_(chunk)
            )
            for row in await self._rows(statement):
                found[PostingKey(row["key"]), row["version"]] = Status(row["status"])
        return found

    async def under(self, prefix: str) -> dict[tuple[PostingKey, int], Status]:
        # "0" is the character after "/": the range is all keys that begin with the prefix.
        statement = select(postings.c.key, postings.c.version, postings.c.status).where(
            postings.c.key >= prefix, postings.c.key < prefix[:-1] + "0"
        )
        return {
            (PostingKey(row["key"]), row["version"]): Status(row["status"])
            for row in await self._rows(statement)
        }

    async def sending(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        async with translated(), self._writer.begin() as connection:
            await _assert_epoch(connection, gateway, epoch)
            for chunk in _chunks(list(numbers)):
                await connection.execute(
                    update(commands)
                    .where(commands.c.number.in_(chunk))
                    .values(sent=1, attempts=commands.c.attempts + 1)
                )

    async def finished(self, gateway: str, epoch: int, numbers: Collection[int]) -> None:
        async with translated(), self._writer.begin() as connection:
            await _assert_epoch(connection, gateway, epoch)
            for chunk in _chunks(list(numbers)):
                await connection.execute(delete(commands).where(commands.c.number.in_(chunk)))

    # --- statements

    def _many(self, table: Table, *key: str) -> ManyRows:
        """Insert rows, or with a *key* replace those that are there."""
        if table.name not in self._prepared:
            statement = self._upsert(table, *key) if key else table.insert()
            self._prepared[table.name] = ManyRows(statement, table, self._writer.dialect)
        return self._prepared[table.name]

    def _upsert(self, table: Table, *key: str) -> Any:
        statement = self._insert(table)
        changes = {
            column.name: statement.excluded[column.name] for column in table.c if column.name not in key
        }
        newer = statement.excluded.version > table.c.version if table in (registers, mail) else None
        return statement.on_conflict_do_update(index_elements=list(key), set_=changes, where=newer)

    def _erp(self, posting: Posting) -> str:
        return self._erp_of(posting.company)


class ManyRows:
    """A statement for rows of a table, compiled once: naming each parameter is a fifth of a commit."""

    def __init__(self, statement: Any, table: Table, dialect: Dialect) -> None:
        names = [column.name for column in table.c if column.autoincrement is not True]
        compiled = statement.compile(dialect=dialect, column_keys=names)
        self._sql = str(compiled)
        self._values = itemgetter(*compiled.positiontup)

    async def __call__(self, connection: AsyncConnection, values: Sequence[rows.Row]) -> None:
        await connection.exec_driver_sql(self._sql, list(map(self._values, values)))


async def _assert_epoch(connection: AsyncConnection, host: str, epoch: int) -> None:
    """Lock the host's row, so that a newer incarnation waits until this transaction has ended."""
    held = update(hosts).where(hosts.c.host == host, hosts.c.epoch == epoch).values(epoch=epoch)
    if (await connection.execute(held)).rowcount != 1:
        raise Fenced(f"{host} lost epoch {epoch} to a newer incarnation")


async def _load(connection: AsyncConnection, refs: Sequence[TwinRef], whole: bool) -> dict[TwinRef, Stored]:
    names = [str(ref) for ref in refs]
    versions: dict[str, int] = {}
    for row in await connection.execute(select(twins.c.twin, twins.c.version).where(twins.c.twin.in_(names))):
        versions[row.twin] = row.version
    known = list(versions)
    kept, void = await _checkpoints(connection, known)
    partly = set() if whole else kept.keys()
    told = await _events(connection, [name for name in known if name not in partly])
    for name in partly:
        told[name] = await _events_after(connection, name, kept[name])
    words: dict[str, list[Contribution]] = {}
    records: dict[str, list[Record]] = {}
    if known:
        held = select(registers).where(registers.c.target.in_(known))
        for register in (await connection.execute(held)).mappings():
            words.setdefault(register["target"], []).append(rows.read_register(register))
        posted = select(postings).where(postings.c.twin.in_(known))
        for record in (await connection.execute(posted)).mappings():
            records.setdefault(record["twin"], []).append(rows.read_record(record))
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


async def _checkpoints(
    connection: AsyncConnection, names: Sequence[str]
) -> tuple[dict[str, Checkpoint[Any]], set[str]]:
    """Those that this very code has made, and the names of those that other code has."""
    if not names:
        return {}, set()
    found = (await connection.execute(select(checkpoints).where(checkpoints.c.twin.in_(names)))).all()
    kept = {row.twin: loaded(row.body) for row in found if row.code == code()}
    return kept, {row.twin for row in found} - kept.keys()


async def _events(connection: AsyncConnection, names: Sequence[str]) -> dict[str, list[Event]]:
    told: dict[str, list[Event]] = {}
    if names:
        wanted = select(events).where(events.c.twin.in_(names))
        for row in (await connection.execute(wanted)).mappings():
            told.setdefault(row["twin"], []).append(rows.read_event(row))
    return told


async def _events_after(connection: AsyncConnection, name: str, checkpoint: Checkpoint[Any]) -> list[Event]:
    """What the checkpoint does not stand for, and all replies."""
    since = rows.moment_text(checkpoint.at.effective_time)
    is_reply = events.c.type.startswith("io.twinsync.erp.")
    wanted = select(events).where(events.c.twin == name, or_(events.c.time >= since, is_reply))
    found = map(rows.read_event, (await connection.execute(wanted)).mappings())
    return [one for one in found if isinstance(one.fact, REPLIES) or checkpoint.precedes(one)]


async def _gaps_of(
    connection: AsyncConnection, source: str, start: int | None, through: int | None
) -> tuple[list[Gap], int | None, int | None]:
    """Look past what is known to be whole. Answers the gaps, and from where to where it is whole now."""
    own = (events.c.source == source, events.c.sequence.is_not(None))
    first = (await connection.execute(select(func.min(events.c.sequence)).where(*own))).scalar_one()
    if first is None:
        return [], start, through
    known = through if through is not None and start == first else first
    told = select(events.c.sequence.label("number"), func.min(events.c.time).label("time"))
    told = told.where(*own, events.c.sequence >= known).group_by(events.c.sequence)
    numbers = told.subquery()
    following = func.lead(numbers.c.number).over(order_by=numbers.c.number)
    shows = func.lead(numbers.c.time).over(order_by=numbers.c.number)
    steps = select(numbers.c.number, following.label("following"), shows.label("time")).subquery()
    wanted = select(steps).where(steps.c.following > steps.c.number + 1).order_by(steps.c.number)
    found = [
        Gap(source, row.number + 1, row.following - 1, datetime.fromisoformat(row.time))
        for row in await connection.execute(wanted.limit(GAPS_MAX))
    ]
    if found:
        return found, first, found[0].first - 1
    last = select(func.max(events.c.sequence)).where(*own)
    return found, first, (await connection.execute(last)).scalar_one()


def _taken(contribution: Contribution) -> Any:
    """Take a letter out of the mail, unless a newer one has replaced it."""
    return delete(mail).where(
        tuple_(mail.c.target, mail.c.source) == (str(contribution.target), str(contribution.source)),
        mail.c.version <= contribution.version,
    )


def _latest(changed: Iterable[tuple[TwinRef, Record]]) -> list[tuple[TwinRef, Record]]:
    """The last word on each version of each key."""
    return list({(record.key, record.version): (owner, record) for owner, record in changed}.values())


def _chunks(many: list[T]) -> Iterable[list[T]]:
    return (many[start : start + PARAMETERS_MAX] for start in range(0, len(many), PARAMETERS_MAX))
