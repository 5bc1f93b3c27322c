"""What is asked for by name is found by its index, however much is stored."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Column, create_engine, select

from adapters.sql.named import among
from adapters.sql.store import listed
from adapters.sql.tables import events, metadata, postings
from canonical.identity import Kind
from twins.ports import TwinFilter


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ((events.c.twin, events.c.source, events.c.id), ("order/SO-1", "/oms", "1")),
        ((postings.c.key, postings.c.version), ("invoice/1", 1)),
    ],
    ids=["events", "postings"],
)
def test_many_rows_are_searched_for_and_not_scanned_for(
    columns: tuple[Column[Any], ...], row: tuple[Any, ...]
) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        condition, told = among(connection, columns, [row, row, row])
        asked = select(columns[0]).where(condition).compile(dialect=engine.dialect)
        values = asked.construct_params(told)
        found = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {asked}", tuple(values[name] for name in asked.positiontup or ())
        )
        steps = [step.detail for step in found]
    assert any(step.startswith(f"SEARCH {columns[0].table.name} ") for step in steps), steps
    engine.dispose()


LISTS = [
    TwinFilter(Kind.ORDER),
    TwinFilter(Kind.ORDER, after="order/SO-1"),
    TwinFilter(Kind.ORDER, status="held"),
    TwinFilter(Kind.ORDER, customer_id="C-1"),
    TwinFilter(Kind.ORDER, status="held", customer_id="C-1", after="order/SO-1"),
    TwinFilter(Kind.STOCK, sku="SKU-1"),
    TwinFilter(Kind.STOCK, sku="SKU-1", location="DC-01"),
    TwinFilter(Kind.STOCK, location="DC-01"),
    TwinFilter(Kind.SHIPMENT, finding=""),
    TwinFilter(Kind.SHIPMENT, finding="dispatch-missing", status="held"),
]


@pytest.mark.parametrize("wanted", LISTS, ids=str)
def test_a_page_of_a_list_is_a_range_of_an_index(wanted: TwinFilter) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        asked = listed(wanted, 51, "sqlite").compile(
            dialect=engine.dialect, compile_kwargs={"literal_binds": True}
        )
        (step,) = [step.detail for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}")]
    assert re.fullmatch(r"SEARCH twins USING .*\btwin>\? AND twin<\?\)", step), "neither scanned nor sorted"
    engine.dispose()


def test_of_two_filters_the_one_that_leaves_fewer_is_searched_for() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        for wanted, way in (
            (TwinFilter(Kind.STOCK, sku="SKU-1", location="DC-01"), "twins_by_sku"),
            (TwinFilter(Kind.STOCK, finding="", location="DC-01"), "twins_with_findings"),
            (TwinFilter(Kind.ORDER, status="held", customer_id="C-1"), "twins_by_customer"),
        ):
            page = listed(wanted, 51, "sqlite")
            asked = page.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
            (step,) = [one.detail for one in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}")]
            assert way in step
    engine.dispose()
