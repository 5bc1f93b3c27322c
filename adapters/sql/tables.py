"""Tables of the store. Events are rows and never change; everything else can be derived or is a queue.

Twins are named by their text form ``kind/key``; moments are ISO 8601 text in UTC with microseconds,
which sorts.

A batch changes as many pages of each tree as it has twins, so trees are few (decision 0026).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
# SQLite numbers rows by itself only for the type INTEGER; PostgreSQL wants the wider one.
_Number = BigInteger().with_variant(Integer, "sqlite")
_ROOM = {"fillfactor": 80}
"""PostgreSQL: room on each page for the next version of a row, which then needs no new entry in an index."""

hosts = Table(
    "hosts",
    metadata,
    Column("host", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("claimed_at", String, nullable=False),
    Column("placement", BigInteger, nullable=False, server_default="0"),
)
"""*placement*: the version that holds, in each row: whoever changes it waits for the commits under way."""

placement = Table(
    "placement",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("settings", Text, nullable=False),
)
"""One row. *settings*: those that it was last made from."""

events = Table(
    "events",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("twin", String, nullable=False),
    Column("source", String, nullable=False),
    Column("id", String, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("type", String, nullable=False),
    Column("time", String, nullable=False),
    Column("sequence", BigInteger),
    Column("data", Text, nullable=False),
    Column("context", Text),
    Column("arrival", String, nullable=False),
    Column("recorded_at", String, nullable=False),
    UniqueConstraint("twin", "source", "id", "digest"),
)
_numbered = events.c.sequence.is_not(None)
Index(
    "events_by_number",
    events.c.source,
    events.c.sequence,
    sqlite_where=_numbered,
    postgresql_where=_numbered,
)

sources = Table(
    "sources",
    metadata,
    Column("source", String, primary_key=True),
    Column("start", BigInteger),
    Column("through", BigInteger),
    Column("since", String),
)
"""Sources that number what they tell: from *start*, which happened *since*, to *through* nothing lacks."""

gaps = Table(
    "gaps",
    metadata,
    Column("source", String, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),
    Column("since", String, nullable=False),
    Column("noticed_at", String, nullable=False),
    Column("asked_at", String),
    Column("times", Integer, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("twin", String, primary_key=True),
    Column("code", String, nullable=False),
    Column("time", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("committed_at", String, nullable=False),
    Column("twins", Text, nullable=False),
)
"""A row a commit, for a while: what it made of twins."""

announced = Table(
    "announced",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)
"""One row, once a broker has heard of changes: up to which commit."""

registers = Table(
    "registers",
    metadata,
    Column("target", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("value", Text),
    sqlite_with_rowid=False,
    postgresql_with=_ROOM,
)

twins = Table(
    "twins",
    metadata,
    Column("twin", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("customer_id", String),
    Column("sku", String),
    Column("location", String),
    Column("findings", Text),
    Column("due_at", String),
    Column("changed_at", String, nullable=False),
    Column("closed_at", String),
    Index("twins_by_status", "kind", "status", "twin"),
    sqlite_with_rowid=False,
    postgresql_with=_ROOM,
)
"""*closed_at*: of a closed twin whose events are not archived, or not all, when it changed last."""


def _where_there(name: str, there: Column[Any], *columns: Column[Any]) -> None:
    """An index of the rows that have something *there*."""
    condition = there.is_not(None)
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


_where_there("twins_by_due", twins.c.due_at, twins.c.due_at)
_where_there("twins_by_closing", twins.c.closed_at, twins.c.closed_at, twins.c.twin)
_where_there("twins_by_customer", twins.c.customer_id, twins.c.customer_id, twins.c.twin)
_where_there("twins_by_sku", twins.c.sku, twins.c.sku, twins.c.twin)
_where_there("twins_by_location", twins.c.location, twins.c.location, twins.c.twin)
_where_there("twins_with_findings", twins.c.findings, twins.c.twin)

postings = Table(
    "postings",
    metadata,
    Column("key", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("twin", String, nullable=False, index=True),
    Column("erp", String, nullable=False),
    Column("command", String, nullable=False),
    Column("status", String, nullable=False),
    Column("posting", Text, nullable=False),
    Column("document", String),
    Column("reversal", String),
    Column("reason", Text),
    Column("changed_at", String, nullable=False),
    Column("again", Integer, nullable=False, server_default="0"),
)
_refused = postings.c.reason.is_not(None)
Index(
    "postings_refused",
    postings.c.key,
    postings.c.version,
    sqlite_where=_refused,
    postgresql_where=_refused,
)


def _command_columns() -> tuple[Column[Any], ...]:
    return (
        Column("number", _Number, primary_key=True, autoincrement=True),
        Column("erp", String, nullable=False),
        Column("twin", String, nullable=False),
        Column("key", String, nullable=False),
        Column("version", Integer, nullable=False),
        Column("action", String, nullable=False),
        Column("posting", Text, nullable=False),
        Column("sent", SmallInteger, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("queued_at", String, nullable=False),
        Column("again", Integer, nullable=False, server_default="0"),
        Column("priority", SmallInteger, nullable=False, server_default="1"),
        Column("trouble", Text),
    )


commands = Table(
    "commands",
    metadata,
    *_command_columns(),
    Index("commands_by_erp", "erp", "number"),
    Index("commands_by_priority", "erp", "priority", "number"),
    sqlite_autoincrement=True,
)

mail = Table(
    "mail",
    metadata,
    Column("target", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("value", Text),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("state", String, nullable=False),
    Column("fault", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("field", String, nullable=False),
    Column("source", String),
    Column("type", String),
    Column("subject", String),
    Column("sequence", BigInteger),
    Column("size_bytes", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("first_seen", String, nullable=False),
    Column("last_seen", String, nullable=False),
    Column("closed_at", String),
    Column("closed_by", String),
    Column("why", Text),
    Column("replaces", BigInteger),
    Column("replaced_by", BigInteger),
    Column("content_type", String),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("dead_letters_by_state", "state", "first_seen"),
)
"""The body is the last column: SQLite reads through it to whatever comes after it."""

audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("at", String, nullable=False),
    Column("by", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False, index=True),
    Column("detail", Text, nullable=False),
)

archive = Table(
    "archive",
    metadata,
    Column("twin", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("told_new", Integer, nullable=False),
    Column("told_late", Integer, nullable=False),
    Column("told_conflict", Integer, nullable=False),
)
"""Events of closed twins, which are not in *events* any more."""

archived_numbers = Table(
    "archived_numbers",
    metadata,
    Column("source", String, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", String, primary_key=True),
)
"""Numbers of archived events, where not all around them have been told yet."""

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", String, primary_key=True),
    Column("started_at", String, nullable=False, index=True),
    Column("body", Text, nullable=False),
)

accepted_balances = Table(
    "accepted_balances",
    metadata,
    Column("erp", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("amount", String, nullable=False),
)
"""What accounts of an ERP hold beside our documents, and rightly so."""

pauses = Table(
    "pauses",
    metadata,
    Column("erp", String, primary_key=True),
    Column("since", String, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", Text, nullable=False),
)
"""ERP instances that are told nothing until somebody resumes them."""

cutovers = Table(
    "cutovers",
    metadata,
    Column("erp", String, primary_key=True),
    Column("of", String, nullable=False),
    Column("state", String, nullable=False),
    Column("since", String, nullable=False),
    Column("promoted_at", String),
)
"""ERP instances that are, or were, in shadow *of* another: ``shadow``, ``promoted`` or ``abandoned``."""

shadow_postings = Table(
    "shadow_postings",
    metadata,
    Column("erp", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("twin", String, nullable=False),
    Column("command", String, nullable=False),
    Column("status", String, nullable=False),
    Column("posting", Text, nullable=False),
    Column("document", String),
    Column("reversal", String),
    Column("reason", Text),
    Column("changed_at", String, nullable=False),
    Column("again", Integer, nullable=False, server_default="0"),
)
"""Ledgers of the shadows: what each was told, and what it said to that."""

shadow_commands = Table(
    "shadow_commands",
    metadata,
    *_command_columns(),
    Index("shadow_commands_by_erp", "erp", "number"),
    Index("shadow_commands_by_priority", "erp", "priority", "number"),
    sqlite_autoincrement=True,
)
"""A promotion takes commands away while the gateway tells them: no number may ever come again."""
