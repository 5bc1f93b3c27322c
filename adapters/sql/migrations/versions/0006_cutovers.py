"""ERP instances in shadow of others, with queues and ledgers of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "cutovers",
        sa.Column("erp", sa.String(), nullable=False),
        sa.Column("of", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("since", sa.String(), nullable=False),
        sa.Column("promoted_at", sa.String()),
        sa.PrimaryKeyConstraint("erp"),
    )
    op.create_table(
        "shadow_postings",
        sa.Column("erp", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("posting", sa.Text(), nullable=False),
        sa.Column("document", sa.String()),
        sa.Column("reversal", sa.String()),
        sa.Column("reason", sa.Text()),
        sa.Column("changed_at", sa.String(), nullable=False),
        sa.Column("again", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("erp", "key", "version"),
    )
    op.create_table(
        "shadow_commands",
        sa.Column("number", _Number, autoincrement=True, nullable=False),
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
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("shadow_commands_by_erp", "shadow_commands", ["erp", "number"])
    op.create_index("shadow_commands_by_priority", "shadow_commands", ["erp", "priority", "number"])
