"""Postings are found by the bytes of their keys; no command's number is given twice; mail names no host."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_COMMANDS = (
    sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("erp", sa.String(), nullable=False),
    sa.Column("twin", sa.String(), nullable=False),
    sa.Column("key", sa.String(), nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("action", sa.String(), nullable=False),
    sa.Column("posting", sa.Text(), nullable=False),
    sa.Column("sent", sa.SmallInteger(), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("queued_at", sa.String(), nullable=False),
    sa.Column("again", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="1"),
    sa.Column("trouble", sa.Text()),
)
_INDEXES = {
    "commands_by_erp": ["erp", "number"],
    "commands_by_priority": ["erp", "priority", "number"],
}


def upgrade() -> None:
    op.drop_index("ix_mail_host", "mail")
    op.drop_column("mail", "host")
    if op.get_bind().dialect.name == "sqlite":
        _number_commands_once()
    else:
        for table in ("postings", "shadow_postings", "commands", "shadow_commands"):
            op.execute(f'ALTER TABLE {table} ALTER COLUMN key TYPE varchar COLLATE "C"')


def _number_commands_once() -> None:
    """SQLite gives the highest number again once its row is gone, unless it is told not to."""
    for index in _INDEXES:
        op.drop_index(index, "commands")
    op.create_table("commands_anew", *_COMMANDS, sqlite_autoincrement=True)
    names = ", ".join(column.name for column in _COMMANDS)
    op.execute(f"INSERT INTO commands_anew ({names}) SELECT {names} FROM commands ORDER BY number")
    op.drop_table("commands")
    op.rename_table("commands_anew", "commands")
    for index, columns in _INDEXES.items():
        op.create_index(index, "commands", columns)
