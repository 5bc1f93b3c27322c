"""Twins and ledger compared with what others hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "reconciliations",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("ix_reconciliations_started_at", "reconciliations", ["started_at"])
    op.create_table(
        "accepted_balances",
        sa.Column("erp", sa.String(), primary_key=True),
        sa.Column("account", sa.String(), primary_key=True),
        sa.Column("amount", sa.String(), nullable=False),
    )
