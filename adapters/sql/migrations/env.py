"""Alembic's entry: the connection comes from the caller, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from adapters.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
