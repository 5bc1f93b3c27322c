"""Sources that number their events, and what is missing between the numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    numbered = sa.text("sequence IS NOT NULL")
    op.create_index(
        "events_by_number", "events", ["source", "sequence"], sqlite_where=numbered, postgresql_where=numbered
    )
    op.create_table(
        "sources",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("start", sa.BigInteger()),
        sa.Column("through", sa.BigInteger()),
        sa.PrimaryKeyConstraint("source"),
    )
    op.execute("INSERT INTO sources (source) SELECT DISTINCT source FROM events WHERE sequence IS NOT NULL")
    op.create_table(
        "gaps",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.String(), nullable=False),
        sa.Column("noticed_at", sa.String(), nullable=False),
        sa.Column("asked_at", sa.String()),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source", "first", "last"),
    )
