"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commands",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("erp", sa.String(), nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("posting", sa.Text(), nullable=False),
        sa.Column("sent", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("commands_by_erp", "commands", ["erp", "number"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("first_seen", sa.String(), nullable=False),
        sa.Column("last_seen", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "events",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("time", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("arrival", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("twin", "source", "id", "digest"),
    )
    op.create_table(
        "hosts",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "mail",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("target", "source"),
    )
    op.create_index(op.f("ix_mail_host"), "mail", ["host"], unique=False)
    op.create_table(
        "postings",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("erp", sa.String(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("posting", sa.Text(), nullable=False),
        sa.Column("document", sa.String(), nullable=True),
        sa.Column("reversal", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", "version"),
    )
    op.create_index(op.f("ix_postings_twin"), "postings", ["twin"], unique=False)
    op.create_table(
        "registers",
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("target", "source"),
    )
    op.create_table(
        "twins",
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=True),
        sa.Column("sku", sa.String(), nullable=True),
        sa.Column("location", sa.String(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.Column("due_at", sa.String(), nullable=True),
        sa.Column("changed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("twin"),
    )
    op.create_index("twins_by_due", "twins", ["due_at"], unique=False)
    op.create_index("twins_by_status", "twins", ["kind", "status", "twin"], unique=False)


def downgrade() -> None:
    op.drop_index("twins_by_status", table_name="twins")
    op.drop_index("twins_by_due", table_name="twins")
    op.drop_table("twins")
    op.drop_table("registers")
    op.drop_index(op.f("ix_postings_twin"), table_name="postings")
    op.drop_table("postings")
    op.drop_index(op.f("ix_mail_host"), table_name="mail")
    op.drop_table("mail")
    op.drop_table("hosts")
    op.drop_table("events")
    op.drop_table("dead_letters")
    op.drop_index("commands_by_erp", table_name="commands")
    op.drop_table("commands")
