"""Rows by the names of their twins, however many: one statement text, so that it is prepared once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    any_,
    bindparam,
    func,
    select,
    tuple_,
)


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


def among(
    connection: Connection, columns: tuple[Column[Any], ...], rows: Collection[tuple[Any, ...]]
) -> tuple[ColumnElement[bool], dict[str, Any]]:
    """The condition that *columns* together are one of *rows*, at least one, and its parameters.

    Given two rows or more as a list, SQLite looks at every entry of the index.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return _among(dialect, columns), {"rows": to_json(list(rows)).decode()}
    names = (column.name for column in columns)
    return _among(dialect, columns), dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


@lru_cache
def _among(dialect: str, columns: tuple[Column[Any], ...]) -> ColumnElement[bool]:
    if dialect == "sqlite":
        one = func.json_each(bindparam("rows", type_=String)).table_valued("value")
        rows = select(*(func.json_extract(one.c.value, f"$[{place}]") for place in range(len(columns))))
    else:
        arrays = (bindparam(column.name, type_=ARRAY(column.type)) for column in columns)
        names = (column.name for column in columns)
        rows = select(func.unnest(*arrays).table_valued(*names).render_derived())
    return tuple_(*columns).in_(rows)


@lru_cache
def _statement(dialect: str, table: Table, columns: tuple[str, ...], by: str) -> Select[Any]:
    chosen = select(*(table.c[name] for name in columns or table.c.keys()))
    if dialect == "sqlite":
        one = func.json_each(bindparam("names", type_=String)).table_valued("value")
        return chosen.where(table.c[by].in_(select(one.c.value)))
    return chosen.where(table.c[by] == any_(bindparam("names", type_=ARRAY(String))))
