"""Rows by the names of their twins, however many: one statement text, so that it is prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ARRAY, Connection, Row, Select, String, Table, any_, bindparam, func, select


def named(
    connection: Connection, table: Table, names: Sequence[str], *columns: str, by: str = "twin"
) -> Sequence[Row[Any]]:
    """The *columns*, or all, of the rows whose column *by* is one of the names, in no order.

    A list of as many parameters would be spelled, and read by the database, anew for each length.
    """
    if not names:
        return []
    dialect = connection.dialect.name
    told = to_json(names).decode() if dialect == "sqlite" else list(names)
    return connection.execute(_statement(dialect, table, columns, by), {"names": told}).all()


@lru_cache
def _statement(dialect: str, table: Table, columns: tuple[str, ...], by: str) -> Select[Any]:
    chosen = select(*(table.c[name] for name in columns or table.c.keys()))
    if dialect == "sqlite":
        one = func.json_each(bindparam("names", type_=String)).table_valued("value")
        return chosen.where(table.c[by].in_(select(one.c.value)))
    return chosen.where(table.c[by] == any_(bindparam("names", type_=ARRAY(String))))
