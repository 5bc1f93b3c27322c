"""A page of a list is a range of an index: by name, by label, or of those with a finding."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_INDEXES = {
    "twins_by_customer": ("customer_id", ["customer_id", "twin"]),
    "twins_by_sku": ("sku", ["sku", "twin"]),
    "twins_by_location": ("location", ["location", "twin"]),
    "twins_with_findings": ("findings", ["twin"]),
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute('ALTER TABLE twins ALTER COLUMN twin TYPE varchar COLLATE "C"')
    for index, (there, columns) in _INDEXES.items():
        where = sa.text(f"{there} IS NOT NULL")
        op.create_index(index, "twins", columns, sqlite_where=where, postgresql_where=where)
