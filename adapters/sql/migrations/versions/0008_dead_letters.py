"""What became of dead letters, and whose fault they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_KEPT = "number, digest, reason, field, seen, first_seen, last_seen, content_type, headers, body"


def upgrade() -> None:
    op.rename_table("dead_letters", "dead_letters_before")
    op.create_table(
        "dead_letters",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fault", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("source", sa.String()),
        sa.Column("type", sa.String()),
        sa.Column("subject", sa.String()),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("first_seen", sa.String(), nullable=False),
        sa.Column("last_seen", sa.String(), nullable=False),
        sa.Column("closed_at", sa.String()),
        sa.Column("closed_by", sa.String()),
        sa.Column("why", sa.Text()),
        sa.Column("replaces", sa.BigInteger()),
        sa.Column("replaced_by", sa.BigInteger()),
        sa.Column("content_type", sa.String()),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("digest", name="dead_letters_once"),
    )
    op.execute(
        f"INSERT INTO dead_letters (state, fault, size_bytes, {_KEPT}) "
        f"SELECT 'open', 'sender', length(body), {_KEPT} FROM dead_letters_before"
    )
    op.drop_table("dead_letters_before")
    op.create_index("dead_letters_by_state", "dead_letters", ["state", "first_seen"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('dead_letters', 'number'), max(number)) FROM dead_letters"
        )
