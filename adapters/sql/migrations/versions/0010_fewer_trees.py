"""Twins and registers live in the trees of their keys; only what has a deadline is among deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TWINS = (
    sa.Column("twin", sa.String(), primary_key=True),
    sa.Column("kind", sa.String(), nullable=False),
    sa.Column("status", sa.String(), nullable=False),
    sa.Column("version", sa.BigInteger(), nullable=False),
    sa.Column("customer_id", sa.String()),
    sa.Column("sku", sa.String()),
    sa.Column("location", sa.String()),
    sa.Column("findings", sa.Text()),
    sa.Column("due_at", sa.String()),
    sa.Column("changed_at", sa.String(), nullable=False),
    sa.Column("closed_at", sa.String()),
)
_REGISTERS = (
    sa.Column("target", sa.String(), primary_key=True),
    sa.Column("source", sa.String(), primary_key=True),
    sa.Column("version", sa.BigInteger(), nullable=False),
    sa.Column("value", sa.Text()),
)


def upgrade() -> None:
    op.drop_index("twins_by_due", "twins")
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("twins_by_status", "twins")
        op.drop_index("twins_by_closing", "twins")
        _cluster("twins", _TWINS)
        _cluster("registers", _REGISTERS)
        op.create_index("twins_by_status", "twins", ["kind", "status", "twin"])
        _create_partial("twins_by_closing", ["closed_at", "twin"], "closed_at IS NOT NULL")
    else:
        op.execute("ALTER TABLE twins SET (fillfactor = 80)")
        op.execute("ALTER TABLE registers SET (fillfactor = 80)")
    _create_partial("twins_by_due", ["due_at"], "due_at IS NOT NULL")


def _cluster(table: str, columns: Sequence[sa.Column[Any]]) -> None:
    """Move the rows into a table that is the tree of its key."""
    op.create_table(f"{table}_clustered", *columns, sqlite_with_rowid=False)
    names = ", ".join(column.name for column in columns)
    key = ", ".join(column.name for column in columns if column.primary_key)
    op.execute(f"INSERT INTO {table}_clustered ({names}) SELECT {names} FROM {table} ORDER BY {key}")
    op.drop_table(table)
    op.rename_table(f"{table}_clustered", table)


def _create_partial(index: str, columns: list[str], where: str) -> None:
    op.create_index(index, "twins", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
