"""Where twins live, decided while they are running."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "placement",
        sa.Column("one", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
    )
    op.execute("INSERT INTO placement (one, version, body, settings) VALUES (1, 0, '{}', '')")
    op.add_column("hosts", sa.Column("placement", sa.BigInteger(), nullable=False, server_default="0"))
