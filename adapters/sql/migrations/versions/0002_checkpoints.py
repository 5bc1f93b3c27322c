"""Folds of long histories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("time", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("twin"),
    )
