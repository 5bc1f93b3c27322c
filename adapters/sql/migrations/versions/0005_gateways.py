"""Commands by priority, pauses, and refused postings that are sent again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

FIRST = ("credit-note", "return-receipt", "invoice", "goods-issue", "refund", "payment")
LAST = ("reserve", "stock-adjustment", "stock-count")
"""What their keys begin with."""


def upgrade() -> None:
    op.add_column("postings", sa.Column("again", sa.Integer(), nullable=False, server_default="0"))
    refused = sa.text("reason IS NOT NULL")
    op.create_index(
        "postings_refused", "postings", ["key", "version"], sqlite_where=refused, postgresql_where=refused
    )
    op.add_column("commands", sa.Column("again", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("commands", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="1"))
    op.add_column("commands", sa.Column("trouble", sa.Text()))
    for number, names in ((0, FIRST), (2, LAST)):
        for name in names:
            op.execute(f"UPDATE commands SET priority = {number} WHERE key LIKE '{name}/%'")
    op.create_index("commands_by_priority", "commands", ["erp", "priority", "number"])
    op.create_table(
        "pauses",
        sa.Column("erp", sa.String(), nullable=False),
        sa.Column("since", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("erp"),
    )
