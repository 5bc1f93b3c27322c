"""Rows by the names of their twins, however many: one statement text, so that it is prepared once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ARRAY, Connection, Row, Select, String, Table, any_, bindparam, func, select, tuple_

from adapters.sql.tables import events

_OF_AN_EVENT = ("twin", "source", "id")


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


def knowing(connection: Connection, wanted: Collection[tuple[str, str, str]]) -> set[str]:
    """Twins that have events of these names. *wanted*: (twin, source, id) each."""
    if connection.dialect.name == "sqlite":
        told: dict[str, Any] = {"told": to_json(list(wanted)).decode()}
    else:
        told = dict(zip(_OF_AN_EVENT, map(list, zip(*wanted, strict=True)), strict=True))
    return set(connection.execute(_known(connection.dialect.name), told).scalars())


@lru_cache
def _known(dialect: str) -> Select[Any]:
    names = (events.c.twin, events.c.source, events.c.id)
    if dialect == "sqlite":
        one = func.json_each(bindparam("told", type_=String)).table_valued("value")
        told = select(*(func.json_extract(one.c.value, f"$[{place}]") for place in range(len(names))))
    else:
        arrays = (bindparam(name, type_=ARRAY(String)) for name in _OF_AN_EVENT)
        told = select(func.unnest(*arrays).table_valued(*_OF_AN_EVENT).render_derived())
    return select(events.c.twin).where(tuple_(*names).in_(told)).distinct()


@lru_cache
def _statement(dialect: str, table: Table, columns: tuple[str, ...], by: str) -> Select[Any]:
    chosen = select(*(table.c[name] for name in columns or table.c.keys()))
    if dialect == "sqlite":
        one = func.json_each(bindparam("names", type_=String)).table_valued("value")
        return chosen.where(table.c[by].in_(select(one.c.value)))
    return chosen.where(table.c[by] == any_(bindparam("names", type_=ARRAY(String))))
